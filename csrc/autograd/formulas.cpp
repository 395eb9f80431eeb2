// Derivative formulas that are longer than a line of the table.
#include "autograd/formulas.h"

#include <algorithm>
#include <cmath>

#include "autograd/grad_mode.h"
#include "autograd/gradient_place.h"
#include "kernels/table.h"
#include "ops/ops.h"
#include "ops/raw/dense.h"
#include "ops/raw/linear.h"
#include "ops/raw/reduce.h"

namespace vt {

Tensor unbroadcast(const Tensor& grad, const TensorMeta& input) {
  Tensor result = grad;
  if (VT_UNLIKELY(!(grad.sizes() == input.sizes))) {
    const int extra = grad.dim() - input.sizes.size();
    Dims dims;
    for (int i = 0; i < grad.dim(); ++i)
      if (i < extra || (input.sizes[i - extra] == 1 && grad.sizes()[i] != 1)) dims.push_back(i);
    if (!dims.empty()) result = sum(result, dims, true, {});
    if (extra > 0) result = reshape(result, input.sizes);
  }
  if (VT_UNLIKELY(result.dtype() != input.dtype)) result = to_dtype(result, input.dtype);
  if (VT_UNLIKELY(result.device() != input.device)) result = to_device(result, input.device, false);
  return result;
}

Tensor scaled(const Tensor& grad, Scalar factor) {
  return factor.equals(1) ? grad : mul(grad, factor);
}

Tensor pow_backward_self(const Tensor& grad, const Tensor& self, const OperandValue& exponent) {
  if (!exponent.tensor.defined()) {
    const Scalar e = exponent.scalar;
    if (e.equals(0)) return zeros_like(grad, {}, {});
    const Scalar less = e.is_float() ? Scalar(e.to<double>() - 1) : Scalar(e.to<int64_t>() - 1);
    return mul(mul(grad, pow(self, less)), e);
  }
  const Tensor power = mul(grad, mul(exponent.tensor, pow(self, sub(exponent.tensor, 1, 1))));
  return where(raw::eq(exponent.tensor, Scalar(0)), Scalar(0.0), power);
}

Tensor pow_backward_exponent(const Tensor& grad, const Tensor& self, const Tensor& result) {
  return where(raw::eq(self, Scalar(0)), Scalar(0.0), mul(grad, mul(result, log(self))));
}

Tensor choice_share(const Tensor& chosen, const Tensor& other, bool largest) {
  const Tensor keeps = raw::logical_not(largest ? raw::lt(chosen, other) : raw::gt(chosen, other));
  const DType type = promote(chosen.dtype(), other.dtype());
  return raw::sub(raw::to_dtype(keeps, type), raw::to_dtype(raw::eq(chosen, other), type),
                  Scalar(0.5));
}

Tensor expand_reduced(const Tensor& grad, const TensorMeta& input, const std::optional<Dims>& dim,
                      bool keepdim) {
  Tensor result = grad;
  if (!keepdim) {
    const uint32_t dims = reduced_dims("sum", dim, input.sizes.size());
    result = reshape(result, reduced_sizes(input.sizes, dims, true));
  }
  result = expand(result, input.sizes);
  return result.dtype() == input.dtype ? result : to_dtype(result, input.dtype);
}

double reduced_count(const TensorMeta& input, const std::optional<Dims>& dim) {
  const uint32_t dims = reduced_dims("mean", dim, input.sizes.size());
  double count = 1;
  for (int i = 0; i < input.sizes.size(); ++i)
    if (dims >> i & 1) count *= static_cast<double>(input.sizes[i]);
  return count;
}

// The product of the others: the product over the element, except where a factor is zero.
Tensor prod_backward(const Tensor& grad, const Tensor& self) {
  const Tensor zero = raw::eq(self, Scalar(0));
  const Tensor zeros_in_all = raw::sum(zero, {}, false, {});
  const Tensor others = masked_fill(self, zero, Scalar(1));
  const Tensor at_the_only_zero =
      raw::to_dtype(raw::logical_and(zero, raw::eq(zeros_in_all, Scalar(1))), self.dtype());
  const Tensor share =
      where_tensors(raw::eq(zeros_in_all, Scalar(0)), reciprocal(others), at_the_only_zero);
  return mul(mul(to_dtype(grad, self.dtype()), prod(others, {})), share);
}

// At zero, where the norm has no slope, 0 as in torch.
Tensor norm_backward(const Tensor& grad, const Tensor& self, const Tensor& result) {
  return mul(self, masked_fill(true_divide(grad, result), raw::eq(result, Scalar(0)), Scalar(0)));
}

Tensor extremum_backward(const Tensor& grad, const Tensor& self, const Tensor& result,
                         const std::optional<Dims>& dim, bool keepdim) {
  // Equal extrema share the gradient evenly, as in torch.
  const TensorMeta meta(self);
  const uint32_t dims = reduced_dims("amax", dim, self.dim());
  const Tensor peak = raw::view(dense(result), reduced_sizes(self.sizes(), dims, true));
  const Tensor hits = raw::to_dtype(raw::eq(self, peak), self.dtype());
  const Tensor share = raw::true_divide(hits, raw::sum(hits, dim, true, {}));
  return mul(expand_reduced(grad, meta, dim, keepdim), share);
}

Tensor extremum_dim_backward(const Tensor& grad, const TensorMeta& input, const Tensor& indices,
                             int64_t dim, bool keepdim) {
  if (input.sizes.empty()) return reshape(grad, Dims{});
  const Tensor wide = keepdim ? grad : unsqueeze(grad, dim);
  return scatter_zeros(wide, input, dim, keepdim ? indices : raw::unsqueeze(indices, dim));
}

Tensor var_backward(const Tensor& grad, const Tensor& self, const std::optional<Dims>& dim,
                    Scalar correction, bool keepdim) {
  const TensorMeta meta(self);
  const double n = reduced_count(meta, dim);
  const Tensor centered = sub(self, mean(self, dim, true, {}), 1);
  return mul(expand_reduced(grad, meta, dim, keepdim),
             mul(centered, 2.0 / (n - correction.to<double>())));
}

Dims inverse_permutation(const Dims& dims) {
  Dims inverse = dims;
  for (int i = 0; i < dims.size(); ++i)
    inverse[static_cast<int>(dims[i] < 0 ? dims[i] + dims.size() : dims[i])] = i;
  return inverse;
}

namespace {

// A gradient that is zero outside one window.
template <class Window>
Tensor placed(const Tensor& grad, const TensorMeta& input, Window&& window) {
  Tensor whole = zeros(input.sizes, grad.dtype(), input.device);
  if (grad_enabled() && grad.requires_grad()) copy_(window(whole), grad, false);
  else kernels(input.device).copy(window(whole), grad);
  return whole;
}

}  // namespace

Tensor select_backward(const Tensor& grad, const TensorMeta& input, int64_t dim, int64_t index) {
  return placed(grad, input, [&](const Tensor& whole) { return select(whole, dim, index); });
}

Tensor slice_backward(const Tensor& grad, const TensorMeta& input, int64_t dim, int64_t start,
                      int64_t end, int64_t step) {
  return placed(grad, input,
                [&](const Tensor& whole) { return slice(whole, dim, start, end, step); });
}

namespace {

// Elements from the first to the last of a geometry.
int64_t extent_of(const Dims& sizes, const Dims& strides) {
  int64_t extent = 1;
  for (int i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return 0;
    extent += (sizes[i] - 1) * strides[i];
  }
  return extent;
}

// False if no two elements share memory. (True for some exotic geometries without overlap as well.)
bool may_overlap_itself(const Dims& sizes, const Dims& strides) {
  int order[kMaxDims];
  for (int i = 0; i < sizes.size(); ++i) order[i] = i;
  std::sort(order, order + sizes.size(), [&](int a, int b) { return strides[a] < strides[b]; });
  int64_t reach = 0;
  for (int i = 0; i < sizes.size(); ++i) {
    const int d = order[i];
    if (sizes[d] == 0) return false;
    if (sizes[d] == 1) continue;
    if (strides[d] <= reach) return true;
    reach += (sizes[d] - 1) * strides[d];
  }
  return false;
}

}  // namespace

// Gradients add up in a run of memory that holds both geometries; the input reads its own from
// there.
Tensor window_backward(const Tensor& grad, const TensorMeta& input, const Dims& size,
                       const Dims& stride, int64_t offset, const Dims& input_stride) {
  if (input.sizes.product() == 0) return zeros(input.sizes, grad.dtype(), input.device);
  const int64_t before = std::max<int64_t>(-offset, 0);  // elements in front of the input's first
  const int64_t length =
      before + std::max(extent_of(input.sizes, input_stride), offset + extent_of(size, stride));
  Tensor memory = zeros(Dims{length}, grad.dtype(), input.device);
  if (may_overlap_itself(size, stride)) {
    const Tensor positions = arange_end(Scalar(length), DType::kI64, input.device);
    const Tensor index = raw::clone(raw::window(positions, size, stride, before + offset, Dims{1}));
    memory = index_add(memory, 0, raw::view(index, Dims{-1}), reshape(grad, Dims{-1}));
  } else if (grad.numel() > 0) {
    const Tensor place = window(memory, size, stride, before + offset, Dims{1});
    if (grad_enabled() && grad.requires_grad()) copy_(place, grad, false);
    else kernels(input.device).copy(place, grad);
  }
  // Elements of an expanded input that share memory share its gradient evenly, as in torch.
  double copies = 1;
  Dims own = input.sizes;
  for (int i = 0; i < own.size(); ++i)
    if (input_stride[i] == 0) {
      copies *= static_cast<double>(own[i]);
      own[i] = 1;
    }
  VT_CHECK(!may_overlap_itself(own, input_stride), kNotImplemented,
           "as_strided: backward to a tensor of sizes ", input.sizes, " and strides ", input_stride,
           ", whose elements overlap, is not implemented; use contiguous()");
  return scaled(window(memory, input.sizes, input_stride, before, Dims{1}),
                copies == 1 ? Scalar(1) : Scalar(1 / copies));
}

std::vector<Tensor> cat_backward(const Tensor& grad, const std::vector<TensorMeta>& inputs,
                                 int64_t dim) {
  std::vector<Tensor> parts;
  int64_t at = 0;
  const int d = wrap_dim("cat", dim, grad.dim());
  for (const TensorMeta& input : inputs) {
    parts.push_back(to_dtype(slice(grad, d, at, at + input.sizes[d], 1), input.dtype));
    at += input.sizes[d];
  }
  return parts;
}

Tensor index_add_zeros(const Tensor& grad, const TensorMeta& input, int64_t dim,
                       const Tensor& index) {
  if (input.sizes.empty())
    return index_add(zeros(input.sizes, grad.dtype(), input.device), dim, index, grad);
  return index_sum(grad, dim, index,
                   input.sizes[wrap_dim("index_select", dim, input.sizes.size())]);
}

Tensor scatter_zeros(const Tensor& grad, const TensorMeta& input, int64_t dim,
                     const Tensor& index) {
  return scatter_add(zeros(input.sizes, grad.dtype(), input.device), dim, index, grad);
}

namespace {

Tensor transposed(const Tensor& t) { return transpose(t, -2, -1); }
Tensor as_rows(const Tensor& t) {
  return t.dim() == 2 ? t : reshape(t, Dims{-1, t.sizes().back()});
}

}  // namespace

std::array<Tensor, 2> matmul_backward(const Tensor& grad_in, const Tensor& self,
                                      const Tensor& other, std::array<bool, 2> needs) {
  std::array<Tensor, 2> out;
  if (self.dim() > 2 && other.dim() == 2) {  // a batch times one matrix: one product over all rows
    if (needs[0]) out[0] = matmul(grad_in, transposed(other));
    if (needs[1]) out[1] = matmul(transposed(as_rows(self)), as_rows(grad_in));
    return out;
  }
  const Tensor a = self.dim() == 1 ? unsqueeze(self, 0) : self;
  const Tensor b = other.dim() == 1 ? unsqueeze(other, 1) : other;
  Tensor grad = grad_in;
  if (other.dim() == 1) grad = unsqueeze(grad, -1);
  if (self.dim() == 1) grad = unsqueeze(grad, -2);
  if (needs[0]) {
    const Tensor whole = matmul(grad, transposed(b));
    out[0] = reshape(unbroadcast(whole, TensorMeta(a)), self.sizes());
  }
  if (needs[1]) {
    const Tensor whole = matmul(transposed(a), grad);
    out[1] = reshape(unbroadcast(whole, TensorMeta(b)), other.sizes());
  }
  return out;
}

std::array<Tensor, 3> linear_backward(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                      const TensorMeta& bias, std::array<bool, 3> needs) {
  std::array<Tensor, 3> out;
  const Tensor rows = input.dim() == 1 ? unsqueeze(grad, 0) : as_rows(grad);  // [N, out]
  if (needs[0]) {
    const Tensor flat = matmul(rows, weight);
    out[0] = flat.dim() == input.dim() ? flat : reshape(flat, input.sizes());
  }
  const Tensor seen = input.dim() == 1 ? unsqueeze(input, 0) : as_rows(input);
  if (grad_enabled()) {
    if (needs[1]) out[1] = matmul(transposed(rows), seen);
    if (needs[2]) out[2] = unbroadcast(rows, bias);
    return out;
  }
  bool adds = false;
  if (needs[1]) out[1] = gradient_output(1, weight.sizes(), grad.dtype(), grad.device(), &adds);
  if (needs[2]) out[2] = gradient_output(2, bias.sizes, grad.dtype(), grad.device());
  raw::linear_parameter_gradients(rows, seen, out[1], out[2], adds);
  return out;
}

std::array<Tensor, 2> softmax_double_backward(const Tensor& grad, const Tensor& grad_output,
                                              const Tensor& output, int64_t dim, bool log) {
  const Dims along{dim};
  if (log) {  // dx = g - exp(y) * sum(g)
    const Tensor probabilities = exp(output);
    const Tensor weighted = sum(mul(grad, probabilities), along, true, {});
    return {sub(grad, expand(weighted, grad.sizes()), 1),
            neg(mul(mul(grad, probabilities), sum(grad_output, along, true, {})))};
  }
  // dx = y * (g - sum(y * g))
  const Tensor inner = sum(mul(grad_output, output), along, true, {});
  const Tensor weighted = sum(mul(grad, output), along, true, {});
  return {mul(output, sub(grad, weighted, 1)),
          sub(mul(grad, sub(grad_output, inner, 1)), mul(grad_output, weighted), 1)};
}

bool any_requires_grad(const std::vector<Tensor>& tensors) {
  for (const Tensor& t : tensors)
    if (t.requires_grad()) return true;
  return false;
}

void fail_no_derivative(const char* op) {
  fail(ErrorKind::kNotImplemented, op,
       ": the derivative is not implemented; run it under no_grad() or on detached tensors");
}

}  // namespace vt
