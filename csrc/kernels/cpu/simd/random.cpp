// Random numbers and dropout. Element i draws from Philox counter offset + i / 4, word i % 4
// (doubles and integers: counter offset + i; dropout: two elements a word), so the numbers do not
// depend on how the loop is cut.
#include <algorithm>

#include "device/cpu/parallel.h"
#include "kernels/random.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kGrain = 4096;  // counters
constexpr int kBatch =
    64;  // counters drawn together, word by word, so that rounds run as vector code

// Calls f(first element, count, words) over [0, n), where words[i] belongs to element first + i.
template <class F>
void with_words(int64_t n, PhiloxStart start, F&& f) {
  const int64_t counters = (n + 3) / 4;
  parallel_for(counters, kGrain, [&](int64_t begin, int64_t end) {
    uint32_t words[kBatch * 4];
    for (int64_t c = begin; c < end; c += kBatch) {
      const int64_t count = std::min<int64_t>(kBatch, end - c);
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) {
        const Philox4 p = philox(start.seed, start.offset + static_cast<uint64_t>(c + i));
        words[4 * i] = p.v[0];
        words[4 * i + 1] = p.v[1];
        words[4 * i + 2] = p.v[2];
        words[4 * i + 3] = p.v[3];
      }
      f(c * 4, std::min(count * 4, n - c * 4), words);
    }
  });
}

template <class F>
void with_counters(int64_t n, PhiloxState state, F&& f) {
  const PhiloxStart start = state.start();
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      f(i, philox(start.seed, start.offset + static_cast<uint64_t>(i)));
  });
}

}  // namespace

void random_uniform(const Tensor& out, double low, double high, PhiloxState state) {
  visit_float("rand", out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* o = out.data<T>();
    if constexpr (std::is_same_v<T, double>) {
      with_counters(out.numel(), state, [&](int64_t i, const Philox4& p) {
        o[i] = random::fma(uniform_double(p.v[0], p.v[1]), high - low, low);
      });
    } else {
      const float base = static_cast<float>(low), width = static_cast<float>(high - low);
      with_words(
          out.numel(), state.start(), [&](int64_t first, int64_t count, const uint32_t* words) {
            for (int64_t i = 0; i < count; ++i)
              o[first + i] = static_cast<T>(random::fma(random::unit<T>(words[i]), width, base));
          });
    }
  });
}

void random_normal(const Tensor& out, double mean, double std, PhiloxState state) {
  visit_float("randn", out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* o = out.data<T>();
    if constexpr (std::is_same_v<T, double>) {
      with_counters(out.numel(), state, [&](int64_t i, const Philox4& p) {
        o[i] = random::fma(random::normal_double(p), std, mean);
      });
    } else {
      const float centre = static_cast<float>(mean), width = static_cast<float>(std);
      with_words(
          out.numel(), state.start(), [&](int64_t first, int64_t count, const uint32_t* words) {
            float drawn[kBatch * 4];
            for (int64_t i = 0; i < (count + 1) / 2; ++i) {
              const random::NormalPair pair = random::normal_pair(words[2 * i], words[2 * i + 1]);
              drawn[2 * i] = random::fma(pair.first, width, centre);
              drawn[2 * i + 1] = random::fma(pair.second, width, centre);
            }
            for (int64_t i = 0; i < count; ++i) o[first + i] = static_cast<T>(drawn[i]);
          });
    }
  });
}

void random_int(const Tensor& out, int64_t low, int64_t high, PhiloxState state) {
  int64_t* o = out.data<int64_t>();
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  with_counters(out.numel(), state, [&](int64_t i, const Philox4& p) {
    o[i] = static_cast<int64_t>(static_cast<uint64_t>(low) + random::below(p, range));
  });
}

namespace {

// Note [Two elements a word]
void drop(const Tensor& out, const Tensor& x, double p, PhiloxStart start) {
  visit_float("dropout", out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    T* o = out.data<T>();
    const T* a = x.data<T>();
    const C scale = static_cast<C>(random::kept_scale(p));
    const uint32_t least = random::least_kept(p);
    const int64_t n = out.numel();
    with_words((n + 1) / 2, start, [&](int64_t first, int64_t count, const uint32_t* words) {
      uint32_t bits[kBatch * 8];
      for (int64_t i = 0; i < count; ++i) {
        bits[2 * i] = random::keep_bits(words[i], false);
        bits[2 * i + 1] = random::keep_bits(words[i], true);
      }
      const int64_t begin = 2 * first, elements = std::min(2 * count, n - begin);
      for (int64_t i = 0; i < elements; ++i)
        o[begin + i] =
            static_cast<T>(bits[i] >= least ? static_cast<C>(a[begin + i]) * scale : C(0));
    });
  });
}

}  // namespace

void dropout(const Tensor& out, const Tensor& begun, const Tensor& x, double p, PhiloxState state) {
  const PhiloxStart start = state.start();
  begun.data<int64_t>()[0] = static_cast<int64_t>(start.seed);
  begun.data<int64_t>()[1] = static_cast<int64_t>(start.offset);
  drop(out, x, p, start);
}

void dropout_again(const Tensor& out, const Tensor& begun, const Tensor& x, double p) {
  drop(out, x, p,
       {static_cast<uint64_t>(begun.data<int64_t>()[0]),
        static_cast<uint64_t>(begun.data<int64_t>()[1])});
}

}  // namespace vt::cpu::VT_ISA
