// Building elementwise plans.
#include "iter/elementwise.h"

#include <numeric>

namespace vt {
namespace {

// Orders dimensions so that the output's smallest stride is innermost, then merges neighbours that
// form one run.
void sort_and_merge(ElementwisePlan& plan) {
  for (int i = 1; i < plan.ndim; ++i)
    for (int j = i; j > 0 && plan.strides[0][j] < plan.strides[0][j - 1]; --j) {
      std::swap(plan.sizes[j], plan.sizes[j - 1]);
      for (int k = 0; k < plan.operands; ++k) std::swap(plan.strides[k][j], plan.strides[k][j - 1]);
    }
  int last = 0;
  for (int i = 1; i < plan.ndim; ++i) {
    bool mergeable = true;
    for (int k = 0; k < plan.operands; ++k)
      mergeable &= plan.strides[k][i] == plan.strides[k][last] * plan.sizes[last];
    if (mergeable) {
      plan.sizes[last] *= plan.sizes[i];
      continue;
    }
    ++last;
    plan.sizes[last] = plan.sizes[i];
    for (int k = 0; k < plan.operands; ++k) plan.strides[k][last] = plan.strides[k][i];
  }
  plan.ndim = plan.ndim == 0 ? 0 : last + 1;
}

}  // namespace

ElementwisePlan plan_elementwise(const Tensor& out, std::span<const Tensor* const> inputs) {
  ElementwisePlan plan;
  plan.device = out.device();
  plan.operands = static_cast<int>(inputs.size()) + 1;
  plan.numel = out.numel();
  plan.data[0] = out.data<char>();
  bool dense = out.is_dense();
  for (size_t i = 0; i < inputs.size(); ++i) {
    plan.data[i + 1] = inputs[i]->data<char>();
    dense = dense && inputs[i]->is_dense() && inputs[i]->sizes() == out.sizes();
  }
  plan.dense = dense;
  if (dense) return plan;

  const Dims& sizes = out.sizes();
  plan.ndim = 0;
  for (int d = sizes.size() - 1; d >= 0; --d) {
    if (sizes[d] == 1) continue;
    plan.sizes[plan.ndim] = sizes[d];
    for (int k = 0; k < plan.operands; ++k) {
      const Tensor& t = k == 0 ? out : *inputs[k - 1];
      const int own = d - (sizes.size() - t.dim());
      const bool broadcast = own < 0 || t.sizes()[own] == 1;
      plan.strides[k][plan.ndim] =
          broadcast ? 0 : t.strides()[own] * static_cast<int64_t>(t.item_size());
    }
    ++plan.ndim;
  }
  sort_and_merge(plan);
  if (plan.ndim == 0) {  // a single element
    plan.ndim = 1;
    plan.sizes[0] = plan.numel;
    for (int k = 0; k < plan.operands; ++k) plan.strides[k][0] = 0;
  }
  return plan;
}

Dims broadcast_sizes(const char* op, const Dims& a, const Dims& b) {
  const Dims& longer = a.size() >= b.size() ? a : b;
  const Dims& shorter = a.size() >= b.size() ? b : a;
  Dims result = longer;
  const int shift = longer.size() - shorter.size();
  for (int i = 0; i < shorter.size(); ++i) {
    const int64_t l = longer[i + shift], s = shorter[i];
    if (l == s || s == 1) continue;
    VT_CHECK(l == 1, kRuntime, op, ": shapes ", a, " and ", b, " do not broadcast at dim ",
             i + shift, " (", l, " vs ", s, ")");
    result[i + shift] = s;
  }
  return result;
}

Dims broadcast_shapes(const char* op, const Tensor& a, const Tensor& b) {
  if (VT_LIKELY(a.sizes() == b.sizes())) return a.sizes();
  try {
    return broadcast_sizes(op, a.sizes(), b.sizes());
  } catch (const Error& error) {
    fail(error.kind(), error.what(), "; operands are ", a, " and ", b);
  }
}

void check_writable(const char* op, const Tensor& out) {
  if (VT_LIKELY(out.is_dense())) return;
  for (int i = 0; i < out.dim(); ++i)
    VT_CHECK(out.strides()[i] != 0 || out.sizes()[i] <= 1, kRuntime, op,
             ": unsupported operation: more than one element of the written-to tensor ", out,
             " with strides ", out.strides(),
             " refers to a single memory location; clone() it first");
}

bool overlaps_partially(const Tensor& out, const Tensor& input) {
  if (out.impl()->storage.get() != input.impl()->storage.get() || out.numel() == 0 ||
      input.numel() == 0)
    return false;
  if (out.data() == input.data() && out.strides() == input.strides() &&
      out.sizes() == input.sizes())
    return false;
  auto extent = [](const Tensor& t) {
    int64_t last = 0;
    for (int i = 0; i < t.dim(); ++i) last += (t.sizes()[i] - 1) * t.strides()[i];
    return std::pair{t.data<char>(),
                     t.data<char>() + (last + 1) * static_cast<int64_t>(t.item_size())};
  };
  const auto [a, a_end] = extent(out);
  const auto [b, b_end] = extent(input);
  return a < b_end && b < a_end;
}

}  // namespace vt
