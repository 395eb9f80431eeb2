// What both kernels of attention's gradients are told.
#pragma once
#include "kernels/cuda/attention_gradients/order.h"

namespace vt::cuda::attention_gradients {

// Note [Two kernels]
// With scores s = scale q k, weights p = exp(s - log of the sum of exp), gradients dp = dout v of
// weights and delta = the sum over features of out dout, gradients of scores are
// ds = p (dp - delta), and
//   dq = scale ds k,   dk = scale (ds turned) q,   dv = (p turned) dout.
// One kernel keeps rows of q and dout, first computes delta, and has k and v stream by: a group of
// four warps adds up dq of 64 queries. The other keeps k and v and has q and dout stream by. Scores
// are computed twice, seven products in place of five; but every sum stays in the registers of one
// group until it is done, in one order, and neither weights nor gradients of scores ever leave
// registers: what the tensor cores leave there of a product of 64 rows is how they want the left
// operand of the next.
struct Job {
  // [batch * heads, padded] each: logs of sums of exp, in base 2, and delta. Past the last query
  // these are infinity, which makes weights 0, and 0.
  float *shifts, *deltas;
  int padded;
  // What the kernel of queries makes them of: Attention::stats and its outputs.
  const float* stats;
  const void* out;
  int64_t batch_stride, head_stride, token_stride;  // of outputs
  int heads, kv_heads, queries, keys;
  bool causal;
  float scale, factor;  // factor: of scores in base 2
  Order order;
  // Sums of the columns of what is made, before it is rounded: [batch * tiles * kSumsOfItem,
  // heads * width], a row for each warp's rows of each item. Null: none are wanted.
  float* sums[2];
};
inline constexpr int kSumsOfItem = 8;

}  // namespace vt::cuda::attention_gradients
