// Rotary position embedding: pairs of features turned by an angle that grows with the position.
//
// A thread computes the sines of its pairs at one position and turns these pairs in several heads
// with them. Angles are reduced to one turn in double: they stay exact at any position.
#include <cmath>

#include "kernels/cuda/packs.h"
#include "kernels/cuda/walk.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

struct RopeShape {
  uint32_t units;         // threads along the tokens: tokens * units a token
  FastDivisor per_token;  // units a token
  uint32_t heads, heads_together;
  int half;                  // pairs of a head
  int64_t x_step, out_step;  // from token to token
  double offset;             // the first position
  double log2_ratio;         // pair i turns by 2^(i * log2_ratio) radians a position
  double ratio;              // 2^log2_ratio
  double sign;
};

// kPairs pairs a thread. Features i and i + half make a pair, or 2i and 2i + 1 where kInterleaved.
template <class T, int kPairs, bool kInterleaved>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(T* out, const T* x, RopeShape shape, WalkMap x_heads, WalkMap out_heads) {
  await_earlier();
  using C = compute_t<T>;
  const uint32_t unit = blockIdx.x * kThreads + threadIdx.x;
  if (unit >= shape.units) return;
  const uint32_t token = shape.per_token.divide(unit);
  const int pair = static_cast<int>(unit - token * shape.per_token.divisor) * kPairs;
  constexpr int V = kInterleaved ? 2 * kPairs : kPairs;
  constexpr bool kLoose = kInterleaved && kPairs == 1;  // pairs may lie at any element
  const int64_t first = kInterleaved ? 2 * pair : pair;
  const int64_t from = token * shape.x_step + first, to = token * shape.out_step + first;
  const uint32_t begin = blockIdx.y * shape.heads_together;
  const uint32_t end = min(begin + shape.heads_together, shape.heads);
  // A head's features are on their way while sines, or those of the head before, are computed.
  Pack<T, V> next[2];
  auto load = [&](uint32_t head) {
    const T* source = x + from + x_heads.at(head);
    if constexpr (kLoose) {
      next[0].v[0] = source[0];
      next[0].v[1] = source[1];
    } else {
      next[0] = *reinterpret_cast<const Pack<T, V>*>(source);
      if constexpr (!kInterleaved)
        next[1] = *reinterpret_cast<const Pack<T, V>*>(source + shape.half);
    }
  };
  load(begin);

  C cosine[kPairs], sine[kPairs];
  constexpr double kTurnsOfRadian = 0.15915494309189533577;
  double turns = (token + shape.offset) * kTurnsOfRadian * exp2(pair * shape.log2_ratio);
#pragma unroll
  for (int j = 0; j < kPairs; ++j, turns *= shape.ratio) {
    const double rest = turns - rint(turns);
    C s;
    if constexpr (sizeof(C) == 8) sincospi(2 * rest, &s, &cosine[j]);
    else sincospif(static_cast<float>(2 * rest), &s, &cosine[j]);
    sine[j] = s * static_cast<C>(shape.sign);
  }
#pragma unroll 2
  for (uint32_t head = begin; head < end; ++head) {
    T* target = out + to + out_heads.at(head);
    const Pack<C, V> a = widen<C>(next[0]), b = widen<C>(next[1]);
    if (head + 1 < end) load(head + 1);
    if constexpr (kInterleaved) {
      Pack<C, V> turned;
#pragma unroll
      for (int j = 0; j < kPairs; ++j) {
        const C u = a.v[2 * j], v = a.v[2 * j + 1];
        turned.v[2 * j] = u * cosine[j] - v * sine[j];
        turned.v[2 * j + 1] = v * cosine[j] + u * sine[j];
      }
      const Pack<T, V> result = narrow<T>(turned);
      if constexpr (kLoose) {
        target[0] = result.v[0];
        target[1] = result.v[1];
      } else {
        *reinterpret_cast<Pack<T, V>*>(target) = result;
      }
    } else {
      Pack<C, V> low, high;
#pragma unroll
      for (int j = 0; j < kPairs; ++j) {
        low.v[j] = a.v[j] * cosine[j] - b.v[j] * sine[j];
        high.v[j] = b.v[j] * cosine[j] + a.v[j] * sine[j];
      }
      *reinterpret_cast<Pack<T, V>*>(target) = narrow<T>(low);
      *reinterpret_cast<Pack<T, V>*>(target + shape.half) = narrow<T>(high);
    }
  }
}

