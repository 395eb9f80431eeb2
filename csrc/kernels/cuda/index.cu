// Picking and adding by index. An index out of range is noted and raised at the next wait for the
// device; the kernel itself skips it. Sums happen in the order of the index: equal indices are
// brought together by a stable sort.
#include <bit>

#include "device/cuda/fault.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/radix_sort.h"
#include "kernels/cuda/walk.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

__device__ __forceinline__ bool in_range(FaultNote* note, const char* op, int64_t index,
                                         int64_t limit) {
  if (index >= 0 && index < limit) return true;
  note_index_fault(note, op, index, limit);
  return false;
}

// blockDim.x threads share kRows rows of `units` elements, which are on their way at once;
// blockDim.y such groups a block.
template <class U, int kRows>
__global__ void __launch_bounds__(kThreads)
    index_select_kernel(U* out, const U* x, const int64_t* index, int64_t rows, int64_t picks,
                        int64_t n, int64_t units, FaultNote* note) {
  await_earlier();
  const int64_t first = int64_t{blockIdx.x} * blockDim.y * kRows + threadIdx.y;
  int64_t from[kRows];  // -1: a row of zeros
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    const int64_t row = first + k * blockDim.y;
    from[k] = -1;
    if (row >= rows) continue;
    const int64_t outer = rows == picks ? 0 : row / picks, at = index[row - outer * picks];
    if (in_range(note, "index_select", at, n)) from[k] = (outer * n + at) * units;
  }
  const U* source = n > 0 ? x : out;  // of nothing, nothing is taken
  for (int64_t u = threadIdx.x; u < units; u += blockDim.x) {
    U values[kRows];
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      // A load that may not happen would be waited for at once.
      const U value = source[(from[k] >= 0 ? from[k] : 0) + u];
      values[k] = from[k] >= 0 ? value : U{};
    }
#pragma unroll
    for (int k = 0; k < kRows; ++k)
      if (const int64_t row = first + k * blockDim.y; row < rows) out[row * units + u] = values[k];
  }
}

// Rows of 32 * kPacks packs of 16 bytes of a matrix: a warp takes kRows of them, which are on their
// way at once.
template <int kRows, int kPacks>
__global__ void __launch_bounds__(kThreads)
    take_rows_kernel(uint4* out, const uint4* x, const int64_t* index, int64_t rows, int64_t n,
                     FaultNote* note) {
  await_earlier();
  constexpr int kUnits = kPacks * kWarp;
  const int lane = threadIdx.x % kWarp;
  const int64_t first = (int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp) * kRows;
  if (first >= rows) return;
  int64_t at[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) at[k] = index[first + k < rows ? first + k : first];
  uint4 packs[kRows][kPacks];
  bool there[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    there[k] = at[k] >= 0 && at[k] < n;
    const uint4* row = x + (there[k] ? at[k] * kUnits : 0) + lane;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) packs[k][p] = row[p * kWarp];
  }
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    if (first + k >= rows) continue;
    if (!there[k] && lane == 0) note_index_fault(note, "index_select", at[k], n);
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      out[(first + k) * kUnits + p * kWarp + lane] = there[k] ? packs[k][p] : uint4{};
  }
}

__global__ void __launch_bounds__(kThreads)
    shard_index_kernel(int64_t* place, bool* inside, bool* counted, const int64_t* index,
                       int64_t count, IndexWindow window, FaultNote* note) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = index[i];
  const bool counts =
      !(window.classes && at == window.ignored) &&
      in_range(note, window.classes ? "cross_entropy" : "index_select", at, window.size);
  counted[i] = counts;
  const int64_t local = at - window.start;
  inside[i] = counts && local >= 0 && local < window.length;
  place[i] = local < 0 ? 0 : local < window.length ? local : window.length - 1;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(T* out, const T* x, const int64_t* index, int64_t count, WalkMap lines,
                  int64_t step, int64_t n, FaultNote* note) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = index[i];
  out[i] = in_range(note, "gather", at, n) ? x[lines.at(i) + at * step] : T{};
}

