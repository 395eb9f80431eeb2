// One launch over a list of tensors, as clipping needs it: the tensors are cut into chunks, and a
// block finds its chunk in a table that travels as the kernel's argument.
#include "kernels/cuda/block.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

constexpr int kListed = 160;       // tensors a launch; the table fits the 4 KiB of arguments
constexpr int64_t kChunk = 16384;  // elements a block: a sum depends on the lengths only

struct List {
  void* data[kListed];
  int64_t numel[kListed];
  int first_chunk[kListed + 1];  // of each tensor; the last entry counts all
  int count;
};

struct Chunk {
  int tensor;
  int64_t begin, end;
};

__device__ __forceinline__ Chunk chunk_of(const List& list, int block) {
  int low = 0, high = list.count - 1;  // the last tensor that starts at or before this block
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (list.first_chunk[middle] <= block) low = middle;
    else high = middle - 1;
  }
  const int64_t begin = (block - list.first_chunk[low]) * kChunk;
  const int64_t end = begin + kChunk < list.numel[low] ? begin + kChunk : list.numel[low];
  return {low, begin, end};
}

// f(pointer, count): whole vectors where the memory is aligned, then single elements.
template <class T, class Vector, class Single>
__device__ __forceinline__ void walk(T* data, const Chunk& chunk, Vector&& vector,
                                     Single&& single) {
  constexpr int V = 16 / sizeof(T);
  const bool aligned = reinterpret_cast<uintptr_t>(data) % 16 == 0;
  const int64_t whole = aligned ? chunk.begin + (chunk.end - chunk.begin) / V * V : chunk.begin;
  for (int64_t i = chunk.begin + threadIdx.x * V; i < whole; i += kThreads * V)
    vector(reinterpret_cast<Pack<T, V>*>(data + i));
  for (int64_t i = whole + threadIdx.x; i < chunk.end; i += kThreads) single(data + i);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    list_squares_kernel(double* partial, const __grid_constant__ List list) {
  await_earlier();
  using C = compute_t<T>;
  const Chunk chunk = chunk_of(list, blockIdx.x);
  C sum = 0;
  auto add = [&](T element) {
    const C value = convert<C>(element);
    sum += value * value;
  };
  walk(
      static_cast<T*>(list.data[chunk.tensor]), chunk,
      [&](const auto* source) {
        const auto pack = *source;
#pragma unroll
        for (const T element : pack.v) add(element);
      },
      [&](const T* source) { add(*source); });
  const double total = block_sum<kThreads>(static_cast<double>(sum));
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    list_norm_kernel(C* out, const double* partial, int64_t count) {
  await_earlier();
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += partial[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) *out = static_cast<C>(sqrt(sum));
}

// A factor of 1 touches no memory.
template <class T>
__global__ void __launch_bounds__(kThreads)
    list_clip_kernel(const __grid_constant__ List list, const compute_t<T>* norm,
                     compute_t<T> max_norm) {
  await_earlier();
  using C = compute_t<T>;
  const C limit = max_norm / (*norm + C(1e-6));
  if (limit >= C(1)) return;  // not so for NaN, which must show
  const Chunk chunk = chunk_of(list, blockIdx.x);
  auto scaled = [&](T element) { return convert<T>(convert<C>(element) * limit); };
  walk(
      static_cast<T*>(list.data[chunk.tensor]), chunk,
      [&](auto* place) {
        auto pack = *place;
#pragma unroll
        for (T& element : pack.v) element = scaled(element);
        *place = pack;
      },
      [&](T* place) { *place = scaled(*place); });
}

int64_t chunks_of(const Tensor& t) { return ceil_div(t.numel(), kChunk); }

// f(list, chunks before it) for each launch.
template <class F>
void for_each_list(const std::vector<Tensor>& tensors, F&& f) {
  List list{};
  int64_t before = 0;
  auto emit = [&] {
    if (list.count > 0) f(list, before);
    before += list.first_chunk[list.count];
    list.count = 0;
  };
  for (const Tensor& t : tensors) {
    if (t.numel() == 0) continue;
    if (list.count == kListed) emit();
    list.data[list.count] = t.data();
    list.numel[list.count] = t.numel();
    list.first_chunk[list.count + 1] =
        list.first_chunk[list.count] + static_cast<int>(chunks_of(t));
    ++list.count;
  }
  emit();
}

}  // namespace

void norm_list(const Tensor& out, const std::vector<Tensor>& tensors) {
  const Queue queue("norm_list", out.device());
  int64_t chunks = 0;
  for (const Tensor& t : tensors) chunks += chunks_of(t);
  const Scratch<double> partial(queue, chunks);
  visit_float("norm_list", tensors[0].dtype(), [&]<class T>(TypeTag<T>) {
    for_each_list(tensors, [&](const List& list, int64_t before) {
      queue.launch_early(&list_squares_kernel<T>, list.first_chunk[list.count], kThreads,
                         partial.get() + before, list);
    });
    queue.launch_early(&list_norm_kernel<compute_t<T>>, 1, kThreads, out.data<compute_t<T>>(),
                       partial.get(), chunks);
  });
}

void clip_list(const std::vector<Tensor>& tensors, const Tensor& norm, double max_norm) {
  const Queue queue("clip_list_", norm.device());
  visit_float("clip_list_", tensors[0].dtype(), [&]<class T>(TypeTag<T>) {
    for_each_list(tensors, [&](const List& list, int64_t) {
      queue.launch_early(&list_clip_kernel<T>, list.first_chunk[list.count], kThreads, list,
                         norm.data<compute_t<T>>(), max_norm);
    });
  });
}

}  // namespace vt::cuda
