// Picking and adding by index tensors. Every index is checked before anything is written.
#include <cstring>

#include "kernels/cpu/simd/check_index.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

template <class F>
void visit_size(size_t size, F&& f) {
  switch (size) {
    case 1: return f(TypeTag<uint8_t>{});
    case 2: return f(TypeTag<uint16_t>{});
    case 4: return f(TypeTag<uint32_t>{});
    default: return f(TypeTag<uint64_t>{});
  }
}

// a + b in the type of memory: bool is "or", 16-bit floats go through float.
template <class T>
VT_INLINE T added(T a, T b) {
  if constexpr (std::is_same_v<T, bool>) return a | b;
  else if constexpr (is_half(DTypeOf<T>::value))
    return T(static_cast<float>(a) + static_cast<float>(b));
  else if constexpr (std::is_floating_point_v<T>) return a + b;
  else return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

// gather and scatter: walks every element of `index` along its innermost dimension, knowing where
// that element of the indexed tensor starts. f(position in index, offset in the indexed tensor
// without dim, stride step of one element).
struct Along {
  int ndim, dim;
  Dims sizes, strides;  // of the index; strides of the indexed tensor, 0 at dim
  int64_t dim_stride;   // of the indexed tensor

  Along(const Tensor& index, const Tensor& indexed, int d)
      : ndim(index.dim()), dim(d), sizes(index.sizes()) {
    strides = row_major_strides(indexed.sizes());
    dim_stride = strides[d];
    strides[d] = 0;
  }
  int64_t rows() const { return sizes.back() == 0 ? 0 : sizes.product() / sizes.back(); }
  int64_t offset(int64_t row) const {
    int64_t elements = 0;
    for (int i = ndim - 2; i >= 0; --i) {
      elements += row % sizes[i] * strides[i];
      row /= sizes[i];
    }
    return elements;
  }
};

}  // namespace

void index_select(const Tensor& out, const Tensor& x, const Tensor& index, int dim) {
  const Axis a = axis_of(x, dim);
  check_indices("index_select", index, a.n, dim);
  const int64_t count = index.numel();
  const int64_t* picked = index.data<int64_t>();
  const size_t item = x.item_size(), bytes = static_cast<size_t>(a.inner) * item;
  visit_size(item, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* o = out.data<T>();
    const T* from = x.data<T>();
    parallel_for(a.outer * count, row_grain(a.inner), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* row = from + (r / count * a.n + picked[r % count]) * a.inner;
        if (a.inner == 1) o[r] = *row;
        else std::memcpy(o + r * a.inner, row, bytes);
      }
    });
  });
}

void shard_index(const Tensor& place, const Tensor& inside, const Tensor& counted,
                 const Tensor& index, const IndexWindow& window) {
  const int64_t* at = index.data<int64_t>();
  if (window.classes) check_classes(index, window.size, window.ignored);
  else check_indices("index_select", index, window.size, 0);
  for (int64_t i = 0; i < index.numel(); ++i) {
    const int64_t local = at[i] - window.start;
    counted.data<bool>()[i] = !window.classes || at[i] != window.ignored;
    inside.data<bool>()[i] = counted.data<bool>()[i] && local >= 0 && local < window.length;
    place.data<int64_t>()[i] = std::clamp<int64_t>(local, 0, window.length - 1);
  }
}

void index_add(const Tensor& out, const Tensor& src, const Tensor& index, int dim) {
  const Axis a = axis_of(out, dim);
  check_indices("index_add", index, a.n, dim);
  const int64_t count = index.numel();
  const int64_t* place = index.data<int64_t>();
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* o = out.data<T>();
    const T* s = src.data<T>();
    // Threads share out columns, so that each sum keeps the order of the index.
    constexpr int64_t kColumns = 32;
    const int64_t blocks = (a.inner + kColumns - 1) / kColumns;
    parallel_for(a.outer * blocks, row_grain(count * std::min(a.inner, kColumns)),
                 [&](int64_t begin, int64_t end) {
                   while (begin < end) {  // neighbouring blocks of one outer index together
                     const int64_t outer = begin / blocks, first = begin % blocks;
                     const int64_t last = std::min(blocks, first + end - begin);
                     const int64_t j = first * kColumns,
                                   width = std::min(a.inner, last * kColumns) - j;
                     for (int64_t i = 0; i < count; ++i) {
                       T* to = o + (outer * a.n + place[i]) * a.inner + j;
                       const T* from = s + (outer * count + i) * a.inner + j;
#pragma GCC ivdep
                       for (int64_t c = 0; c < width; ++c) to[c] = added(to[c], from[c]);
                     }
                     begin += last - first;
                   }
                 });
  });
}

