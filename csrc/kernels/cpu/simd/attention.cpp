// Fused attention of one head at a time: scores live in one row, forward and backward.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention_sums.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/math.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

// The rows of one head, in the compute type.
template <class T>
class Head {
 public:
  using C = compute_t<T>;
  Head(const HeadedTensor& t, int64_t batch, int64_t head, int64_t tokens, int64_t width)
      : data_(static_cast<T*>(t.data) + batch * t.batch_stride + head * t.head_stride),
        stride_(t.token_stride),
        tokens_(tokens),
        width_(width) {}

  T* row(int64_t token) const { return data_ + token * stride_; }
  // [tokens, width]
  std::vector<C> rows() const {
    std::vector<C> out(static_cast<size_t>(tokens_ * width_));
    for (int64_t t = 0; t < tokens_; ++t)
      for (int64_t d = 0; d < width_; ++d) out[t * width_ + d] = static_cast<C>(row(t)[d]);
    return out;
  }
  // [width, tokens]: a product with a row then runs along tokens.
  std::vector<C> columns() const {
    std::vector<C> out(static_cast<size_t>(tokens_ * width_));
    for (int64_t t = 0; t < tokens_; ++t)
      for (int64_t d = 0; d < width_; ++d) out[d * tokens_ + t] = static_cast<C>(row(t)[d]);
    return out;
  }
  void store(const std::vector<C>& rows) const {
    for (int64_t t = 0; t < tokens_; ++t)
      for (int64_t d = 0; d < width_; ++d) row(t)[d] = static_cast<T>(rows[t * width_ + d]);
  }

 private:
  T* data_;
  int64_t stride_, tokens_, width_;
};

// out[j] = sum over d of x[d] * columns[d, j] for j < count.
template <class T, class C>
void product(C* out, const T* x, const std::vector<C>& columns, int64_t width, int64_t tokens,
             int64_t count) {
  std::fill_n(out, count, C(0));
  for (int64_t d = 0; d < width; ++d) {
    const C factor = static_cast<C>(x[d]);
    const C* column = columns.data() + d * tokens;
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) out[j] += factor * column[j];
  }
}

// out[d] += factor * x[d].
template <class C>
void add_row(C* out, const C* x, C factor, int64_t n) {
#pragma GCC ivdep
  for (int64_t d = 0; d < n; ++d) out[d] += factor * x[d];
}

int64_t visible(const Attention& a, int64_t query) {
  return a.causal ? std::min(query + 1, a.keys) : a.keys;
}

template <class T>
void attend(const Attention& a, int64_t batch, int64_t head) {
  using C = compute_t<T>;
  const int64_t kv = head / (a.heads / a.kv_heads), width = a.width;
  const Head<T> q(a.q, batch, head, a.queries, width), out(a.out, batch, head, a.queries, width);
  const std::vector<C> k = Head<T>(a.k, batch, kv, a.keys, width).columns(),
                       v = Head<T>(a.v, batch, kv, a.keys, width).rows();
  C* stats = static_cast<C*>(a.stats) + (batch * a.heads + head) * a.queries;
  std::vector<C> p(static_cast<size_t>(a.keys)), sum(static_cast<size_t>(width));
  for (int64_t i = 0; i < a.queries; ++i) {
    const int64_t count = visible(a, i);
    product(p.data(), q.row(i), k, width, a.keys, count);
    C highest = -std::numeric_limits<C>::infinity(), total = 0;
    for (int64_t j = 0; j < count; ++j) {
      p[j] *= static_cast<C>(a.scale);
      highest = p[j] > highest || std::isnan(p[j]) ? p[j] : highest;
    }
    if (highest == -std::numeric_limits<C>::infinity()) {
      for (int64_t d = 0; d < width; ++d) out.row(i)[d] = T(0);
      stats[i] = -highest;
      continue;
    }
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) p[j] = math::exp(p[j] - highest);
    for (int64_t j = 0; j < count; ++j) total += p[j];
    std::fill(sum.begin(), sum.end(), C(0));
    for (int64_t j = 0; j < count; ++j) add_row(sum.data(), v.data() + j * width, p[j], width);
    for (int64_t d = 0; d < width; ++d) out.row(i)[d] = static_cast<T>(sum[d] / total);
    stats[i] = highest + std::log(total);
  }
}

