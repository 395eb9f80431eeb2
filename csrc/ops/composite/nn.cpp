// Layers and losses made of other operators.
#include <limits>

#include "kernels/table.h"
#include "ops/ops.h"
#include "ops/raw/dense.h"

namespace vt {

Tensor mm(const Tensor& self, const Tensor& mat2) {
  VT_CHECK(self.dim() == 2 && mat2.dim() == 2, kRuntime, "mm: expected two matrices, got ", self,
           " and ", mat2);
  return matmul(self, mat2);
}

Tensor bmm(const Tensor& self, const Tensor& mat2) {
  VT_CHECK(self.dim() == 3 && mat2.dim() == 3 && self.sizes()[0] == mat2.sizes()[0], kRuntime,
           "bmm: expected two batches of matrices of one batch size, got ", self, " and ", mat2);
  return matmul(self, mat2);
}

Tensor addmm(const Tensor& self, const Tensor& mat1, const Tensor& mat2, Scalar beta,
             Scalar alpha) {
  const Tensor scaled = beta.equals(1) ? self : mul(self, beta);
  return add(scaled, mm(mat1, mat2), alpha);
}

Tensor dot(const Tensor& self, const Tensor& other) {
  VT_CHECK(self.dim() == 1 && other.dim() == 1, kRuntime, "dot: 1D tensors expected, got ", self,
           " and ", other);
  return matmul(self, other);
}

Tensor outer(const Tensor& self, const Tensor& vec2) {
  VT_CHECK(self.dim() == 1 && vec2.dim() == 1, kRuntime, "outer: 1D tensors expected, got ", self,
           " and ", vec2);
  return mul(unsqueeze(self, 1), vec2);
}

Tensor softmax(const Tensor& self, int64_t dim, std::optional<DType> dtype) {
  return softmax_kernel(dtype ? to_dtype(self, *dtype) : self, dim, false);
}

Tensor log_softmax(const Tensor& self, int64_t dim, std::optional<DType> dtype) {
  return softmax_kernel(dtype ? to_dtype(self, *dtype) : self, dim, true);
}

namespace {

enum class Reduction { kNone, kMean, kSum };

Reduction parse_reduction(const char* op, std::string_view text) {
  if (text == "mean") return Reduction::kMean;
  if (text == "sum") return Reduction::kSum;
  VT_CHECK(text == "none", kValue, op, ": '", text,
           "' is not a valid value for reduction; use 'mean', 'sum' or 'none'");
  return Reduction::kNone;
}

// Mean over the rows that count. The count stays on the device: no synchronisation.
Tensor reduce_rows(const Tensor& loss, const Tensor& target, int64_t ignore_index,
                   Reduction reduction) {
  if (reduction == Reduction::kNone) return loss;
  const Tensor total = sum(loss, {}, false, {});
  if (reduction == Reduction::kSum) return total;
  const Tensor count = raw::sum(raw::ne(target, Scalar(ignore_index)), {}, false, {});
  return true_divide(total, raw::to_dtype(count, loss.dtype()));
}

// Logits [N, C, d1, ...] as rows [N * d1 * ..., C].
Tensor class_rows(const Tensor& input) {
  if (input.dim() <= 2) return input;
  const int64_t classes = input.sizes()[1];
  return reshape(movedim(input, 1, -1), Dims{-1, classes});
}

}  // namespace

Tensor cross_entropy(const Tensor& input, const Tensor& target, int64_t ignore_index,
                     std::string_view reduction, double label_smoothing) {
  const Reduction kind = parse_reduction("cross_entropy", reduction);
  VT_CHECK(input.dim() >= 1 && input.dim() == target.dim() + 1, kRuntime,
           "cross_entropy: expected logits [N, C] or [N, C, ...] and class indices [N] or [N, "
           "...], got ",
           input, " and ", target);
  for (int i = 0; i < target.dim(); ++i)
    VT_CHECK(target.sizes()[i] == input.sizes()[i == 0 ? 0 : i + 1], kValue,
             "cross_entropy: expected input ", input, " to match target ", target,
             " in every dimension but the classes");
  const Tensor logits = input.dim() == 1 ? unsqueeze(input, 0) : class_rows(input);
  const Tensor labels = reshape(target, Dims{-1});
  // Loss and gradient in one pass where a backward pass may follow. Not for float16: a loss scale
  // that keeps small gradients would come too late. Not for logits of which there is no room for
  // two: those turn into their gradient when nobody else needs them, in the backward pass. While a
  // step is recorded that way is one pass, too, and freed logits could make the list end too early.
  constexpr size_t kRoomForTwo = size_t{1} << 30, kRoomInList = size_t{128} << 20;
  const bool recorded = g_stand_in[static_cast<int>(input.device().type)] != nullptr;
  const size_t room = recorded ? kRoomInList : kRoomForTwo;
  const bool gradient = logits.requires_grad();
  if (kind != Reduction::kNone &&
      !(gradient && (input.dtype() == DType::kF16 || logits.bytes() > room)))
    return cross_entropy_total(logits, labels, ignore_index, label_smoothing,
                               kind == Reduction::kMean, gradient);
  Tensor loss = cross_entropy_rows(logits, labels, ignore_index, label_smoothing);
  loss = reduce_rows(loss, labels, ignore_index, kind);
  if (kind == Reduction::kNone) loss = reshape(loss, target.sizes());
  return to_dtype(loss, input.dtype());
}

Tensor nll_loss(const Tensor& input, const Tensor& target, int64_t ignore_index,
                std::string_view reduction) {
  const Reduction kind = parse_reduction("nll_loss", reduction);
  VT_CHECK(input.dim() == 2 && target.dim() == 1 && input.sizes()[0] == target.sizes()[0], kValue,
           "nll_loss: expected log-probabilities [N, C] and class indices [N], got ", input,
           " and ", target);
  const Tensor counted = raw::ne(target, Scalar(ignore_index));
  const Tensor index =
      raw::mul(target, raw::to_dtype(counted, DType::kI64));  // an ignored row reads class 0
  const Tensor picked = squeeze_dim(gather(input, 1, unsqueeze(index, 1)), 1);
  const Tensor loss = neg(masked_fill(picked, raw::logical_not(counted), Scalar(0)));
  return reduce_rows(loss, target, ignore_index, kind);
}

Tensor mse_loss(const Tensor& input, const Tensor& target, std::string_view reduction) {
  const Reduction kind = parse_reduction("mse_loss", reduction);
  const Tensor loss = square(sub(input, target, 1));
  return kind == Reduction::kNone  ? loss
         : kind == Reduction::kSum ? sum(loss, {}, false, {})
                                   : mean(loss, {}, false, {});
}

namespace {

int64_t trailing_elements(const char* op, const Tensor& input, const Dims& shape) {
  bool matches = shape.size() >= 1 && shape.size() <= input.dim();
  for (int i = 0; matches && i < shape.size(); ++i)
    matches = shape[i] == input.sizes()[input.dim() - shape.size() + i];
  VT_CHECK(matches, kRuntime, op, ": given normalized_shape=", shape,
           ", expected input with shape [*, ", shape, "], but got input of size ", input.sizes());
  return shape.product();
}

// A 16-bit input may have float32 parameters, as in torch: its norm is computed in float32 then,
// and rounded at the end.
bool has_wide_parameters(const Tensor& input, const Tensor& weight, const Tensor& bias) {
  const auto wide = [](const Tensor& t) { return t.defined() && t.dtype() == DType::kF32; };
  return is_half(input.dtype()) && (wide(weight) || wide(bias));
}

}  // namespace

Tensor layer_norm(const Tensor& input, const Dims& shape, const Tensor& weight, const Tensor& bias,
                  double eps) {
  const int64_t n = trailing_elements("layer_norm", input, shape);
  if (!has_wide_parameters(input, weight, bias))
    return layer_norm_rows(input, weight, bias, n, eps);
  const Tensor wide = layer_norm_rows(to_dtype(input, DType::kF32), weight, bias, n, eps);
  return to_dtype(wide, input.dtype());
}

namespace {

// torch's default: the distance from 1 to the next number of the type that the arithmetic is done
// in.
double epsilon_of(const Tensor& input, std::optional<double> eps) {
  return eps.value_or(input.dtype() == DType::kF64 ? std::numeric_limits<double>::epsilon()
                                                   : std::numeric_limits<float>::epsilon());
}

}  // namespace

Tensor rms_norm(const Tensor& input, const Dims& shape, const Tensor& weight,
                std::optional<double> eps) {
  const int64_t n = trailing_elements("rms_norm", input, shape);
  const double epsilon = epsilon_of(input, eps);
  if (!has_wide_parameters(input, weight, Tensor()))
    return rms_norm_rows(input, weight, n, epsilon);
  return to_dtype(rms_norm_rows(to_dtype(input, DType::kF32), weight, n, epsilon), input.dtype());
}

static std::tuple<Tensor, Tensor> dropped_norm(const char* op, const Tensor& input,
                                               const Tensor& residual, const Tensor& weight,
                                               const Tensor& bias, int64_t n, double eps,
                                               bool centred, double p) {
  VT_CHECK(p >= 0 && p <= 1, kValue, op, ": dropout_p has to be between 0 and 1, but got ", p);
  if (p > 0 && p < 1)
    return dropout_add_norm_rows(input, residual, weight, bias, n, eps, centred, p);
  return add_norm_rows(p == 0 ? input : mul(input, Scalar(0)), residual, weight, bias, n, eps,
                       centred);
}

std::tuple<Tensor, Tensor> add_layer_norm(const Tensor& input, const Tensor& residual,
                                          const Dims& shape, const Tensor& weight,
                                          const Tensor& bias, double eps, double dropout_p) {
  return dropped_norm("add_layer_norm", input, residual, weight, bias,
                      trailing_elements("add_layer_norm", input, shape), eps, true, dropout_p);
}

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& input, const Tensor& residual,
                                        const Dims& shape, const Tensor& weight,
                                        std::optional<double> eps, double dropout_p) {
  return dropped_norm("add_rms_norm", input, residual, weight, Tensor(),
                      trailing_elements("add_rms_norm", input, shape), epsilon_of(input, eps),
                      false, dropout_p);
}

