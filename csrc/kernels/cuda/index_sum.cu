// Sums of slices by index, the gradient of a look-up: out[:, v, :] is the sum of the slices of src
// whose index is v, in their order, and 0 where there is none.
//
// Few indices are looked at by every block: Note [Sums of few indices]. Else they are sorted; what
// has the same index then lies together, as in Note [Runs of equal keys] of index.cu.
#include <bit>

#include "device/cuda/fault.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/index_sum_few.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/radix_sort.h"
#include "kernels/cuda/reduce_ops.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

constexpr int kPart = 64;  // elements of a run that one group of threads adds up
// Of them fetched together: many where runs are long, as a group then waits for memory less often;
// few where they are short, as more groups then fit on a multiprocessor.
constexpr int kManyRows = 16, kFewRows = 4;
constexpr int kMostPacks = 4;  // of a thread side by side, which a warp's rows may take

__global__ void __launch_bounds__(kThreads)
    sum_keys_kernel(uint32_t* keys, uint8_t* met, const int64_t* index, int64_t count, int64_t n,
                    FaultNote* note) {
  await_earlier();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = index[i];
  const bool fits = at >= 0 && at < n;
  if (!fits) note_index_fault(note, "index_add", at, n);
  keys[i] = static_cast<uint32_t>(fits ? at : n);
  if (met && fits) met[at] = 1;
}

// Slices of `inner` packs of 16 bytes that no index is of become 0; the others are written later.
// blockDim.x threads a slice; blockIdx.y is the outer index.
__global__ void __launch_bounds__(kThreads)
    clear_unmet_kernel(uint4* out, const uint8_t* met, int64_t n, int64_t inner) {
  await_earlier();
  const int64_t slice = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (slice >= n || met[slice]) return;
  out += (blockIdx.y * n + slice) * inner;
  for (int64_t u = threadIdx.x; u < inner; u += blockDim.x) out[u] = uint4{0, 0, 0, 0};
}

// Writes the zeros of `out`: all of it or, where `met` is defined, what is not met.
void clear(const Queue& queue, const Tensor& out, const uint8_t* met, const Lines& lines) {
  if (!met) {
    VT_CUDA(cudaMemsetAsync(out.data(), 0, out.bytes(), queue.stream()));
    return;
  }
  const int64_t inner = lines.inner * static_cast<int64_t>(out.item_size()) / 16;
  queue.launch_early(&clear_unmet_kernel,
                     dim3(static_cast<unsigned>(ceil_div(lines.n, kThreads / kWarp)),
                          static_cast<unsigned>(lines.outer)),
                     dim3(kWarp, kThreads / kWarp), static_cast<uint4*>(out.data()), met, lines.n,
                     inner);
}

