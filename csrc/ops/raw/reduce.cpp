// Reductions below autograd: result types and shapes, then one kernel.
#include "ops/raw/reduce.h"

#include <limits>

#include "ops/raw/dense.h"

namespace vt {

uint32_t reduced_dims(const char* op, const std::optional<Dims>& dim, int ndim) {
  if (!dim || dim->empty()) return ndim == 0 ? 0 : (1u << ndim) - 1;
  uint32_t dims = 0;
  for (int64_t d : *dim) {
    const uint32_t bit = 1u << wrap_dim(op, d, ndim);
    VT_CHECK(!(dims & bit), kRuntime, op, ": dim ", d,
             " appears multiple times in the list of dims ", *dim);
    dims |= bit;
  }
  return ndim == 0 ? 0 : dims;
}

Dims reduced_sizes(const Dims& sizes, uint32_t dims, bool keepdim) {
  Dims result;
  for (int i = 0; i < sizes.size(); ++i) {
    if (!(dims >> i & 1)) result.push_back(sizes[i]);
    else if (keepdim) result.push_back(1);
  }
  return result;
}

namespace raw {
namespace {

Scalar of_nothing(ReduceKind kind) {
  switch (kind) {
    case ReduceKind::kProd:
    case ReduceKind::kAll: return Scalar(1);
    case ReduceKind::kMean: return Scalar(std::numeric_limits<double>::quiet_NaN());
    default: return Scalar(0);
  }
}

Tensor reduce(const char* op, const Tensor& self, const std::optional<Dims>& dim, bool keepdim,
              ReduceKind kind, DType out_type) {
  const uint32_t dims = reduced_dims(op, dim, self.dim());
  const Dims sizes = reduced_sizes(self.sizes(), dims, keepdim);
  if (kind == ReduceKind::kMax || kind == ReduceKind::kMin)
    for (int i = 0; i < self.dim(); ++i)
      VT_CHECK(!(dims >> i & 1) || self.sizes()[i] > 0, kIndex, op, ": expected reduction dim ", i,
               " to have non-zero size, got ", self);
  Tensor out = empty(sizes, out_type, self.device());
  if (out.numel() == 0) return out;
  if (self.numel() == 0) return raw::fill_(out, of_nothing(kind));
  kernels(self.device()).reduce(out, self, kind, dims);
  return out;
}

// any and all of uint8 are uint8 in torch.
Tensor truth(const Tensor& self, const Tensor& result) {
  return self.dtype() == DType::kU8 ? raw::to_dtype(result, DType::kU8) : result;
}

DType sum_type(DType t) { return is_float(t) ? t : DType::kI64; }

std::tuple<Tensor, Tensor> extremum(const char* op, const Tensor& self, int64_t dim, bool keepdim,
                                    bool largest) {
  const int d = wrap_dim(op, dim, self.dim());
  VT_CHECK(self.dim() == 0 || self.sizes()[d] > 0, kIndex, op, ": expected reduction dim ", d,
           " to have non-zero size, got ", self);
  const Dims sizes = reduced_sizes(self.sizes(), self.dim() == 0 ? 0 : 1u << d, keepdim);
  Tensor values = empty(sizes, self.dtype(), self.device()),
         indices = empty(sizes, DType::kI64, self.device());
  if (values.numel() > 0) {
    const Tensor x = dense(self);
    kernels(self.device())
        .extremum(values, indices, x.dim() == 0 ? raw::view(x, Dims{1}) : x, d, largest);
  }
  return {values, indices};
}

Tensor arg_extremum(const char* op, const Tensor& self, std::optional<int64_t> dim, bool keepdim,
                    bool largest) {
  if (dim) return std::get<1>(extremum(op, self, *dim, keepdim, largest));
  VT_CHECK(self.numel() > 0, kIndex, op, ": expected a tensor with at least one element, got ",
           self);
  const Tensor flat = raw::view(dense(self), Dims{self.numel()});
  Tensor index = std::get<1>(extremum(op, flat, 0, false, largest));
  return keepdim ? raw::view(index, Dims::filled(self.dim(), 1)) : index;
}

}  // namespace

Tensor sum(const Tensor& self, const std::optional<Dims>& dim, bool keepdim,
           std::optional<DType> dtype) {
  const Tensor x = dtype ? raw::to_dtype(self, *dtype) : self;
  return reduce("sum", x, dim, keepdim, ReduceKind::kSum, sum_type(x.dtype()));
}

Tensor mean(const Tensor& self, const std::optional<Dims>& dim, bool keepdim,
            std::optional<DType> dtype) {
  const Tensor x = dtype ? raw::to_dtype(self, *dtype) : self;
  VT_CHECK(is_float(x.dtype()), kRuntime,
           "mean: could not infer output dtype. Input dtype must be a floating point "
           "type, got ",
           x, "; convert with .float() first");
  return reduce("mean", x, dim, keepdim, ReduceKind::kMean, x.dtype());
}

Tensor prod(const Tensor& self, std::optional<DType> dtype) {
  const Tensor x = dtype ? raw::to_dtype(self, *dtype) : self;
  return reduce("prod", x, std::nullopt, false, ReduceKind::kProd, sum_type(x.dtype()));
}

Tensor amax(const Tensor& self, const std::optional<Dims>& dim, bool keepdim) {
  return reduce("amax", self, dim, keepdim, ReduceKind::kMax, self.dtype());
}
Tensor amin(const Tensor& self, const std::optional<Dims>& dim, bool keepdim) {
  return reduce("amin", self, dim, keepdim, ReduceKind::kMin, self.dtype());
}
Tensor any(const Tensor& self, const std::optional<Dims>& dim, bool keepdim) {
  return truth(self, reduce("any", self, dim, keepdim, ReduceKind::kAny, DType::kBool));
}
Tensor all(const Tensor& self, const std::optional<Dims>& dim, bool keepdim) {
  return truth(self, reduce("all", self, dim, keepdim, ReduceKind::kAll, DType::kBool));
}

std::tuple<Tensor, Tensor> max_dim(const Tensor& self, int64_t dim, bool keepdim) {
  return extremum("max", self, dim, keepdim, true);
}
std::tuple<Tensor, Tensor> min_dim(const Tensor& self, int64_t dim, bool keepdim) {
  return extremum("min", self, dim, keepdim, false);
}
Tensor argmax(const Tensor& self, std::optional<int64_t> dim, bool keepdim) {
  return arg_extremum("argmax", self, dim, keepdim, true);
}
Tensor argmin(const Tensor& self, std::optional<int64_t> dim, bool keepdim) {
  return arg_extremum("argmin", self, dim, keepdim, false);
}

Tensor var(const Tensor& self, const std::optional<Dims>& dim, Scalar correction, bool keepdim) {
  check_float("var", self);
  const uint32_t dims = reduced_dims("var", dim, self.dim());
  // The kernel works on rows: bring the reduced dimensions to the end.
  Dims order;
  int64_t n = 1;
  for (int i = 0; i < self.dim(); ++i)
    if (!(dims >> i & 1)) order.push_back(i);
  for (int i = 0; i < self.dim(); ++i)
    if (dims >> i & 1) {
      order.push_back(i);
      n *= self.sizes()[i];
    }
  const Dims sizes = reduced_sizes(self.sizes(), dims, keepdim);
  Tensor out = empty(sizes, self.dtype(), self.device());
  const int64_t rows = out.numel();
  if (rows == 0) return out;
  const Tensor x = raw::view(dense(raw::permute(self, order)), Dims{rows, n});
  const Tensor mean =
      empty(Dims{rows}, self.dtype() == DType::kF64 ? DType::kF64 : DType::kF32, self.device());
  kernels(self.device()).variance(raw::view(out, Dims{rows}), mean, x, correction.to<double>());
  return out;
}

Tensor cumsum(const Tensor& self, int64_t dim) {
  const int d = wrap_dim("cumsum", dim, self.dim());
  const Tensor x = dense(raw::to_dtype(self, sum_type(self.dtype())));
  if (x.dim() == 0) return raw::clone(x);
  Tensor out = empty_like(x);
  if (x.numel() > 0) kernels(x.device()).cumsum(out, x, d);
  return out;
}

std::tuple<Tensor, Tensor> sort(const Tensor& self, int64_t dim, bool descending) {
  const int d = wrap_dim("sort", dim, self.dim());
  if (self.dim() == 0) {
    Tensor index = empty(Dims{}, DType::kI64, self.device());
    raw::fill_(index, Scalar(0));
    return {raw::clone(self), index};
  }
  const int last = self.dim() - 1;
  const Tensor x = dense(raw::transpose(self, d, last));
  Tensor values = empty_like(x), indices = empty(x.sizes(), DType::kI64, x.device());
  if (x.numel() > 0) {
    const Dims rows{x.numel() / x.sizes().back(), x.sizes().back()};
    kernels(x.device())
        .sort(raw::view(values, rows), raw::view(indices, rows), raw::view(x, rows), descending);
  }
  return {dense(raw::transpose(values, d, last)), dense(raw::transpose(indices, d, last))};
}

std::tuple<Tensor, Tensor> topk(const Tensor& self, int64_t k, int64_t dim, bool largest) {
  constexpr int64_t kMost = 1024;  // of the kernel
  const int d = wrap_dim("topk", dim, self.dim());
  const int64_t n = self.dim() == 0 ? 1 : self.sizes()[d];
  VT_CHECK(k >= 0 && k <= n, kRuntime, "topk: selected index k (", k,
           ") out of range for dimension ", dim, " of size ", n);
  if (self.dim() == 0 || k > kMost) {
    auto [values, indices] = raw::sort(self, dim, largest);
    if (self.dim() == 0) return {values, indices};
    return {raw::slice(values, d, 0, k, 1), raw::slice(indices, d, 0, k, 1)};
  }
  const int last = self.dim() - 1;
  const Tensor x = dense(raw::transpose(self, d, last));
  Dims sizes = x.sizes();
  sizes.back() = k;
  Tensor values = empty(sizes, x.dtype(), x.device()),
         indices = empty(sizes, DType::kI64, x.device());
  if (values.numel() > 0) {
    const int64_t rows = x.numel() / n;
    kernels(x.device())
        .topk(raw::view(values, Dims{rows, k}), raw::view(indices, Dims{rows, k}),
              raw::view(x, Dims{rows, n}), largest);
  }
  return {dense(raw::transpose(values, d, last)), dense(raw::transpose(indices, d, last))};
}

Tensor sum_of_squares(const Tensor& self) {
  check_float("sum_of_squares", self);
  Tensor out =
      empty(Dims{}, self.dtype() == DType::kF64 ? DType::kF64 : DType::kF32, self.device());
  if (self.numel() == 0) return raw::fill_(out, Scalar(0.0));
  const Tensor x = dense(self);
  kernels(self.device()).sum_of_squares(out, raw::view(x, Dims{x.numel()}));
  return out;
}

Tensor norm(const Tensor& self) {
  check_float("norm", self);
  return raw::to_dtype(raw::sqrt(raw::sum_of_squares(self)), self.dtype());
}

}  // namespace raw
}  // namespace vt