// One thread a line: its elements are taken in order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    scatter_lines_kernel(T* out, const T* src, const int64_t* index, int64_t lines, int64_t length,
                         int64_t index_step, WalkMap line_in_index, WalkMap line_in_out,
                         int64_t out_step, int64_t n, bool add, FaultNote* note) {
  using C = compute_t<T>;
  const int64_t line = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (line >= lines) return;
  const int64_t from = line_in_index.at(line);
  T* to = out + line_in_out.at(line);
  for (int64_t i = 0; i < length; ++i) {
    const int64_t at = index[from + i * index_step];
    if (!in_range(note, "scatter", at, n)) continue;
    T& target = to[at * out_step];
    const T value = src[from + i * index_step];
    target = add ? convert<T>(convert<C>(target) + convert<C>(value)) : value;
  }
}

// keys[i] = where element i goes, or `nowhere`.
__global__ void __launch_bounds__(kThreads)
    scatter_keys_kernel(uint64_t* keys, const int64_t* index, int64_t count, WalkMap lines,
                        int64_t step, int64_t n, uint64_t nowhere, FaultNote* note) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = index[i];
  keys[i] =
      in_range(note, "scatter", at, n) ? static_cast<uint64_t>(lines.at(i) + at * step) : nowhere;
}

__global__ void __launch_bounds__(kThreads)
    index_keys_kernel(uint32_t* keys, const int64_t* index, int64_t count, int64_t n,
                      FaultNote* note) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = index[i];
  keys[i] =
      in_range(note, "index_add", at, n) ? static_cast<uint32_t>(at) : static_cast<uint32_t>(n);
}

// Note [Runs of equal keys]
// After the sort, equal keys lie together in the order of their positions: a run. Frequent indices
// make runs of thousands, so a run is cut, from its start on, into parts of kPart elements. Each
// part is summed in order by its own threads; the parts of a long run are then added up in order.
// Where the cuts lie depends on the index only.
constexpr int kPart = 64;
constexpr int kBatch = 8;  // elements that are fetched together

// The parts that begin in 64 neighbouring positions: at most the start of one long run, and a later
// part of another.
__device__ __forceinline__ int64_t part_slot(int64_t first, bool is_start) {
  return first / kPart * 2 + is_start;
}

