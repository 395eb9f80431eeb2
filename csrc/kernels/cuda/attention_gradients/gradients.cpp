// Which problems go to the kernels made here, and what the kernels are told.
#include "kernels/cuda/attention_gradients/gradients.h"

#include "kernels/attention_sums.h"
#include "kernels/cuda/architecture.h"
#include "kernels/cuda/attention_gradients/launch.h"
#include "kernels/settings.h"

namespace vt::cuda {
namespace {

using namespace attention_gradients;

HeadedTensor gradient_of_out(const Attention& a) {
  HeadedTensor t = a.out;
  t.data = const_cast<void*>(a.dout);
  return t;
}

bool takes(const Attention& a) {
  constexpr int64_t kMost = 0x7fffffff;
  const int64_t tiles = ceil_div(std::max(a.queries, a.keys), kRowsOfItem);
  return is_half(a.dtype) && (a.width == 64 || a.width == 128) && a.batch * a.heads > 0 &&
         a.batch * a.heads <= 0xffff && a.batch * a.heads * tiles <= kMost / 2 &&
         a.queries <= kMost / 2 && a.keys <= kMost / 2 &&
         a.heads / a.kv_heads * ceil_div(a.queries, kRowsOfTile) <= kMost / 2 && has_map(a.q) &&
         has_map(a.k) && has_map(a.v) && has_map(gradient_of_out(a)) && has_map(a.out) &&
         has_map(a.dq) && has_map(a.dk) && has_map(a.dv) && has_wgmma(a.device.index);
}

// Memory for the sums of warps, where sums are wanted: for all three gradients.
class SumsOfWarps {
 public:
  SumsOfWarps(const Queue& queue, const Attention& a)
      : memory_(queue, wants_sums(a)
                           ? count(a, a.heads, a.queries) + 2 * count(a, a.kv_heads, a.keys)
                           : 0) {
    if (!wants_sums(a)) return;
    float* next = memory_.get();
    const auto add = [&](ColumnSums& to, void* out, int64_t heads, int64_t tokens) {
      to = {next, out, static_cast<int>(rows(a, tokens)), static_cast<int>(heads * a.width)};
      next += count(a, heads, tokens);
    };
    add(sums_.of[0], a.dq_sums, a.heads, a.queries);
    add(sums_.of[1], a.dk_sums, a.kv_heads, a.keys);
    add(sums_.of[2], a.dv_sums, a.kv_heads, a.keys);
  }
  // Of queries, keys or values; null where no sums are wanted.
  float* rows(int i) const { return const_cast<float*>(sums_.of[i].rows); }
  const Sums& all() const { return sums_; }

 private:
  static int64_t rows(const Attention& a, int64_t tokens) {
    return a.batch * ceil_div(tokens, kRowsOfItem) * kSumsOfItem;
  }
  static int64_t count(const Attention& a, int64_t heads, int64_t tokens) {
    return rows(a, tokens) * heads * a.width;
  }
  Scratch<float> memory_;
  Sums sums_{};
};

}  // namespace

bool can_make_gradients(const Attention& a) {
  constexpr int64_t kFewest = 256;  // tokens
  return a.queries >= kFewest && a.keys >= kFewest && takes(a);
}

// From times on an H200 (benchmarks/kernels/attention.py). Many tokens of wide heads are better off
// with cuDNN's five products even if these have an order: power bounds them. In any order those win
// without a mask, too.
bool gradients_pay(const Attention& a) {
  const bool few = a.width == 64 || a.keys <= (a.causal ? 2048 : 1024);
  return few && (a.causal || kernel_settings().cudnn_deterministic);
}

void gradients_of_attention(const Attention& a) {
  const Queue queue("attention_backward", a.device);
  const auto size = [](int64_t x) { return static_cast<int>(x); };
  const int64_t padded = ceil_div(a.queries, kRowsOfTile) * kRowsOfTile;
  const int64_t rows = a.batch * a.heads * padded;
  const Scratch<float> scratch(queue, 2 * rows);

  Job job{};
  job.shifts = scratch.get();
  job.deltas = scratch.get() + rows;
  job.padded = size(padded);
  job.stats = static_cast<const float*>(a.stats);
  job.out = a.out.data;
  job.batch_stride = a.out.batch_stride;
  job.head_stride = a.out.head_stride;
  job.token_stride = a.out.token_stride;
  job.heads = size(a.heads);
  job.kv_heads = size(a.kv_heads);
  job.queries = size(a.queries);
  job.keys = size(a.keys);
  job.causal = a.causal;
  job.scale = static_cast<float>(a.scale);
  job.factor = job.scale * 1.4426950408889634f;  // of powers of 2
  const auto set_order = [&](int64_t heads, int64_t tokens) {
    const int64_t all = a.batch * heads, tiles = ceil_div(tokens, kRowsOfItem);
    job.order = {size(all * tiles), size(tiles),
                 heads_of_group(queue.multiprocessors(), all, tiles)};
  };
  const auto of_queries = [&](const HeadedTensor& t) {
    return heads_map(t, a.dtype, a.batch, a.heads, a.queries, a.width);
  };
  const auto of_keys = [&](const HeadedTensor& t) {
    return heads_map(t, a.dtype, a.batch, a.kv_heads, a.keys, a.width);
  };
  const CUtensorMap q = of_queries(a.q), dout = of_queries(gradient_of_out(a)), k = of_keys(a.k),
                    v = of_keys(a.v), dq = of_queries(a.dq);
  SumsOfWarps sums(queue, a);
  set_order(a.heads, a.queries);
  job.sums[0] = sums.rows(0);
  launch_queries(queue, a.dtype, a.width, Maps{{q, dout}, {k, v}, {dq, dq}, of_queries(a.out)},
                 job);
  set_order(a.kv_heads, a.keys);
  job.sums[0] = sums.rows(1);
  job.sums[1] = sums.rows(2);
  launch_keys(queue, a.dtype, a.width, Maps{{k, v}, {q, dout}, {of_keys(a.dk), of_keys(a.dv)}, {}},
              job);
  if (wants_sums(a)) launch_sums(queue, a.dtype, sums.all());
}

}  // namespace vt::cuda
