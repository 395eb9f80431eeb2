// Fused attention below autograd: where it may run, and how its results lie in memory.
#include <algorithm>
#include <array>
#include <numeric>

#include "ops/composite/attention.h"
#include "ops/raw/dense.h"

namespace vt {
namespace {

// Kernels want features side by side, no element twice and, on a GPU, every step a multiple of 16
// bytes.
bool readable(const Tensor& t) {
  const int64_t unit = 16 / static_cast<int64_t>(t.item_size());
  if (t.sizes().back() != 1 && t.strides().back() != 1) return false;
  for (int i = 0; i < t.dim() - 1; ++i)
    if (t.sizes()[i] != 1 && t.strides()[i] == 0) return false;
  if (t.device().is_cpu()) return true;
  if (reinterpret_cast<uintptr_t>(t.data()) % 16 != 0) return false;
  for (int i = 0; i < t.dim() - 1; ++i)
    if (t.sizes()[i] != 1 && t.strides()[i] % unit != 0) return false;
  return true;
}
Tensor as_readable(const Tensor& t) { return readable(t) ? t : raw::clone(t); }

// Where the elements of a tensor lie, whether it exists yet or not.
struct Layout {
  Dims sizes, strides;
  int64_t offset = 0;
};

// t as it will be after as_readable.
Layout layout_when_read(const Tensor& t) {
  if (readable(t)) return {t.sizes(), t.strides(), t.offset()};
  return {t.sizes(), row_major_strides(t.sizes()), 0};
}

// [batch, heads, tokens, width] or [heads, tokens, width]. A dimension of one element gets a stride
// that does not depend on how the view was made.
HeadedTensor headed(const Layout& t, void* data) {
  const int d = t.sizes.size();
  const int64_t token = t.sizes[d - 2] == 1 ? t.sizes[d - 1] : t.strides[d - 2];
  const int64_t head = t.sizes[d - 3] == 1 ? token * t.sizes[d - 2] : t.strides[d - 3];
  const bool single = d < 4 || t.sizes[0] == 1;
  const int64_t batch =
      single ? std::max(head * t.sizes[d - 3], token * t.sizes[d - 2]) : t.strides[0];
  return {data, batch, head, token};
}
HeadedTensor headed(const Tensor& t) { return headed({t.sizes(), t.strides(), 0}, t.data()); }
bool same_strides(const HeadedTensor& a, const HeadedTensor& b) {
  return a.batch_stride == b.batch_stride && a.head_stride == b.head_stride &&
         a.token_stride == b.token_stride;
}

Attention problem(const Tensor& q, const Tensor& k, const Tensor& v, double scale, bool causal) {
  const int d = q.dim();
  Attention a{};
  a.device = q.device();
  a.dtype = q.dtype();
  a.batch = d < 4 ? 1 : q.sizes()[0];
  a.heads = q.sizes()[d - 3];
  a.kv_heads = k.sizes()[d - 3];
  a.queries = q.sizes()[d - 2];
  a.keys = k.sizes()[d - 2];
  a.width = q.sizes()[d - 1];
  a.scale = scale;
  a.causal = causal;
  a.q = headed(layout_when_read(q), q.data());
  a.k = headed(layout_when_read(k), k.data());
  a.v = headed(layout_when_read(v), v.data());
  return a;
}

// The dimensions in memory in the order that `strides` have them, without gaps.
Dims compact_strides(const Dims& sizes, const Dims& strides) {
  int order[kMaxDims];
  std::iota(order, order + sizes.size(), 0);
  std::stable_sort(order, order + sizes.size(),
                   [&](int a, int b) { return strides[a] < strides[b]; });
  Dims compact = sizes;
  int64_t step = 1;
  for (int i = 0; i < sizes.size(); ++i) {
    compact[order[i]] = step;
    step *= sizes[order[i]];
  }
  return compact;
}
Layout like(const Layout& t) { return {t.sizes, compact_strides(t.sizes, t.strides), 0}; }

// Is there neither a gap nor an overlap?
bool fills_a_block(const Dims& sizes, const Dims& strides) {
  const Dims compact = compact_strides(sizes, strides);
  for (int i = 0; i < sizes.size(); ++i)
    if (sizes[i] != 1 && strides[i] != compact[i]) return false;
  return true;
}

Tensor allocate(const Layout& t, const Tensor& like) {
  return view_of(empty(Dims{t.sizes.product()}, like.dtype(), like.device()), t.sizes, t.strides,
                 t.offset);
}

// The gradients of query, key and value, in one block of `together` elements or, where that is 0,
// in three.
struct GradientLayouts {
  Layout dq, dk, dv;
  int64_t together = 0;
};

// Where query, key and value are pieces of one block, as chunks of one projection are, so are their
// gradients: backward of the cut then has nothing to copy.
GradientLayouts gradient_layouts(const Tensor& query, const Tensor& key, const Tensor& value) {
  const Layout q = layout_when_read(query), k = layout_when_read(key), v = layout_when_read(value);
  const int heads = query.dim() - 3;
  const int64_t to_k = k.offset - q.offset, to_v = v.offset - q.offset;
  Dims sizes = q.sizes, strides = q.strides;
  bool block = false;
  if (query.impl()->storage == key.impl()->storage &&
      query.impl()->storage == value.impl()->storage && readable(query) && readable(key) &&
      readable(value) && q.strides == k.strides && q.strides == v.strides) {
    if (q.sizes[heads + 1] == k.sizes[heads + 1] && to_k == q.sizes[heads] * q.strides[heads] &&
        to_v == to_k + k.sizes[heads] * k.strides[heads]) {
      sizes[heads] += k.sizes[heads] + v.sizes[heads];
      block = fills_a_block(sizes, strides);
    } else if (to_k > 0 && to_v == 2 * to_k && q.sizes == k.sizes) {
      sizes.insert(0, 3);
      strides.insert(0, to_k);
      block = fills_a_block(sizes, strides);
    }
  }
  if (!block) return {like(q), like(k), like(v)};
  return {{q.sizes, q.strides, 0},
          {k.sizes, k.strides, to_k},
          {v.sizes, v.strides, to_v},
          sizes.product()};
}

// Three dimensions or four, one type, one device, and sizes that belong together.
bool matches(const Tensor& q, const Tensor& k, const Tensor& v) {
  if (!is_float(q.dtype()) || q.dim() < 3 || q.dim() > 4) return false;
  for (const Tensor* t : {&k, &v})
    if (t->dim() != q.dim() || t->dtype() != q.dtype() || t->device() != q.device() ||
        t->sizes().back() != q.sizes().back())
      return false;
  const int heads = q.dim() - 3;
  return k.sizes() == v.sizes() && q.numel() > 0 && k.numel() > 0 &&
         q.sizes()[heads] % k.sizes()[heads] == 0 && (heads == 0 || q.sizes()[0] == k.sizes()[0]);
}

}  // namespace

bool can_attend(const Tensor& query, const Tensor& key, const Tensor& value, double scale,
                bool causal, bool backward) {
  if (!matches(query, key, value)) return false;
  Attention a = problem(query, key, value, scale, causal);
  a.out = headed(like(layout_when_read(query)), nullptr);
  if (backward) {
    const GradientLayouts layouts = gradient_layouts(query, key, value);
    a.dq = headed(layouts.dq, nullptr);
    a.dk = headed(layouts.dk, nullptr);
    a.dv = headed(layouts.dv, nullptr);
  }
  bool answer = false;
  kernels(query.device()).can_attend(a, backward, &answer);
  return answer;
}

namespace raw {

std::tuple<Tensor, Tensor> attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                     double scale, bool causal) {
  VT_CHECK(query.dim() == 4 && matches(query, key, value), kRuntime,
           "attention: expected query, key and value [batch, heads, tokens, features] of one type, "
           "got ",
           query, ", ", key, " and ", value);
  const Tensor q = as_readable(query), k = as_readable(key), v = as_readable(value);
  const Tensor out = allocate(like(layout_when_read(q)), q);
  const Tensor stats = empty(Dims{q.sizes()[0], q.sizes()[1], q.sizes()[2]},
                             q.dtype() == DType::kF64 ? DType::kF64 : DType::kF32, q.device());
  Attention a = problem(q, k, v, scale, causal);
  a.out = headed(out);
  a.stats = stats.data();
  kernels(q.device()).attention(a);
  return {out, stats};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(const Tensor& grad_output,
                                                      const Tensor& query, const Tensor& key,
                                                      const Tensor& value, const Tensor& output,
                                                      const Tensor& stats, double scale,
                                                      bool causal) {
  const Tensor q = as_readable(query), k = as_readable(key), v = as_readable(value);
  Tensor dout = grad_output;
  if (!readable(dout) || !same_strides(headed(dout), headed(output))) {
    dout = allocate({output.sizes(), output.strides(), 0}, output);
    raw::copy_(dout, grad_output, false);
  }
  const GradientLayouts layouts = gradient_layouts(q, k, v);
  Tensor dq, dk, dv;
  if (layouts.together > 0) {
    const Tensor whole = empty(Dims{layouts.together}, q.dtype(), q.device());
    const auto window = [&](const Layout& t) {
      return view_of(whole, t.sizes, t.strides, t.offset);
    };
    dq = window(layouts.dq);
    dk = window(layouts.dk);
    dv = window(layouts.dv);
  } else {
    dq = allocate(layouts.dq, q);
    dk = allocate(layouts.dk, k);
    dv = allocate(layouts.dv, v);
  }
  Attention a = problem(q, k, v, scale, causal);
  a.out = headed(output);
  a.stats = stats.data();
  a.dout = dout.data();
  a.dq = headed(dq);
  a.dk = headed(dk);
  a.dv = headed(dv);
  kernels(q.device()).attention_backward(a);
  return {dq, dk, dv};
}

}  // namespace raw
}  // namespace vt