template <class K>
__device__ int64_t run_start(const K* keys, int64_t position, K key) {
  int64_t low = 0, high = position;  // the first element that is not smaller
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (keys[middle] < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

// out is [outer, n, inner], src [outer, picks, inner], partial [outer, slots, inner]. Keys of
// `nowhere` are skipped.
template <class T, class K>
__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(T* out, const T* src, compute_t<T>* partial, const K* keys,
                     const uint32_t* positions, int64_t picks, int64_t n, int64_t inner,
                     int64_t slots, K nowhere) {
  using C = compute_t<T>;
  const int64_t first = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (first >= picks) return;
  const K key = keys[first];
  if (key >= nowhere) return;
  const bool is_start = first == 0 || keys[first - 1] != key;
  if (!is_start) {
    if (first < kPart || keys[first - kPart] != key) return;
    if ((first - run_start(keys, first, key)) % kPart != 0) return;
  }
  const int64_t end = first + kPart < picks ? first + kPart : picks;
  const bool whole = is_start && !(end < picks && keys[end] == key);
  out += (int64_t{blockIdx.y} * n + static_cast<int64_t>(key)) * inner;
  src += int64_t{blockIdx.y} * picks * inner;
  partial += (int64_t{blockIdx.y} * slots + part_slot(first, is_start)) * inner;
  for (int64_t u = threadIdx.x; u < inner; u += blockDim.x) {
    C sum = whole ? convert<C>(out[u]) : C(0);
    bool more = true;
    for (int64_t i = first; more && i < end; i += kBatch) {
      T values[kBatch];
      bool same[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        same[j] = i + j < end && keys[i + j] == key;
        if (same[j]) values[j] = src[int64_t{positions[i + j]} * inner + u];
      }
#pragma unroll
      for (int j = 0; j < kBatch; ++j)
        if (same[j]) sum = convert<C>(sum + convert<C>(values[j]));
      more = same[kBatch - 1];
    }
    if (whole) out[u] = convert<T>(sum);
    else partial[u] = sum;
  }
}

template <class T, class K>
__global__ void __launch_bounds__(kThreads)
    join_parts_kernel(T* out, const compute_t<T>* partial, const K* keys, int64_t picks, int64_t n,
                      int64_t inner, int64_t slots, K nowhere) {
  using C = compute_t<T>;
  const int64_t first = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (first >= picks) return;
  const K key = keys[first];
  if (key >= nowhere || (first > 0 && keys[first - 1] == key)) return;
  if (first + kPart >= picks || keys[first + kPart] != key) return;
  out += (int64_t{blockIdx.y} * n + static_cast<int64_t>(key)) * inner;
  partial += int64_t{blockIdx.y} * slots * inner;
  for (int64_t u = threadIdx.x; u < inner; u += blockDim.x) {
    C sum = convert<C>(out[u]);
#pragma unroll 4
    for (int64_t i = first; i < picks && keys[i] == key; i += kPart)
      sum = convert<C>(sum + partial[part_slot(i, i == first) * inner + u]);
    out[u] = convert<T>(sum);
  }
}

// The last of each run wins.
template <class T, class K>
__global__ void __launch_bounds__(kThreads)
    take_last_kernel(T* out, const T* src, const K* keys, const uint32_t* positions, int64_t picks,
                     K nowhere) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= picks) return;
  const K key = keys[i];
  if (key < nowhere && (i + 1 == picks || keys[i + 1] != key))
    out[static_cast<int64_t>(key)] = src[positions[i]];
}

// Keeps j - i <= k (lower) or j - i >= k (upper), zero elsewhere.
template <class U>
__global__ void __launch_bounds__(kThreads)
    triangle_kernel(U* out, const U* x, int64_t rows, int64_t height, int64_t width, int64_t k,
                    bool lower) {
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= width) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t diagonal = column - row % height;
    const bool keep = lower ? diagonal <= k : diagonal >= k;
    out[row * width + column] = keep ? x[row * width + column] : U{};
  }
}

struct alignas(16) Unit16 {
  uint32_t words[4];
};

// Calls f with an unsigned type of that size.
template <class F>
void visit_unit(size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    case 8: return f(uint64_t{});
    default: return f(Unit16{});
  }
}

// Threads for rows of `units` elements: enough lanes for a row, and as many rows as then fit in a
// block.
dim3 row_block(int64_t units) {
  const auto lanes = static_cast<unsigned>(std::min<int64_t>(
      kThreads, units < kWarp ? static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(units)))
                              : ceil_div(units, kWarp) * kWarp));
  return dim3(lanes, kThreads / lanes);
}

// Positions of `sizes` (without dimension `skip` where it is >= 0) as offsets with these strides,
// of which that of dimension `still` counts as 0.
Walk walk_of(const Dims& sizes, const Dims& strides, int skip, int still) {
  Walk walk;
  for (int d = sizes.size() - 1; d >= 0; --d)
    if (d != skip) walk.add(sizes[d], d == still ? 0 : strides[d]);
  return walk;
}

