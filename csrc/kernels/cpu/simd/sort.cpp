// Sorting rows and finding nonzero elements. Elements become unsigned keys of the same order, which
// a radix sort (stable by nature) takes byte by byte; bytes that all keys share are skipped.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/simd/rows.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

template <int Size>
struct KeyOf;
template <>
struct KeyOf<1> {
  using type = uint8_t;
};
template <>
struct KeyOf<2> {
  using type = uint16_t;
};
template <>
struct KeyOf<4> {
  using type = uint32_t;
};
template <>
struct KeyOf<8> {
  using type = uint64_t;
};
template <class T>
using key_t = typename KeyOf<static_cast<int>(sizeof(T))>::type;

// Floats: negative ones are reversed, -0 equals 0, every NaN is the largest of all.
template <class T>
VT_INLINE key_t<T> key_of(T value) {
  using K = key_t<T>;
  constexpr K top = static_cast<K>(K{1} << (sizeof(K) * 8 - 1));
  if constexpr (std::is_same_v<T, bool> || std::is_unsigned_v<T>) {
    return static_cast<K>(value);
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<K>(static_cast<K>(value) ^ top);
  } else {
    const auto v = static_cast<compute_t<T>>(value);
    if (v != v) return static_cast<K>(~K{0});
    if (v == 0) return top;
    K bits;
    std::memcpy(&bits, &value, sizeof(K));
    return static_cast<K>(bits & top ? ~bits : bits | top);
  }
}

template <class K>
struct Item {
  K key;
  int64_t index;
};

constexpr int64_t kSmall = 64;

template <class K>
void insertion_sort(Item<K>* items, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const Item<K> item = items[i];
    int64_t j = i;
    for (; j > 0 && items[j - 1].key > item.key; --j) items[j] = items[j - 1];
    items[j] = item;
  }
}

// Sorts `items`, with `other` as room; gives the one of the two that holds the result.
template <class K>
Item<K>* radix_sort(Item<K>* items, Item<K>* other, int64_t n) {
  constexpr int kBytes = sizeof(K);
  int64_t counts[kBytes][256] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int b = 0; b < kBytes; ++b) ++counts[b][(items[i].key >> (8 * b)) & 255];
  for (int b = 0; b < kBytes; ++b) {
    if (counts[b][(items[0].key >> (8 * b)) & 255] == n) continue;
    int64_t starts[256], at = 0;
    for (int v = 0; v < 256; ++v) {
      starts[v] = at;
      at += counts[b][v];
    }
    for (int64_t i = 0; i < n; ++i) other[starts[(items[i].key >> (8 * b)) & 255]++] = items[i];
    std::swap(items, other);
  }
  return items;
}

template <class T>
void sort_rows(T* values, int64_t* indices, const T* x, int64_t rows, int64_t n, bool descending) {
  using K = key_t<T>;
  parallel_for(rows, row_grain(n * 8), [&](int64_t begin, int64_t end) {
    std::unique_ptr<Item<K>[]> room(new Item<K>[static_cast<size_t>(2 * n)]);
    for (int64_t r = begin; r < end; ++r) {
      const T* row = x + r * n;
      Item<K>* items = room.get();
      for (int64_t i = 0; i < n; ++i) {
        const K key = key_of(row[i]);
        items[i] = {descending ? static_cast<K>(~key) : key, i};
      }
      if (n <= kSmall) insertion_sort(items, n);
      else items = radix_sort(items, room.get() + n, n);
      for (int64_t i = 0; i < n; ++i) {
        indices[r * n + i] = items[i].index;
        values[r * n + i] = row[items[i].index];
      }
    }
  });
}

template <class T>
void first_of_rows(T* values, int64_t* indices, const T* x, int64_t rows, int64_t n, int64_t k,
                   bool largest) {
  using K = key_t<T>;
  parallel_for(rows, row_grain(n * 4), [&](int64_t begin, int64_t end) {
    std::unique_ptr<Item<K>[]> room(new Item<K>[static_cast<size_t>(n)]);
    Item<K>* items = room.get();
    const auto before = [](const Item<K>& a, const Item<K>& b) {
      return a.key != b.key ? a.key < b.key : a.index < b.index;
    };
    for (int64_t r = begin; r < end; ++r) {
      const T* row = x + r * n;
      for (int64_t i = 0; i < n; ++i) {
        const K key = key_of(row[i]);
        items[i] = {largest ? static_cast<K>(~key) : key, i};
      }
      if (k < n) std::nth_element(items, items + k, items + n, before);
      std::sort(items, items + k, before);
      for (int64_t i = 0; i < k; ++i) {
        indices[r * k + i] = items[i].index;
        values[r * k + i] = row[items[i].index];
      }
    }
  });
}

}  // namespace

void topk(const Tensor& values, const Tensor& indices, const Tensor& x, bool largest) {
  const int64_t rows = x.sizes()[0], n = x.sizes()[1], k = values.sizes()[1];
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    first_of_rows(values.data<T>(), indices.data<int64_t>(), x.data<T>(), rows, n, k, largest);
  });
}

void sort(const Tensor& values, const Tensor& indices, const Tensor& x, bool descending) {
  const int64_t n = x.sizes().back(), rows = n == 0 ? 0 : x.numel() / n;
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    sort_rows(values.data<T>(), indices.data<int64_t>(), x.data<T>(), rows, n, descending);
  });
}

void nonzero(const Tensor& positions, const Tensor& x, int64_t* count) {
  int64_t* out = positions.data<int64_t>();
  int64_t found = 0;
  const int64_t n = x.numel();
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = x.data<T>();
    for (int64_t i = 0; i < n; ++i) {  // always writes: no branch to mispredict; found <= i
      out[found] = i;
      found += static_cast<compute_t<T>>(data[i]) != compute_t<T>(0);
    }
  });
  *count = found;
}

}  // namespace vt::cpu::VT_ISA