Tensor embedding(const Tensor& input, const Tensor& weight) {
  VT_CHECK(weight.dim() == 2, kRuntime, "embedding: 'weight' must be 2-D, got ", weight);
  VT_CHECK(input.dtype() == DType::kI64 || input.dtype() == DType::kI32, kRuntime,
           "embedding: expected indices of int64 or int32, got ", input);
  Dims sizes = input.sizes();
  sizes.push_back(weight.sizes()[1]);
  return reshape(index_select(weight, 0, reshape(input, Dims{-1})), sizes);
}

Tensor dropout(const Tensor& input, double p, bool training) {
  VT_CHECK(p >= 0 && p <= 1, kValue, "dropout: probability has to be between 0 and 1, but got ", p);
  if (!training || p == 0) return input;
  return p == 1 ? mul(input, Scalar(0)) : dropout_drawn(input, p);
}

Tensor where(const Tensor& condition, const Operand& self, const Operand& other) {
  DType dtype = DType::kF32;
  if (!self.is_tensor() && !other.is_tensor()) {
    dtype = self.scalar.is_float() || other.scalar.is_float() ? DType::kF32 : DType::kI64;
  } else if (!self.is_tensor() || !other.is_tensor()) {
    const Tensor& t = self.is_tensor() ? *self.tensor : *other.tensor;
    dtype = (self.is_tensor() ? other : self).scalar.promoted(t.dtype());
  }
  const auto tensor = [&](const Operand& o) {
    return o.is_tensor() ? *o.tensor : full(Dims{}, o.scalar, dtype, condition.device());
  };
  return where_tensors(condition, tensor(self), tensor(other));
}

Tensor div_(const Tensor& self, const Operand& other) { return true_divide_(self, other); }

Tensor div(const Tensor& self, const Operand& other, std::string_view rounding_mode) {
  if (rounding_mode.empty()) return true_divide(self, other);
  if (rounding_mode == "floor") return floor_divide(self, other);
  VT_CHECK(rounding_mode == "trunc", kRuntime,
           "div: expected rounding_mode to be one of None, 'trunc', 'floor' but found '",
           rounding_mode, "'");
  const Tensor floor = floor_divide(self, other);
  if (is_float(floor.dtype())) return trunc(true_divide(self, other));
  // Integers stay exact: a negative quotient that is not whole moves up by one.
  const Tensor inexact = raw::ne(raw::remainder(self, other), Scalar(0));
  return raw::add(
      floor, raw::to_dtype(raw::logical_and(raw::lt(floor, Scalar(0)), inexact), floor.dtype()),
      Scalar(1));
}

}  // namespace vt