template <class T, class K>
void add_runs(const Queue& queue, const Tensor& out, const Tensor& src, RadixSort<K>& sorter,
              int64_t outer, int64_t n, int64_t inner) {
  const int64_t picks = sorter.count(), slots = picks > kPart ? 2 * ceil_div(picks, kPart) : 0;
  const dim3 block = row_block(inner);
  const int64_t most = std::min<int64_t>(outer, 65535);
  const Scratch<compute_t<T>> partial(queue, most * slots * inner);
  for (int64_t done = 0; done < outer; done += most) {
    const dim3 grid(static_cast<unsigned>(ceil_div(picks, block.y)),
                    static_cast<unsigned>(std::min(outer - done, most)));
    T* to = out.data<T>() + done * n * inner;
    queue.launch(&add_parts_kernel<T, K>, grid, block, to, src.data<T>() + done * picks * inner,
                 partial.get(), sorter.keys(), sorter.positions(), picks, n, inner, slots,
                 static_cast<K>(n));
    if (slots > 0)
      queue.launch(&join_parts_kernel<T, K>, grid, block, to, partial.get(), sorter.keys(), picks,
                   n, inner, slots, static_cast<K>(n));
  }
}

}  // namespace

void index_select(const Tensor& out, const Tensor& x, const Tensor& index, int dim) {
  if (out.numel() == 0) return;
  const Queue queue("index_select", x.device());
  const Lines lines(x.sizes(), dim);
  const int64_t picks = index.numel(), rows = lines.outer * picks;
  const auto row_bytes = static_cast<size_t>(lines.inner) * x.item_size();
  size_t unit = 16;
  while (row_bytes % unit != 0 || !is_aligned(x.data(), unit) || !is_aligned(out.data(), unit))
    unit /= 2;
  auto take = [&]<int kPacks>(std::integral_constant<int, kPacks>) {
    constexpr int kRows = kPacks == 1 ? 4 : kPacks <= 3 ? 2 : 1;
    queue.launch_early(&take_rows_kernel<kRows, kPacks>,
                       ceil_div(rows, int64_t{kThreads / kWarp} * kRows), kThreads,
                       static_cast<uint4*>(out.data()), static_cast<const uint4*>(x.data()),
                       index.data<int64_t>(), rows, lines.n, fault_note(queue.index()));
  };
  if (unit == 16 && lines.outer == 1 && lines.n > 0 && row_bytes % (16 * kWarp) == 0) {
    switch (row_bytes / (16 * kWarp)) {
      case 1: return take(std::integral_constant<int, 1>{});
      case 2: return take(std::integral_constant<int, 2>{});
      case 3: return take(std::integral_constant<int, 3>{});
      case 4: return take(std::integral_constant<int, 4>{});
    }
  }
  visit_unit(unit, [&]<class U>(U) {
    const auto units = static_cast<int64_t>(row_bytes / unit);
    const dim3 block = row_block(units);
    // Several rows a thread only where the GPU is full without them.
    auto run = [&]<int kRows>(std::integral_constant<int, kRows>) {
      queue.launch_early(&index_select_kernel<U, kRows>, ceil_div(rows, int64_t{block.y} * kRows),
                         block, out.data<U>(), x.data<U>(), index.data<int64_t>(), rows, picks,
                         lines.n, units, fault_note(queue.index()));
    };
    if (rows * block.x < int64_t{queue.multiprocessors()} * 8192)
      run(std::integral_constant<int, 1>{});
    else run(std::integral_constant<int, 4>{});
  });
}

void shard_index(const Tensor& place, const Tensor& inside, const Tensor& counted,
                 const Tensor& index, const IndexWindow& window) {
  const Queue queue("shard_index", index.device());
  queue.launch(&shard_index_kernel, ceil_div(index.numel(), kThreads), kThreads,
               place.data<int64_t>(), inside.data<bool>(), counted.data<bool>(),
               index.data<int64_t>(), index.numel(), window, fault_note(queue.index()));
}

