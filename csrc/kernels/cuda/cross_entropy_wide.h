// Cross-entropy of rows of many 16-bit logits, loss and gradient in one pass, labels not smoothed.
//
// Note [A wide row on the chip]
// A block holds a row, in registers as far as they go and in shared memory beyond, so that two
// blocks fit a multiprocessor: one computes while the other waits for memory. The maximum is found
// first, two logits an instruction, so that the walk which sums exponentials has nothing to
// correct.
#pragma once
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/max_sum.h"
#include "kernels/cuda/packs.h"

namespace vt::cuda {

struct alignas(16) Words {
  uint32_t w[4];
};

// As block_reduce, with one barrier; `parts` belongs to this call.
template <int kBlock, class Op>
__device__ __forceinline__ float reduce_once(float value, Op op, float identity, float* parts) {
  static_assert(kBlock / kWarp <= kWarp);
  value = warp_reduce(value, op);
  const int lane = threadIdx.x % kWarp;
  if (lane == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  return warp_reduce(lane < kBlock / kWarp ? parts[lane] : identity, op);
}

// See Note [A wide row on the chip]. A thread holds its first kHeld packs of 8 logits in registers.
// The row's other packs lie in dynamic shared memory. dlogits may be logits; grad_step is 0 where
// one number is the gradient of every row.
template <class T, int kBlock, int kHeld, int kBlocks>
__global__ void __launch_bounds__(kBlock, kBlocks)
    cross_entropy_wide_kernel(float* loss, T* dlogits, const float* grad, int64_t grad_step,
                              const T* logits, Labels<float> labels) {
  await_earlier();
  using P = Pairs<T>;
  constexpr int V = 8, kFirst = kHeld * kBlock;
  extern __shared__ __align__(16) char shared[];
  __shared__ float parts[2][kWarp];
  Words* const rest = reinterpret_cast<Words*>(shared);  // from pack kFirst on
  const int64_t number = blockIdx.x;
  const int packs = static_cast<int>(labels.classes / V), thread = threadIdx.x;
  logits += number * labels.classes;
  dlogits += number * labels.classes;
  const Words* const from = reinterpret_cast<const Words*>(logits);
  Words* const to = reinterpret_cast<Words*>(dlogits);
  for (int p = kFirst + thread; p < packs; p += kBlock)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<unsigned>(__cvta_generic_to_shared(rest + p - kFirst))),
                 "l"(from + p)
                 : "memory");
  Words held[kHeld];
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (const int p = k * kBlock + thread; p < packs) held[k] = from[p];
  const int64_t target = labels.counted(number, thread == 0);
  const float target_logit = target < 0 ? 0.f : convert<float>(logits[target]);

  uint32_t most = P::kLowest;
  auto see = [&](const Words& x) {
    most = P::larger(most, P::larger(P::larger(x.w[0], x.w[1]), P::larger(x.w[2], x.w[3])));
  };
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (k * kBlock + thread < packs) see(held[k]);
  asm volatile("cp.async.wait_all;" ::: "memory");
#pragma unroll 4
  for (int p = kFirst + thread; p < packs; p += kBlock) see(rest[p - kFirst]);
  const float2 both = P::unpack(most);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // A NaN shows in the sum.
  const float max = reduce_once<kBlock>(
      fmaxf(both.x, both.y), [](float a, float b) { return fmaxf(a, b); }, -kInfinity, parts[0]);

  float sums[2] = {0, 0};
  auto add = [&](const Words& x) {
#pragma unroll
    for (const uint32_t word : x.w) {
      const float2 pair = P::unpack(word);
      sums[0] += power_of_two((pair.x - max) * math::kLog2e);
      sums[1] += power_of_two((pair.y - max) * math::kLog2e);
    }
  };
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (k * kBlock + thread < packs) add(held[k]);
#pragma unroll 4
  for (int p = kFirst + thread; p < packs; p += kBlock) add(rest[p - kFirst]);
  const float sum = reduce_once<kBlock>(sums[0] + sums[1], AddOp{}, 0.f, parts[1]);
  // Of the logits less their maximum, as everything from here on.
  const float logsumexp = math::log(sum), centred = target_logit - max;
  if (thread == 0) loss[number] = target < 0 ? 0.f : labels.loss(logsumexp, centred, 0.f);

  const float scale = grad[number * grad_step], shift = -logsumexp * math::kLog2e;
  auto share = [&](float x) { return power_of_two(fmaf(x - max, math::kLog2e, shift)) * scale; };
  auto store = [&](const Words& x, int p) {
    Words result;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 pair = P::unpack(x.w[j]);
      result.w[j] = target < 0 ? 0 : P::pack(share(pair.x), share(pair.y));
    }
    to[p] = result;
  };
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (const int p = k * kBlock + thread; p < packs) store(held[k], p);
#pragma unroll 4
  for (int p = kFirst + thread; p < packs; p += kBlock) store(rest[p - kFirst], p);
  // By the thread that has just stored this pack.
  if (target >= 0 && target / V % kBlock == thread)
    dlogits[target] = convert<T>((row_exp<T>(centred - logsumexp) - 1.f) * scale);
}

}  // namespace vt::cuda
