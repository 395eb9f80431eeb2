// Matrix products: every rank combination becomes one strided batched gemm.
#include "ops/raw/dense.h"
#include "ops/raw/linear.h"

namespace vt::raw {
namespace {

// A matrix that gemm can read as it is: one of its two strides is 1.
Tensor readable(const Tensor& t) {
  const int d = t.dim();
  const int64_t rows = t.sizes()[d - 2], columns = t.sizes()[d - 1];
  const bool ok =
      (t.strides()[d - 1] == 1 || columns == 1) || (t.strides()[d - 2] == 1 || rows == 1);
  const bool no_broadcast =
      (t.strides()[d - 1] != 0 || columns == 1) && (t.strides()[d - 2] != 0 || rows == 1);
  return ok && no_broadcast ? t : raw::clone(t);
}

// A leading stride that a BLAS accepts even where the dimension has one element.
GemmMatrix matrix(const Tensor& t, int64_t batch_stride) {
  const int d = t.dim();
  int64_t rs = t.strides()[d - 2], cs = t.strides()[d - 1];
  const int64_t rows = t.sizes()[d - 2], columns = t.sizes()[d - 1];
  if (columns == 1 && rows == 1) rs = cs = 1;
  else if (columns == 1 && rs != 1) cs = 1;
  else if (columns == 1) cs = rows;
  else if (rows == 1 && cs == 1) rs = columns;
  else if (rows == 1) rs = 1;
  return {t.data(), rs, cs, batch_stride};
}

void check_product(const char* op, const Tensor& a, const Tensor& b) {
  check_same_device(op, a, b);
  VT_CHECK(a.dtype() == b.dtype(), kRuntime, op,
           ": expected both operands to have the same dtype, but got ", a, " and ", b,
           "; convert one with .to(dtype)");
  VT_CHECK(is_float(a.dtype()), kRuntime, op, ": not implemented for ", name(a.dtype()),
           "; convert with .float() first");
}

// The stride that walks all batch dimensions of t as one, or -1 where there is none.
int64_t batch_stride(const Tensor& t, const Dims& batch) {
  const int lead = t.dim() - 2;
  int64_t stride = 0, run = 1;
  bool started = false;
  for (int i = batch.size() - 1, own = lead - 1; i >= 0; --i, --own) {
    if (batch[i] == 1) continue;
    const int64_t s = own >= 0 && t.sizes()[own] != 1 ? t.strides()[own] : 0;
    if (!started) {
      stride = s;
      started = true;
    } else if (s != stride * run) {
      return -1;
    }
    run *= batch[i];
  }
  return stride;
}

Tensor batched(const Tensor& a_in, const Tensor& b_in) {
  Tensor a = readable(a_in), b = readable(b_in);
  const int64_t m = a.sizes()[a.dim() - 2], k = a.sizes().back(), n = b.sizes().back();
  Dims a_batch = a.sizes(), b_batch = b.sizes();
  for (Dims* dims : {&a_batch, &b_batch}) {
    dims->pop_back();
    dims->pop_back();
  }
  Dims batch = broadcast_sizes("matmul", a_batch, b_batch);
  Dims sizes = batch;
  sizes.push_back(m);
  sizes.push_back(n);
  Tensor out = empty(sizes, a.dtype(), a.device());
  if (out.numel() == 0) return out;
  if (k == 0) return raw::fill_(out, Scalar(0));
  int64_t a_stride = batch_stride(a, batch), b_stride = batch_stride(b, batch);
  const auto materialise = [&](const Tensor& t) {
    Dims full = batch;
    full.push_back(t.sizes()[t.dim() - 2]);
    full.push_back(t.sizes().back());
    return raw::clone(raw::expand(t, full));
  };
  if (a_stride < 0) {
    a = materialise(a);
    a_stride = m * k;
  }
  if (b_stride < 0) {
    b = materialise(b);
    b_stride = k * n;
  }
  kernels(a.device())
      .gemm(Gemm{a.device(), a.dtype(), m, n, k, batch.product(), matrix(a, a_stride),
                 matrix(b, b_stride), GemmMatrix{out.data(), n, 1, m * n}});
  return out;
}

// Leading dimensions of t that can be walked as rows of one matrix; `row_stride` becomes the step
// from row to row.
bool rows_collapse(const Tensor& t, int64_t* row_stride) {
  int64_t run = 1;
  *row_stride = t.sizes().back();
  for (int i = t.dim() - 2; i >= 0; --i) {
    if (t.sizes()[i] == 1) continue;
    if (run == 1) *row_stride = t.strides()[i];
    else if (t.strides()[i] != *row_stride * run) return false;
    run *= t.sizes()[i];
  }
  return true;
}

}  // namespace

Tensor matmul(const Tensor& self, const Tensor& other) {
  check_product("matmul", self, other);
  VT_CHECK(self.dim() > 0 && other.dim() > 0, kRuntime,
           "matmul: both arguments need to be at least 1D, but they are ", self, " and ", other);
  const int64_t k = self.sizes().back(),
                k_other = other.sizes()[other.dim() > 1 ? other.dim() - 2 : 0];
  VT_CHECK(k == k_other, kRuntime, "matmul: shapes ", self, " and ", other,
           " cannot be multiplied (", k, " vs ", k_other, ")");
  const bool row = self.dim() == 1, column = other.dim() == 1;
  int64_t row_stride = 0;
  if (!row && !column && self.dim() > 2 && other.dim() == 2 && self.numel() > 0 &&
      rows_collapse(self, &row_stride)) {
    // A batch times one matrix is one larger product.
    Dims sizes = self.sizes();
    sizes.back() = other.sizes().back();
    const Tensor flat = view_of(self, Dims{self.numel() / k, k},
                                Dims{row_stride, self.strides().back()}, self.offset());
    return raw::view(batched(flat, other), sizes);
  }
  Tensor out =
      batched(row ? raw::unsqueeze(self, 0) : self, column ? raw::unsqueeze(other, 1) : other);
  if (column) out = raw::squeeze_dim(out, -1);
  if (row) out = raw::squeeze_dim(out, column ? -1 : -2);
  return out;
}

namespace {

// input @ weight.T + bias, then the epilogue. `aux`, if not null, becomes what gelu is applied to.
Tensor linear_with(const char* op, const Tensor& input, const Tensor& weight, const Tensor& bias,
                   GemmEpilogue epilogue, Tensor* aux) {
  check_product(op, input, weight);
  VT_CHECK(weight.dim() == 2 && input.dim() > 0, kRuntime, op,
           ": expected input [..., in] and weight [out, in], got ", input, " and ", weight);
  const int64_t k = weight.sizes()[1], n = weight.sizes()[0];
  VT_CHECK(input.sizes().back() == k, kRuntime, op, ": input ", input, " and weight ", weight,
           " cannot be multiplied (", input.sizes().back(), " vs ", k, ")");
  if (bias.defined()) {
    check_product(op, input, bias);
    VT_CHECK(bias.dim() == 1 && bias.sizes()[0] == n, kRuntime, op, ": bias ", bias,
             " does not match weight ", weight);
  }
  const Tensor x = dense(input), w = readable(weight), b = dense(bias);
  Dims sizes = input.sizes();
  sizes.back() = n;
  Tensor out = empty(sizes, input.dtype(), input.device());
  if (aux) *aux = empty_like(out);
  if (out.numel() == 0) return out;
  if (k == 0) {
    raw::fill_(out, Scalar(0));
    if (b.defined()) raw::add_(out, b, Scalar(1));
    if (aux) raw::copy_(*aux, out, false);
    return epilogue == GemmEpilogue::kGelu ? raw::gelu(out, "tanh") : out;
  }
  Gemm gemm{.device = x.device(),
            .dtype = x.dtype(),
            .m = out.numel() / n,
            .n = n,
            .k = k,
            .batch = 1,
            .a = {x.data(), k, 1, 0},
            .b = {},
            .out = {out.data(), n, 1, 0}};
  const GemmMatrix stored = matrix(w, 0);
  gemm.b = {w.data(), stored.column_stride, stored.row_stride, 0};
  if (b.defined()) gemm.bias = b.data();
  gemm.epilogue = epilogue;
  if (aux) gemm.aux = {aux->data(), n, 1, 0};
  kernels(x.device()).gemm(gemm);
  return out;
}

}  // namespace

Tensor linear(const Tensor& input, const Tensor& weight, const Tensor& bias) {
  return linear_with("linear", input, weight, bias, GemmEpilogue::kNone, nullptr);
}

std::tuple<Tensor, Tensor> linear_gelu_rows(const Tensor& input, const Tensor& weight,
                                            const Tensor& bias, bool keep) {
  Tensor aux;
  Tensor out =
      linear_with("linear_gelu", input, weight, bias, GemmEpilogue::kGelu, keep ? &aux : nullptr);
  return {out, aux};
}

void linear_parameter_gradients(const Tensor& grad, const Tensor& rows, const Tensor& dweight,
                                const Tensor& dbias, bool add) {
  const Kernels& kernel = kernels(grad.device());
  // Products of float32 on a GPU give the sums with them; others do not gain by that.
  const bool with_product = grad.dtype() == DType::kF32 && grad.device().is_cuda() &&
                            dweight.defined() && dweight.numel() > 0 && grad.numel() > 0 &&
                            dbias.defined() && dbias.is_dense();
  if (!with_product && dbias.defined() && dbias.numel() > 0) {
    if (grad.numel() == 0) raw::fill_(dbias, Scalar(0));
    else kernel.reduce(dbias, grad, ReduceKind::kSum, 1u);
  }
  if (!dweight.defined() || dweight.numel() == 0) return;
  if (grad.numel() == 0) {
    if (!add) raw::fill_(dweight, Scalar(0));
    return;
  }
  const Tensor g = readable(grad), x = readable(rows);
  const GemmMatrix stored = matrix(g, 0);
  kernel.gemm(Gemm{.device = g.device(),
                   .dtype = g.dtype(),
                   .m = dweight.sizes()[0],
                   .n = dweight.sizes()[1],
                   .k = g.sizes()[0],
                   .batch = 1,
                   .a = {g.data(), stored.column_stride, stored.row_stride, 0},
                   .b = matrix(x, 0),
                   .out = {dweight.data(), dweight.sizes()[1], 1, 0},
                   .beta = add ? 1.0 : 0.0,
                   .row_sums = with_product ? dbias.data() : nullptr});
}

}  // namespace vt::raw