void index_add(const Tensor& out, const Tensor& src, const Tensor& index, int dim) {
  const int64_t picks = index.numel();
  if (src.numel() == 0) return;
  const Queue queue("index_add", out.device());
  const Lines lines(out.sizes(), dim);
  VT_CHECK(lines.n < std::numeric_limits<uint32_t>::max(), kRuntime, "index_add: dimension ", dim,
           " of ", out, " is larger than 2^32 - 2");
  RadixSort<uint32_t> sorter(queue, picks);
  queue.launch(&index_keys_kernel, ceil_div(picks, kThreads), kThreads, sorter.keys(),
               index.data<int64_t>(), picks, lines.n, fault_note(queue.index()));
  sorter.sort(std::bit_width(static_cast<uint64_t>(lines.n)), false);
  visit_dtype(out.dtype(), [&]<class T>(TypeTag<T>) {
    add_runs<T>(queue, out, src, sorter, lines.outer, lines.n, lines.inner);
  });
}

void gather(const Tensor& out, const Tensor& x, const Tensor& index, int dim) {
  const int64_t count = index.numel();
  if (count == 0) return;
  const Queue queue("gather", x.device());
  const Dims strides = row_major_strides(x.sizes());
  const WalkMap lines(walk_of(index.sizes(), strides, -1, dim));
  visit_unit(x.item_size(), [&]<class U>(U) {
    queue.launch(&gather_kernel<U>, ceil_div(count, kThreads), kThreads, out.data<U>(), x.data<U>(),
                 index.data<int64_t>(), count, lines, strides[dim], x.sizes()[dim],
                 fault_note(queue.index()));
  });
}

void scatter(const Tensor& out, const Tensor& src, const Tensor& index, int dim, bool add) {
  const int64_t count = index.numel();
  if (count == 0) return;
  const Queue queue(add ? "scatter_add" : "scatter", out.device());
  const Dims out_strides = row_major_strides(out.sizes()),
             index_strides = row_major_strides(index.sizes());
  const int64_t length = index.sizes()[dim], lines = count / length, n = out.sizes()[dim];
  FaultNote* note = fault_note(queue.index());
  if (lines >= 2048 || length <= 32) {
    const WalkMap in_index(walk_of(index.sizes(), index_strides, dim, -1));
    const WalkMap in_out(walk_of(index.sizes(), out_strides, dim, -1));
    return visit_dtype(out.dtype(), [&]<class T>(TypeTag<T>) {
      queue.launch(&scatter_lines_kernel<T>, ceil_div(lines, kThreads), kThreads, out.data<T>(),
                   src.data<T>(), index.data<int64_t>(), lines, length, index_strides[dim],
                   in_index, in_out, out_strides[dim], n, add, note);
    });
  }
  // Few long lines: bring elements with the same target together instead.
  RadixSort<uint64_t> sorter(queue, count);
  const WalkMap targets(walk_of(index.sizes(), out_strides, -1, dim));
  const int64_t total = out.numel();
  queue.launch(&scatter_keys_kernel, ceil_div(count, kThreads), kThreads, sorter.keys(),
               index.data<int64_t>(), count, targets, out_strides[dim], n,
               static_cast<uint64_t>(total), note);
  sorter.sort(std::bit_width(static_cast<uint64_t>(total)), false);
  visit_dtype(out.dtype(), [&]<class T>(TypeTag<T>) {
    if (add) return add_runs<T>(queue, out, src, sorter, 1, total, 1);
    queue.launch(&take_last_kernel<T, uint64_t>, ceil_div(count, kThreads), kThreads, out.data<T>(),
                 src.data<T>(), sorter.keys(), sorter.positions(), count,
                 static_cast<uint64_t>(total));
  });
}

void triangle(const Tensor& out, const Tensor& x, int64_t k, bool lower) {
  if (x.numel() == 0) return;
  const Queue queue("triangle", x.device());
  const int64_t height = x.sizes()[1], width = x.sizes()[2], rows = x.sizes()[0] * height;
  visit_unit(x.item_size(), [&]<class U>(U) {
    const dim3 grid(static_cast<unsigned>(ceil_div(width, kThreads)),
                    static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
    queue.launch(&triangle_kernel<U>, grid, kThreads, out.data<U>(), x.data<U>(), rows, height,
                 width, k, lower);
  });
}

}  // namespace vt::cuda