void index_sum(const Tensor& out, const Tensor& src, const Tensor& index, int dim) {
  std::memset(out.data(), 0, out.bytes());
  if (src.numel() > 0) index_add(out, src, index, dim);
}

void gather(const Tensor& out, const Tensor& x, const Tensor& index, int dim) {
  check_indices("gather", index, x.sizes()[dim], dim);
  const Along along(index, x, dim);
  const int64_t n = index.sizes().back(), step = along.strides.back();
  const int64_t* place = index.data<int64_t>();
  visit_size(x.item_size(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(along.rows(), row_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* from = x.data<T>() + along.offset(r);
        T* o = out.data<T>() + r * n;
        for (int64_t i = 0; i < n; ++i) o[i] = from[i * step + place[r * n + i] * along.dim_stride];
      }
    });
  });
}

void scatter(const Tensor& out, const Tensor& src, const Tensor& index, int dim, bool add) {
  check_indices(add ? "scatter_add" : "scatter", index, out.sizes()[dim], dim);
  const Along along(index, out, dim);
  const int64_t n = index.sizes().back(), step = along.strides.back(), rows = along.rows();
  const int64_t* place = index.data<int64_t>();
  // Lines along `dim` never meet: threads share out rows where dim is the last dimension, else
  // columns.
  const auto share = [&](auto&& f) {
    if (dim == out.dim() - 1)
      parallel_for(rows, row_grain(n),
                   [&](int64_t begin, int64_t end) { f(begin, end, int64_t{0}, n); });
    else
      parallel_for(n, row_grain(rows),
                   [&](int64_t begin, int64_t end) { f(int64_t{0}, rows, begin, end); });
  };
  if (!add) {
    visit_size(out.item_size(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      share([&](int64_t first, int64_t last, int64_t begin, int64_t end) {
        for (int64_t r = first; r < last; ++r) {
          T* to = out.data<T>() + along.offset(r);
          const T* from = src.data<T>() + r * n;
          for (int64_t i = begin; i < end; ++i)
            to[i * step + place[r * n + i] * along.dim_stride] = from[i];
        }
      });
    });
    return;
  }
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    share([&](int64_t first, int64_t last, int64_t begin, int64_t end) {
      for (int64_t r = first; r < last; ++r) {
        T* to = out.data<T>() + along.offset(r);
        const T* from = src.data<T>() + r * n;
        for (int64_t i = begin; i < end; ++i) {
          T& slot = to[i * step + place[r * n + i] * along.dim_stride];
          slot = added(slot, from[i]);
        }
      }
    });
  });
}

void triangle(const Tensor& out, const Tensor& x, int64_t k, bool lower) {
  const int64_t rows = x.sizes()[1], cols = x.sizes()[2];
  visit_size(x.item_size(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(x.sizes()[0] * rows, row_grain(cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        // Lower keeps columns [0, i + k], upper [i + k, cols).
        const int64_t edge = std::clamp<int64_t>(r % rows + k + (lower ? 1 : 0), 0, cols);
        const T* from = x.data<T>() + r * cols;
        T* o = out.data<T>() + r * cols;
        const int64_t keep = lower ? 0 : edge, kept = lower ? edge : cols - edge;
        if (o != from) std::memcpy(o + keep, from + keep, static_cast<size_t>(kept) * sizeof(T));
        std::memset(o + (lower ? edge : 0), 0, static_cast<size_t>(cols - kept) * sizeof(T));
      }
    });
  });
}

}  // namespace vt::cpu::VT_ISA
