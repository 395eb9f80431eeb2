// GELU with its slope, gated activations and rotary position embedding below autograd.
#include "ops/raw/dense.h"

namespace vt::raw {

std::tuple<Tensor, Tensor> gelu_kept(const Tensor& self) {
  Tensor out = raw::gelu(self, "tanh"), slope = raw::gelu_slope(self);
  // Between -0.13 and 1.13: of 16 bits, float16's round least.
  if (slope.dtype() == DType::kBF16) slope = raw::to_dtype(slope, DType::kF16);
  return {std::move(out), std::move(slope)};
}

namespace {

GateKind parse_activation(std::string_view name) {
  if (name == "silu") return GateKind::kSilu;
  if (name == "gelu") return GateKind::kGelu;
  VT_CHECK(name == "gelu_tanh", kValue, "gated: activation must be 'silu', 'gelu' or 'gelu_tanh', ",
           "got '", name, "'");
  return GateKind::kGeluTanh;
}

// The name under which users know it.
const char* op_of(std::string_view activation) { return activation == "silu" ? "swiglu" : "geglu"; }

// A matrix over the last dimension whose rows are evenly spaced: a view where t is that, else of a
// copy.
Tensor as_matrix(const Tensor& t) {
  const int64_t columns = t.sizes().back();
  const Dims shape{columns == 0 ? 0 : t.numel() / columns, columns};
  if (t.is_dense() || t.numel() == 0) return raw::view(dense(t), shape);
  bool even = t.strides().back() == 1 || columns == 1;
  int64_t expected = -1;  // stride of the next dimension outwards; -1: any
  int64_t pitch = columns;
  for (int d = t.dim() - 2; d >= 0; --d) {
    if (t.sizes()[d] == 1) continue;
    if (expected < 0) pitch = expected = t.strides()[d];
    even &= t.strides()[d] == expected;
    expected *= t.sizes()[d];
  }
  if (!even || pitch < columns) return raw::view(dense(t), shape);
  return view_of(t, shape, Dims{pitch, 1}, t.offset());
}

void check_pair(const char* op, const Tensor& gate, const Tensor& up) {
  check_float(op, gate);
  check_same_device(op, gate, up);
  VT_CHECK(gate.sizes() == up.sizes() && gate.dtype() == up.dtype(), kRuntime, op,
           ": expected gate and up of one shape and dtype, got ", gate, " and ", up);
}

// At least one dimension.
Tensor row(const Tensor& t) { return t.dim() == 0 ? raw::view(t, Dims{1}) : t; }

// The halves of a matrix [rows, 2 n].
Tensor half(const Tensor& matrix, int which) {
  const int64_t n = matrix.sizes()[1] / 2;
  return view_of(matrix, Dims{matrix.sizes()[0], n}, matrix.strides(), matrix.offset() + which * n);
}

void check_halves(const char* op, const Tensor& input) {
  check_float(op, input);
  VT_CHECK(input.dim() > 0 && input.sizes().back() % 2 == 0, kRuntime, op,
           ": expected a last dimension of even size to halve, got ", input);
}

}  // namespace

Tensor gated(const Tensor& gate, const Tensor& up, std::string_view activation) {
  const GateKind kind = parse_activation(activation);
  check_pair(op_of(activation), gate, up);
  Tensor out = empty(gate.sizes(), gate.dtype(), gate.device());
  if (out.numel() > 0)
    kernels(out.device())
        .gated(as_matrix(row(out)), as_matrix(row(gate)), as_matrix(row(up)), kind);
  return out;
}

std::tuple<Tensor, Tensor> gated_backward(const Tensor& grad_output, const Tensor& gate,
                                          const Tensor& up, std::string_view activation) {
  Tensor dgate = empty(gate.sizes(), gate.dtype(), gate.device()), dup = empty_like(dgate);
  if (dgate.numel() > 0)
    kernels(dgate.device())
        .gated_backward(as_matrix(row(dgate)), as_matrix(row(dup)), as_matrix(row(grad_output)),
                        as_matrix(row(gate)), as_matrix(row(up)), parse_activation(activation));
  return {dgate, dup};
}

Tensor gated_halves(const Tensor& input, std::string_view activation) {
  const GateKind kind = parse_activation(activation);
  check_halves(op_of(activation), input);
  Dims sizes = input.sizes();
  sizes[sizes.size() - 1] /= 2;
  Tensor out = empty(sizes, input.dtype(), input.device());
  if (out.numel() == 0) return out;
  const Tensor x = as_matrix(input);
  kernels(out.device()).gated(as_matrix(out), half(x, 0), half(x, 1), kind);
  return out;
}

Tensor gated_halves_backward(const Tensor& grad_output, const Tensor& input,
                             std::string_view activation) {
  Tensor dx = empty(input.sizes(), input.dtype(), input.device());
  if (dx.numel() == 0) return dx;
  const Tensor x = as_matrix(input), d = as_matrix(dx);
  kernels(dx.device())
      .gated_backward(half(d, 0), half(d, 1), as_matrix(grad_output), half(x, 0), half(x, 1),
                      parse_activation(activation));
  return dx;
}

Tensor rope_turned(const Tensor& input, int64_t token_dim, int64_t offset, double base,
                   bool interleaved, bool inverse) {
  check_float("rope", input);
  const int d = wrap_dim("rope", token_dim, input.dim());
  VT_CHECK(input.dim() >= 2 && d < input.dim() - 1, kRuntime,
           "rope: expected tokens in a dimension in front of the last, got seq_dim=", token_dim,
           " of ", input);
  VT_CHECK(input.sizes().back() % 2 == 0, kRuntime,
           "rope: expected an even number of features in the last dimension, got ", input);
  VT_CHECK(base > 0, kValue, "rope: base must be positive, got ", base);
  const Tensor x = input.strides().back() == 1 ? input : raw::clone(input);
  Tensor out = empty_in_order_of(x, x.dtype());
  if (out.strides().back() != 1) out = empty(x.sizes(), x.dtype(), x.device());
  if (x.numel() > 0) kernels(x.device()).rope(out, x, {d, offset, base, interleaved, inverse});
  return out;
}

}  // namespace vt::raw
