// Picking, adding and scattering by index, and triangles. Sums happen in the order of the index whatever the threads.
#include <atomic>
#include <cstring>

#include "base/error.h"
#include "device/cpu/parallel.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // elements that are worth a thread

struct Split {
  int64_t outer = 1, n = 1, inner = 1;
  Split(const Dims& sizes, int dim) {
    for (int i = 0; i < sizes.size(); ++i) (i < dim ? outer : i == dim ? n : inner) *= sizes[i];
  }
};

void check_bounds(const char* op, const Tensor& index, int64_t n, int dim) {
  const int64_t* values = index.data<int64_t>();
  std::atomic<int64_t> bad{-1};
  parallel_for(index.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      if (static_cast<uint64_t>(values[i]) >= static_cast<uint64_t>(n)) bad.store(i, std::memory_order_relaxed);
  });
  if (const int64_t at = bad.load(); at >= 0)
    fail(ErrorKind::kIndex, op, ": index ", values[at], " is out of bounds for dimension ", dim, " with size ", n);
}

int64_t rows_worth_a_thread(int64_t row) { return std::max<int64_t>(kGrain / std::max<int64_t>(row, 1), 1); }

template <class T>
inline T sum_of(T a, T b) {
  using C = compute_t<T>;
  return static_cast<T>(static_cast<C>(a) + static_cast<C>(b));
}

// The lines of a tensor along one dimension: where each starts, for an index tensor that may be smaller elsewhere.
class Lines {
 public:
  Lines(const Tensor& whole, const Tensor& index, int dim) : sizes_(index.sizes()), dim_(dim) {
    whole_strides_ = row_major_strides(whole.sizes());
    index_strides_ = row_major_strides(index.sizes());
    length_ = sizes_[dim];
    count_ = length_ == 0 ? 0 : index.numel() / length_;
  }
  int64_t count() const { return count_; }
  int64_t length() const { return length_; }
  int64_t whole_step() const { return whole_strides_[dim_]; }
  int64_t index_step() const { return index_strides_[dim_]; }
  // Offsets of line `i` in the whole tensor and in the index tensor.
  std::pair<int64_t, int64_t> start(int64_t i) const {
    int64_t whole = 0, index = 0;
    for (int d = sizes_.size() - 1; d >= 0; --d) {
      if (d == dim_) continue;
      const int64_t at = i % sizes_[d];
      i /= sizes_[d];
      whole += at * whole_strides_[d];
      index += at * index_strides_[d];
    }
    return {whole, index};
  }

 private:
  Dims sizes_, whole_strides_, index_strides_;
  int dim_;
  int64_t length_, count_;
};

}  // namespace

void index_select(const Tensor& out, const Tensor& x, const Tensor& index, int dim) {
  const Split split(x.sizes(), dim);
  check_bounds("index_select", index, split.n, dim);
  const int64_t picks = index.numel(), row = split.inner * static_cast<int64_t>(x.item_size());
  const int64_t* at = index.data<int64_t>();
  const char* from = x.data<char>();
  char* to = out.data<char>();
  parallel_for(split.outer * picks, rows_worth_a_thread(split.inner), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(to + i * row, from + ((i / picks) * split.n + at[i % picks]) * row, static_cast<size_t>(row));
  });
}

void index_add(const Tensor& out, const Tensor& src, const Tensor& index, int dim) {
  const Split split(out.sizes(), dim);
  check_bounds("index_add", index, split.n, dim);
  const int64_t picks = index.numel(), inner = split.inner;
  const int64_t* at = index.data<int64_t>();
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, bool>) {
      fail(ErrorKind::kRuntime, "index_add: not implemented for bool");
    } else {
      T* to = out.data<T>();
      const T* from = src.data<T>();
      // A thread owns a range of target rows and walks the whole index: nobody else adds to its rows.
      const int64_t work = std::max<int64_t>(picks * inner * split.outer / std::max<int64_t>(split.n, 1), 1);
      parallel_for(split.n, std::max<int64_t>(kGrain / work, 1), [&](int64_t begin, int64_t end) {
        for (int64_t o = 0; o < split.outer; ++o)
          for (int64_t i = 0; i < picks; ++i) {
            if (at[i] < begin || at[i] >= end) continue;
            T* row = to + (o * split.n + at[i]) * inner;
            const T* add = from + (o * picks + i) * inner;
#pragma GCC ivdep
            for (int64_t k = 0; k < inner; ++k) row[k] = sum_of(row[k], add[k]);
          }
      });
    }
  });
}

void gather(const Tensor& out, const Tensor& x, const Tensor& index, int dim) {
  check_bounds("gather", index, x.sizes()[dim], dim);
  const Lines lines(x, index, dim);
  const int64_t* at = index.data<int64_t>();
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = x.data<T>();
    T* to = out.data<T>();
    parallel_for(lines.count(), rows_worth_a_thread(lines.length()), [&](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line) {
        const auto [whole, small] = lines.start(line);
        for (int64_t i = 0; i < lines.length(); ++i) {
          const int64_t here = small + i * lines.index_step();
          to[here] = from[whole + at[here] * lines.whole_step()];
        }
      }
    });
  });
}

void scatter(const Tensor& out, const Tensor& src, const Tensor& index, int dim, bool add) {
  check_bounds(add ? "scatter_add" : "scatter", index, out.sizes()[dim], dim);
  const Lines lines(out, index, dim);
  const int64_t* at = index.data<int64_t>();
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = src.data<T>();
    T* to = out.data<T>();
    parallel_for(lines.count(), rows_worth_a_thread(lines.length()), [&](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line) {
        const auto [whole, small] = lines.start(line);
        for (int64_t i = 0; i < lines.length(); ++i) {
          const int64_t here = small + i * lines.index_step();
          T& target = to[whole + at[here] * lines.whole_step()];
          if constexpr (std::is_same_v<T, bool>) target = add ? target || from[here] : from[here];
          else target = add ? sum_of(target, from[here]) : from[here];
        }
      }
    });
  });
}

void triangle(const Tensor& out, const Tensor& x, int64_t k, bool lower) {
  const int64_t height = x.sizes()[1], width = x.sizes()[2], item = static_cast<int64_t>(x.item_size());
  const char* from = x.data<char>();
  char* to = out.data<char>();
  parallel_for(x.sizes()[0] * height, rows_worth_a_thread(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      // Columns [0, cut) are j - i <= k - (lower ? 0 : 1): kept for lower, zero for upper.
      const int64_t cut = std::clamp<int64_t>(r % height + k + (lower ? 1 : 0), 0, width);
      const int64_t row = r * width * item, edge = cut * item, rest = (width - cut) * item;
      if (lower) {
        std::memcpy(to + row, from + row, static_cast<size_t>(edge));
        std::memset(to + row + edge, 0, static_cast<size_t>(rest));
      } else {
        std::memset(to + row, 0, static_cast<size_t>(edge));
        std::memcpy(to + row + edge, from + row + edge, static_cast<size_t>(rest));
      }
    }
  });
}

}  // namespace vt::cpu::VT_ISA