// All query heads of one key head, in order: their shares of dk and dv add up here.
template <class T>
void attend_backward(const Attention& a, int64_t batch, int64_t kv) {
  using C = compute_t<T>;
  const int64_t width = a.width, group = a.heads / a.kv_heads;
  const Head<T> key(a.k, batch, kv, a.keys, width), value(a.v, batch, kv, a.keys, width);
  const std::vector<C> k = key.columns(), v = value.columns(), k_rows = key.rows();
  std::vector<C> dk(k.size(), C(0)), dv(k.size(), C(0));
  std::vector<C> p(static_cast<size_t>(a.keys)), dp(p.size()), dq(static_cast<size_t>(width));
  const HeadedTensor dout_heads{const_cast<void*>(a.dout), a.out.batch_stride, a.out.head_stride,
                                a.out.token_stride};
  for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
    const std::vector<C> q = Head<T>(a.q, batch, head, a.queries, width).rows(),
                         dout = Head<T>(dout_heads, batch, head, a.queries, width).rows();
    const Head<T> out(a.out, batch, head, a.queries, width),
        dq_rows(a.dq, batch, head, a.queries, width);
    const C* stats = static_cast<const C*>(a.stats) + (batch * a.heads + head) * a.queries;
    for (int64_t i = 0; i < a.queries; ++i) {
      const int64_t count = visible(a, i);
      const C *q_row = q.data() + i * width, *dout_row = dout.data() + i * width;
      product(p.data(), q_row, k, width, a.keys, count);
      product(dp.data(), dout_row, v, width, a.keys, count);
      C delta = 0;
      for (int64_t d = 0; d < width; ++d) delta += dout_row[d] * static_cast<C>(out.row(i)[d]);
      const C scale = static_cast<C>(a.scale), shift = stats[i];
#pragma GCC ivdep
      for (int64_t j = 0; j < count; ++j) p[j] = math::exp(p[j] * scale - shift);
#pragma GCC ivdep
      for (int64_t j = 0; j < count; ++j) dp[j] = p[j] * (dp[j] - delta) * scale;
      std::fill(dq.begin(), dq.end(), C(0));
      for (int64_t j = 0; j < count; ++j) {
        add_row(dq.data(), k_rows.data() + j * width, dp[j], width);
        add_row(dk.data() + j * width, q_row, dp[j], width);
        add_row(dv.data() + j * width, dout_row, p[j], width);
      }
      for (int64_t d = 0; d < width; ++d) dq_rows.row(i)[d] = static_cast<T>(dq[d]);
    }
  }
  Head<T>(a.dk, batch, kv, a.keys, width).store(dk);
  Head<T>(a.dv, batch, kv, a.keys, width).store(dv);
}

}  // namespace

// Longer sequences are faster as products of matrices.
void can_attend(const Attention& a, bool, bool* answer) { *answer = a.queries * a.keys <= 1024; }

void attention(const Attention& a) {
  visit_float("attention", a.dtype, [&]<class T>(TypeTag<T>) {
    parallel_for(a.batch * a.heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) attend<T>(a, i / a.heads, i % a.heads);
    });
  });
}

void attention_backward(const Attention& a) {
  visit_float("attention", a.dtype, [&]<class T>(TypeTag<T>) {
    parallel_for(a.batch * a.kv_heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) attend_backward<T>(a, i / a.kv_heads, i % a.kv_heads);
    });
  });
  sums_of_gradients(a, [](const Tensor& sums, const Tensor& heads) {
    reduce(sums, heads, ReduceKind::kSum, 3u);
  });
}

}  // namespace vt::cpu::VT_ISA
