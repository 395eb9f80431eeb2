// The pieces that derivative formulas of the operator table are written with. All of them are
// differentiable: they call public operators only.
#pragma once
#include <array>
#include <optional>
#include <vector>

#include "autograd/saved.h"

namespace vt {

// Sums out what broadcasting added and converts to the input's type and device.
Tensor unbroadcast(const Tensor& grad, const TensorMeta& input);
// grad * factor, or grad itself for 1.
Tensor scaled(const Tensor& grad, Scalar factor);

Tensor pow_backward_self(const Tensor& grad, const Tensor& self, const OperandValue& exponent);
Tensor pow_backward_exponent(const Tensor& grad, const Tensor& self, const Tensor& result);
// 1 where `chosen` wins against `other` or either is NaN, a half where they are equal, else 0.
Tensor choice_share(const Tensor& chosen, const Tensor& other, bool largest);

// The gradient of a reduction in the shape of its input, as a view with stride 0.
Tensor expand_reduced(const Tensor& grad, const TensorMeta& input, const std::optional<Dims>& dim,
                      bool keepdim);
double reduced_count(const TensorMeta& input, const std::optional<Dims>& dim);
Tensor prod_backward(const Tensor& grad, const Tensor& self);
Tensor norm_backward(const Tensor& grad, const Tensor& self, const Tensor& result);
Tensor extremum_backward(const Tensor& grad, const Tensor& self, const Tensor& result,
                         const std::optional<Dims>& dim, bool keepdim);
Tensor extremum_dim_backward(const Tensor& grad, const TensorMeta& input, const Tensor& indices,
                             int64_t dim, bool keepdim);
Tensor var_backward(const Tensor& grad, const Tensor& self, const std::optional<Dims>& dim,
                    Scalar correction, bool keepdim);

Dims inverse_permutation(const Dims& dims);
Tensor select_backward(const Tensor& grad, const TensorMeta& input, int64_t dim, int64_t index);
Tensor slice_backward(const Tensor& grad, const TensorMeta& input, int64_t dim, int64_t start,
                      int64_t end, int64_t step);
Tensor window_backward(const Tensor& grad, const TensorMeta& input, const Dims& size,
                       const Dims& stride, int64_t offset, const Dims& input_stride);
std::vector<Tensor> cat_backward(const Tensor& grad, const std::vector<TensorMeta>& inputs,
                                 int64_t dim);
Tensor index_add_zeros(const Tensor& grad, const TensorMeta& input, int64_t dim,
                       const Tensor& index);
Tensor scatter_zeros(const Tensor& grad, const TensorMeta& input, int64_t dim, const Tensor& index);

std::array<Tensor, 2> matmul_backward(const Tensor& grad, const Tensor& self, const Tensor& other,
                                      std::array<bool, 2> needs);
std::array<Tensor, 3> linear_backward(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                      const TensorMeta& bias, std::array<bool, 3> needs);
// Is gelu(input) to make its slope for backward at once? Note [GELU's slope on the way forward].
bool keeps_slope(const Tensor& input, std::string_view approximate);
std::array<Tensor, 3> linear_gelu_backward(const Tensor& grad, const Tensor& input,
                                           const Tensor& weight, const Tensor& bias,
                                           const Tensor& pre, std::array<bool, 3> needs);
std::array<Tensor, 2> softmax_double_backward(const Tensor& grad, const Tensor& grad_output,
                                              const Tensor& output, int64_t dim, bool log);
std::array<Tensor, 3> layer_norm_backward(const Tensor& grad, const Tensor& input,
                                          const Tensor& weight, const Tensor& bias,
                                          const Tensor& mean, const Tensor& rstd,
                                          std::array<bool, 3> needs);
std::array<Tensor, 2> rms_norm_backward(const Tensor& grad, const Tensor& input,
                                        const Tensor& weight, const Tensor& rstd,
                                        std::array<bool, 2> needs);
// grad is that of the norm, sum_grad that of the sum; either may be undefined.
std::array<Tensor, 4> add_norm_backward(const Tensor& grad, const Tensor& sum_grad,
                                        const Tensor& sum, const Tensor& weight, const Tensor& bias,
                                        const Tensor& mean, const Tensor& rstd,
                                        std::array<bool, 4> needs);
// The same where the input was dropped from first; begun is dropout's.
std::array<Tensor, 4> dropout_add_norm_backward(const Tensor& grad, const Tensor& sum_grad,
                                                const Tensor& sum, const Tensor& weight,
                                                const Tensor& bias, const Tensor& mean,
                                                const Tensor& rstd, const Tensor& begun, double p,
                                                std::array<bool, 4> needs);
// gradient is that of the logits for a gradient 1 of the loss; it becomes the result if the graph
// is not kept.
Tensor cross_entropy_gradient(const Tensor& grad, const Tensor& gradient);
// Logits that nobody else holds become their gradient, if the graph is not kept.
Tensor cross_entropy_rows_gradient(const Tensor& grad, const Tensor& logits, const Tensor& target,
                                   const Tensor& logsumexp, int64_t ignore_index,
                                   double label_smoothing);
std::array<Tensor, 2> gated_gradients(const Tensor& grad, const Tensor& gate, const Tensor& up,
                                      std::string_view activation);
Tensor gated_halves_gradient(const Tensor& grad, const Tensor& input, std::string_view activation);

std::array<Tensor, 3> attention_gradients(const Tensor& grad, const Tensor& query,
                                          const Tensor& key, const Tensor& value,
                                          const Tensor& output, const Tensor& stats, double scale,
                                          bool causal);

bool any_requires_grad(const std::vector<Tensor>& tensors);
[[noreturn]] void fail_no_derivative(const char* op);

}  // namespace vt