__device__ int64_t run_start(const uint32_t* keys, int64_t position, uint32_t key) {
  int64_t low = 0, high = position;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (keys[middle] < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Of the parts that begin in 64 neighbouring positions, one at most starts a long run and one at
// most goes on with another.
__device__ __forceinline__ int64_t part_slot(int64_t first, bool is_start) {
  return first / kPart * 2 + is_start;
}

struct Sorted {
  const uint32_t *keys, *positions;
  int64_t picks;
  uint32_t nowhere;  // a key that is skipped
};
// inner in packs of V elements.
struct SumShape {
  int64_t n, inner, slots;
};

// The elements of a part, of which a thread of its own walks over all.
struct WalkedPart {
  uint32_t key;
  bool is_start;  // of its run
  const Sorted& sorted;

  __device__ WalkedPart(const Sorted& sorted, int64_t first)
      : key(sorted.keys[first]),
        is_start(first == 0 || sorted.keys[first - 1] != key),
        sorted(sorted) {}
  __device__ int64_t end(int64_t first, int64_t limit) const {
    int64_t end = first + 1;
    while (end < limit && sorted.keys[end] == key) ++end;
    return end;
  }
  __device__ uint32_t position(int64_t, int64_t i) const { return sorted.positions[i]; }
};
// The same by a warp: what it needs of a short run is fetched in one go.
struct WarpPart {
  uint32_t near_key, near_position, key;  // near: of the element that is the lane's
  bool is_start;
  const Sorted& sorted;

  __device__ WarpPart(const Sorted& sorted, int64_t first) : sorted(sorted) {
    const int64_t own = first + threadIdx.x;
    near_key = own < sorted.picks ? sorted.keys[own] : sorted.nowhere;
    near_position = own < sorted.picks ? sorted.positions[own] : 0;
    const uint32_t before = first > 0 ? sorted.keys[first - 1] : sorted.nowhere;
    key = __shfl_sync(0xffffffffu, near_key, 0);
    is_start = before != key;
  }
  __device__ int64_t end(int64_t first, int64_t limit) const {
    const unsigned others = ~__ballot_sync(0xffffffffu, near_key == key);
    if (others != 0) return first + __ffs(static_cast<int>(others)) - 1;
    int64_t end = first + kWarp;
    while (end < limit && sorted.keys[end] == key) ++end;
    return end;
  }
  __device__ uint32_t position(int64_t first, int64_t i) const {
    if (i - first >= kWarp) return sorted.positions[i];
    return __shfl_sync(0xffffffffu, near_position, static_cast<int>(i - first));
  }
};

// blockDim.x threads a part, blockDim.y parts a block; blockIdx.y is the outer index. A run of one
// part goes to out, the parts of longer ones to partial [outer][slots][inner]. A thread has kPacks
// packs at once; those of a warp's part are all of the slice, so that its lanes stay together.
template <class Part, class T, int V, int kBatch, int kPacks>
__global__ void __launch_bounds__(kThreads)
    sum_parts_kernel(T* out, const T* src, sum_t<T>* partial, Sorted sorted, SumShape shape) {
  await_earlier();
  using A = sum_t<T>;
  const int64_t first = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (first >= sorted.picks) return;
  const Part part(sorted, first);
  const uint32_t key = part.key;
  if (key >= sorted.nowhere) return;
  if (!part.is_start) {
    if (first < kPart || sorted.keys[first - kPart] != key) return;
    if ((first - run_start(sorted.keys, first, key)) % kPart != 0) return;
  }
  const int64_t limit = first + kPart < sorted.picks ? first + kPart : sorted.picks;
  const int64_t end = part.end(first, limit);
  const bool more = end == limit && limit < sorted.picks && sorted.keys[limit] == key;
  const bool whole = part.is_start && !more;
  src += int64_t{blockIdx.y} * sorted.picks * shape.inner * V;
  out += (int64_t{blockIdx.y} * shape.n + key) * shape.inner * V;
  partial +=
      (int64_t{blockIdx.y} * shape.slots + part_slot(first, part.is_start)) * shape.inner * V;
  for (int64_t begin = threadIdx.x; begin < shape.inner; begin += blockDim.x * kPacks) {
    auto each = [&](auto&& f) {  // f(number, pack of the row)
#pragma unroll
      for (int p = 0; p < kPacks; ++p)
        if (const int64_t u = begin + p * blockDim.x; p == 0 || u < shape.inner) f(p, u);
    };
    Pack<A, V> sums[kPacks] = {};
    for (int64_t i = first; i < end; i += kBatch) {
      Pack<T, V> packs[kBatch][kPacks];
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (i + b < end) {
          const T* row = src + int64_t{part.position(first, i + b)} * shape.inner * V;
          each([&](int p, int64_t u) {
            packs[b][p] = *reinterpret_cast<const Pack<T, V>*>(row + u * V);
          });
        }
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (i + b < end)
          each([&](int p, int64_t) {
            const Pack<A, V> values = widen<A>(packs[b][p]);
#pragma unroll
            for (int j = 0; j < V; ++j) sums[p].v[j] += values.v[j];
          });
    }
    each([&](int p, int64_t u) {
      if (whole) {
        *reinterpret_cast<Pack<T, V>*>(out + u * V) = narrow<T>(sums[p]);
      } else {
#pragma unroll
        for (int j = 0; j < V; ++j) partial[u * V + j] = sums[p].v[j];
      }
    });
  }
}

// Adds up the parts of each long run. A block looks at kThreads positions for the start of one.
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_parts_kernel(T* out, const sum_t<T>* partial, Sorted sorted, SumShape shape) {
  await_earlier();
  __shared__ int starts[kThreads / kPart + 2];
  __shared__ int found;
  const int64_t begin = int64_t{blockIdx.x} * kThreads, position = begin + threadIdx.x;
  bool is_long = false;
  if (position + kPart < sorted.picks) {
    const uint32_t key = sorted.keys[position];
    is_long = key < sorted.nowhere && (position == 0 || sorted.keys[position - 1] != key) &&
              sorted.keys[position + kPart] == key;
  }
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  if (is_long) starts[atomicAdd(&found, 1)] = threadIdx.x;  // each is added up on its own
  __syncthreads();
  for (int s = 0; s < found; ++s) {
    const int64_t first = begin + starts[s];
    const uint32_t key = sorted.keys[first];
    T* to = out + (int64_t{blockIdx.y} * shape.n + key) * shape.inner;
    const sum_t<T>* from = partial + int64_t{blockIdx.y} * shape.slots * shape.inner;
    for (int64_t u = threadIdx.x; u < shape.inner; u += kThreads) {
      sum_t<T> sum = 0;
#pragma unroll 4
      for (int64_t i = first; i < sorted.picks && sorted.keys[i] == key; i += kPart)
        sum += from[part_slot(i, i == first) * shape.inner + u];
      to[u] = convert<T>(sum);
    }
  }
}

template <class T>
void sum_runs(const Queue& queue, const Tensor& out, const Tensor& src, const Sorted& sorted,
              const Lines& lines) {
  constexpr int kVector = 16 / sizeof(T);
  const bool packed =
      lines.inner % kVector == 0 && is_aligned(out.data(), 16) && is_aligned(src.data(), 16);
  const int64_t slots = sorted.picks > kPart ? 2 * ceil_div(sorted.picks, kPart) : 0;
  const int64_t most = std::min<int64_t>(lines.outer, 65535);
  const Scratch<sum_t<T>> partial(queue, most * slots * lines.inner);
  const int64_t packs = packed ? lines.inner / kVector : lines.inner;
  // Where runs are short a part waits for memory most of the time: with a warp each, more of them
  // do so at once.
  const bool many = sorted.picks >= kManyRows * lines.n;
  const bool warps =
      packed && !many && kVector <= 8 && packs >= kWarp && packs <= kWarp * kMostPacks;
  const auto lanes =
      warps ? unsigned{kWarp}
            : static_cast<unsigned>(std::min<int64_t>(kThreads, ceil_div(packs, kWarp) * kWarp));
  const dim3 block(lanes, kThreads / lanes);
  for (int64_t done = 0; done < lines.outer; done += most) {
    const auto outer = static_cast<unsigned>(std::min(lines.outer - done, most));
    T* to = out.data<T>() + done * lines.n * lines.inner;
    const T* from = src.data<T>() + done * sorted.picks * lines.inner;
    const dim3 grid(static_cast<unsigned>(ceil_div(sorted.picks, block.y)), outer);
    auto kernel = !packed ? &sum_parts_kernel<WalkedPart, T, 1, kFewRows, 1>
                  : many  ? &sum_parts_kernel<WalkedPart, T, kVector, kManyRows, 1>
                          : &sum_parts_kernel<WalkedPart, T, kVector, kFewRows, 1>;
    if constexpr (kVector <= 8) {
      if (warps)
        kernel = packs <= kWarp       ? &sum_parts_kernel<WarpPart, T, kVector, kFewRows, 1>
                 : packs <= 2 * kWarp ? &sum_parts_kernel<WarpPart, T, kVector, 2, 2>
                 : packs <= 3 * kWarp ? &sum_parts_kernel<WarpPart, T, kVector, 2, 3>
                                      : &sum_parts_kernel<WarpPart, T, kVector, 2, kMostPacks>;
    }
    queue.launch_early(kernel, grid, block, to, from, partial.get(), sorted,
                       SumShape{lines.n, packs, slots});
    if (slots == 0) continue;
    queue.launch_early(&join_parts_kernel<T>,
                       dim3(static_cast<unsigned>(ceil_div(sorted.picks, kThreads)), outer),
                       kThreads, to, partial.get(), sorted, SumShape{lines.n, lines.inner, slots});
  }
}

// Sums of few indices in one kernel; false: they are too many, or lie badly.
template <class T>
bool sum_few(const Queue& queue, const Tensor& out, const Tensor& src, const Tensor& index,
             const Lines& lines) {
  constexpr int kVector = 16 / sizeof(T), kBlock = 1024;
  const int64_t picks = index.numel(), packs = lines.inner / kVector;
  if (lines.outer != 1 || picks > kMostFew || lines.inner % kVector != 0 ||
      !is_aligned(out.data(), 16) || !is_aligned(src.data(), 16))
    return false;
  // Two packs a lane where they are of few numbers, which take as many registers as one of eight.
  const int64_t a_lane = kVector < 8 && packs > kWarp ? 2 : 1,
                parts = ceil_div(packs, a_lane * kWarp);
  if (parts > kMostParts) return false;
  // As many blocks as run at once. Each compares all that it has picked with all its slices.
  const int block_bits = 7 - (std::bit_width(static_cast<uint64_t>(parts)) - 1);
  const int64_t slices = ceil_div(lines.n, int64_t{1} << block_bits);
  if (slices > kMostOwned || slices * (picks >> block_bits) > kMostCompared) return false;
  const FewIndices few{index.data<int64_t>(), static_cast<int>(picks), lines.n, packs, block_bits};
  auto launch = [&]<int kPacks, int kEach>(std::integer_sequence<int, kPacks, kEach>) {
    constexpr size_t bytes = sizeof(uint32_t) * kBlock * kEach;
    const auto kernel = &sum_few_kernel<T, kVector, kPacks, kBlock, kEach>;
    queue.allow_shared(reinterpret_cast<const void*>(kernel), bytes);
    queue.launch_shared<Start::kEarly>(
        kernel,
        dim3(static_cast<unsigned>(std::min<int64_t>(lines.n, int64_t{1} << block_bits)),
             static_cast<unsigned>(parts)),
        kBlock, bytes, out.data<T>(), src.data<T>(), few, fault_note(queue.index()));
  };
  auto choose = [&]<int kPacks>(std::integral_constant<int, kPacks>) {
    if (picks <= kBlock) launch(std::integer_sequence<int, kPacks, 1>{});
    else if (picks <= 4 * kBlock) launch(std::integer_sequence<int, kPacks, 4>{});
    else if (picks <= 8 * kBlock) launch(std::integer_sequence<int, kPacks, 8>{});
    else launch(std::integer_sequence<int, kPacks, 16>{});
  };
  if constexpr (kVector < 8) {
    if (a_lane == 2) {
      choose(std::integral_constant<int, 2>{});
      return true;
    }
  }
  choose(std::integral_constant<int, 1>{});
  return true;
}

}  // namespace

void index_sum(const Tensor& out, const Tensor& src, const Tensor& index, int dim) {
  if (out.numel() == 0) return;
  const Queue queue("index_add", out.device());
  const int64_t picks = index.numel();
  const Lines lines(out.sizes(), dim);
  if (src.numel() == 0) return clear(queue, out, nullptr, lines);
  VT_CHECK(lines.n < std::numeric_limits<uint32_t>::max(), kRuntime, "index_add: dimension ", dim,
           " of ", out, " is larger than 2^32 - 2");
  const bool summed = visit_dtype(out.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (is_float(DTypeOf<T>::value)) return sum_few<T>(queue, out, src, index, lines);
    else return false;
  });
  if (summed) return;
  // A large result is written once: the sums where there are such, zeros elsewhere.
  const bool marks = out.bytes() >= (8 << 20) && lines.outer <= 65535 &&
                     lines.inner * static_cast<int64_t>(out.item_size()) % 16 == 0 &&
                     is_aligned(out.data(), 16);
  const Scratch<uint8_t> met(queue, marks ? lines.n : 0);
  if (marks) VT_CUDA(cudaMemsetAsync(met.get(), 0, static_cast<size_t>(lines.n), queue.stream()));
  RadixSort<uint32_t> sorter(queue, picks);
  queue.launch_early(&sum_keys_kernel, ceil_div(picks, kThreads), kThreads, sorter.keys(),
                     met.get(), index.data<int64_t>(), picks, lines.n, fault_note(queue.index()));
  clear(queue, out, met.get(), lines);
  sorter.sort(std::bit_width(static_cast<uint64_t>(lines.n)), false);
  const Sorted sorted{sorter.keys(), sorter.positions(), picks, static_cast<uint32_t>(lines.n)};
  visit_dtype(out.dtype(),
              [&]<class T>(TypeTag<T>) { sum_runs<T>(queue, out, src, sorted, lines); });
}

}  // namespace vt::cuda