// Every dimension but the tokens and the features.
Walk heads_of(const Tensor& t, int token_dim) {
  Walk walk;
  for (int d = t.dim() - 2; d >= 0; --d)
    if (d != token_dim) walk.add(t.sizes()[d], t.strides()[d]);
  return walk;
}

bool packs_fit(const Tensor& t, int64_t vector) {
  bool fit = is_aligned(t.data(), 16);
  for (int d = 0; d < t.dim() - 1; ++d) fit &= t.sizes()[d] == 1 || t.strides()[d] % vector == 0;
  return fit;
}

}  // namespace

void rope(const Tensor& out, const Tensor& x, const RopeConfig& config) {
  const int64_t tokens = x.sizes()[config.token_dim], features = x.sizes().back();
  const Walk x_heads = heads_of(x, config.token_dim), out_heads = heads_of(out, config.token_dim);
  const Queue queue("rope", x.device());
  visit_float("rope", x.dtype(), [&]<class T>(TypeTag<T>) {
    constexpr int V = 16 / sizeof(T);
    auto run = [&]<int kPairs, bool kInterleaved>() {
      const int64_t per_token = features / 2 / kPairs, units = tokens * per_token;
      VT_CHECK(units < std::numeric_limits<int32_t>::max(), kRuntime,
               "rope: too many tokens for one call: ", x);
      // Enough threads to fill the GPU; beyond that, each does up to 8 heads with its sines, and
      // two where half of the threads are enough to keep it busy: the sines cost more than the
      // bytes.
      const int64_t all = x_heads.count * units, full = int64_t{queue.multiprocessors()} * 2048;
      const int64_t together =
          std::min(std::clamp<int64_t>(all / full, all * 4 > full ? 2 : 1, 8), x_heads.count);
      RopeShape shape{};
      shape.units = static_cast<uint32_t>(units);
      shape.per_token = FastDivisor(static_cast<uint32_t>(per_token));
      shape.heads = static_cast<uint32_t>(x_heads.count);
      shape.heads_together =
          static_cast<uint32_t>(std::max(together, ceil_div(x_heads.count, 65535)));
      shape.half = static_cast<int>(features / 2);
      shape.x_step = x.strides()[config.token_dim];
      shape.out_step = out.strides()[config.token_dim];
      shape.offset = static_cast<double>(config.offset);
      shape.log2_ratio = std::log2(config.base) * -2 / static_cast<double>(features);
      shape.ratio = std::exp2(shape.log2_ratio);
      shape.sign = config.inverse ? -1 : 1;
      const dim3 grid(static_cast<unsigned>(ceil_div(units, kThreads)),
                      static_cast<unsigned>(ceil_div(shape.heads, shape.heads_together)));
      queue.launch_early(&rope_kernel<T, kPairs, kInterleaved>, grid, kThreads, out.data<T>(),
                         x.data<T>(), shape, WalkMap(x_heads), WalkMap(out_heads));
    };
    const bool packed = packs_fit(x, V) && packs_fit(out, V);
    if (config.interleaved) {
      if (packed && features % V == 0) run.template operator()<V / 2, true>();
      else run.template operator()<1, true>();
    } else {
      if (packed && features / 2 % V == 0) run.template operator()<V, false>();
      else run.template operator()<1, false>();
    }
  });
}

}  // namespace vt::cuda
