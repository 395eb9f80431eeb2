// The elementwise kernels: three loops that run any functor of kernels/pointwise.h. One moves 16
// bytes at a time through dense memory, one walks any strides, one turns inputs that lie across.
// The generated table takes run_pointwise's address for each operator.
#pragma once
#include <type_traits>
#include <utility>

#include "kernels/cuda/packs.h"
#include "kernels/cuda/strided.h"
#include "kernels/cuda/turned_tile.h"
#include "kernels/pointwise.h"
#include "kernels/pointwise_types.h"

namespace vt::cuda {

template <template <class> class Functor, class C>
constexpr unsigned bool_inputs() {
  if constexpr (requires { Functor<C>::kBoolInputs; }) return Functor<C>::kBoolInputs;
  else return 0;
}

// The types of one operator on elements of type T.
template <template <class> class Functor, int kInputs, class T>
struct PointwiseTypes {
  using C = compute_t<T>;
  using F = Functor<C>;
  static constexpr unsigned kBools = bool_inputs<Functor, C>();
  template <size_t I>
  using In = std::conditional_t<(kBools >> I & 1) != 0, bool, T>;
  template <size_t I>
  using Argument = std::conditional_t<(kBools >> I & 1) != 0, bool, C>;
  template <size_t... I>
  static auto result(std::index_sequence<I...>)
      -> decltype(std::declval<const F&>()(std::declval<Argument<I>>()...));
  using Result = decltype(result(std::make_index_sequence<kInputs>{}));
  using Out = std::conditional_t<std::is_same_v<Result, bool>, bool, T>;
  // As many elements as fill 16 bytes of the widest operand.
  static constexpr int kVector = 16 / static_cast<int>(std::max(sizeof(T), sizeof(Out)));
};

// Operands of one launch. An input whose pointer is null is the number `scalar`, of the type
// computed in.
inline constexpr int kMaxInputs = ElementwisePlan::kMaxOperands - 1;
struct PointwiseData {
  char* out;
  const char* in[kMaxInputs];
  alignas(8) char scalar[8];
};
using PointwiseMap = OffsetMap<kMaxInputs + 1>;

// A plan whose dimension 0 the output is dense along, and whose dimension 1 the inputs of `turned`
// are, bit I for input I. Strides in bytes; `repeated` as for the strided kernel.
struct TurnedMap {
  uint32_t sizes[2];
  uint32_t strides[2][kMaxInputs + 1];
  OffsetMap<kMaxInputs + 1> batch;  // the other dimensions
  unsigned turned, repeated;
};

// What the host needs to know about the kernels of one functor and type; everything else about them
// is the same.
struct PointwiseKernels {
  const void* dense;    // (PointwiseData, functor, int64_t numel)
  const void* strided;  // (PointwiseData, functor, uint32_t packs, PointwiseMap, unsigned repeated)
  const void*
      strided_packs;  // as `strided`, `vector` elements a thread; null where it is not built
  // (PointwiseData, functor, TurnedMap): inputs that lie across the output; null as above.
  const void* turned;
  int inputs, vector, turned_threads;
  size_t out_item, in_item[kMaxInputs];
};
void launch_pointwise(const PointwiseKernels& kernels, const ElementwisePlan& plan, void* functor,
                      const void* scalar, size_t scalar_bytes, int scalar_at);

// V neighbouring elements of an input at a byte offset: one load, or one element repeated.
template <class In, class C, int V>
__device__ __forceinline__ Pack<In, V> load_pack(const PointwiseData& data, int input,
                                                 int64_t offset, bool repeat) {
  using Held = Pack<In, V>;
  const char* source = data.in[input];
  auto repeated = [&] {
    const In value = source == nullptr ? convert<In>(*reinterpret_cast<const C*>(data.scalar))
                                       : *reinterpret_cast<const In*>(source + offset);
    Held pack;
#pragma unroll
    for (int j = 0; j < V; ++j) pack.v[j] = value;
    return pack;
  };
  const bool whole = source != nullptr && !repeat;
  if constexpr (sizeof(Held) == 16 && sizeof(In) < 4) {
    // Whole words either way: the compiler would merge small elements one by one.
    uint4 words;
    if (whole) {
      words = *reinterpret_cast<const uint4*>(source + offset);
    } else {
      const Held pack = repeated();
      memcpy(&words, &pack, sizeof(pack));
    }
    asm volatile("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w));
    Held pack;
    memcpy(&pack, &words, sizeof(pack));
    return pack;
  } else {
    return whole ? *reinterpret_cast<const Held*>(source + offset) : repeated();
  }
}

template <class Types, int V, class... Arguments>
__device__ __forceinline__ auto apply_wide(const typename Types::F& functor,
                                           const Pack<Arguments, V>&... packs) {
  Pack<typename Types::Result, V> result;
  auto loop = [&](const auto& formula) {
#pragma unroll
    for (int j = 0; j < V; ++j)
      result.v[j] = functor::value_for<typename Types::Out>(formula, packs.v[j]...);
  };
  // A choice for every element would keep them from being computed side by side.
  if constexpr (requires { functor.resolve(loop); }) functor.resolve(loop);
  else loop(functor);
  return narrow<typename Types::Out>(result);
}
template <class Types, int V, size_t... I, class... Packs>
__device__ __forceinline__ auto apply(const typename Types::F& functor, std::index_sequence<I...>,
                                      const Packs&... packs) {
  return apply_wide<Types, V>(functor, widen<typename Types::template Argument<I>>(packs)...);
}

template <template <class> class Functor, class T, size_t... I>
__global__ void __launch_bounds__(kThreads)
    pointwise_dense_kernel(PointwiseData data, Functor<compute_t<T>> functor, int64_t numel) {
  await_earlier();
  using Types = PointwiseTypes<Functor, sizeof...(I), T>;
  using Out = typename Types::Out;
  using C = typename Types::C;
  constexpr int V = Types::kVector;
  const int64_t begin = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (begin + V <= numel) {
    *reinterpret_cast<Pack<Out, V>*>(data.out + begin * int64_t{sizeof(Out)}) = apply<Types, V>(
        functor, std::index_sequence<I...>{},
        load_pack<typename Types::template In<I>, C, V>(
            data, I, begin * int64_t{sizeof(typename Types::template In<I>)}, false)...);
    return;
  }
#pragma unroll 1
  for (int64_t i = begin; i < numel; ++i)
    *reinterpret_cast<Pack<Out, 1>*>(data.out + i * int64_t{sizeof(Out)}) = apply<Types, 1>(
        functor, std::index_sequence<I...>{},
        load_pack<typename Types::template In<I>, C, 1>(
            data, I, i * int64_t{sizeof(typename Types::template In<I>)}, false)...);
}

// Each thread does V elements that are neighbours in the innermost dimension; bit I of `repeated`:
// input I has stride 0 there. `packs` is the number of elements divided by V.
template <template <class> class Functor, class T, int V, size_t... I>
__global__ void __launch_bounds__(kThreads)
    pointwise_strided_kernel(PointwiseData data, Functor<compute_t<T>> functor, uint32_t packs,
                             PointwiseMap map, unsigned repeated) {
  await_earlier();
  using Types = PointwiseTypes<Functor, sizeof...(I), T>;
  const uint32_t pack = blockIdx.x * kThreads + threadIdx.x;
  if (pack >= packs) return;
  uint32_t at[kMaxInputs + 1];
  map.offsets(pack, at);
  *reinterpret_cast<Pack<typename Types::Out, V>*>(data.out + at[0]) =
      apply<Types, V>(functor, std::index_sequence<I...>{},
                      load_pack<typename Types::template In<I>, typename Types::C, V>(
                          data, I, at[I + 1], (repeated >> I & 1) != 0)...);
}

// Inputs that lie across the output are turned in shared memory. See Note [Turned tiles].
// Everything comes in packs of 16 bytes.
template <template <class> class Functor, class T, size_t... I>
__global__ void __launch_bounds__(TurnedTile<T>::kUnits)
    pointwise_turned_kernel(PointwiseData data, Functor<compute_t<T>> functor, TurnedMap map) {
  await_earlier();
  using Types = PointwiseTypes<Functor, sizeof...(I), T>;
  using Tile = TurnedTile<T>;
  constexpr int V = Tile::V, kSide = Tile::kSide, kChunks = Tile::kChunks, kRows = Tile::kRows;
  constexpr int kInputs = sizeof...(I), kLines = Tile::kUnits / kChunks;
  __shared__ Tile tiles[kInputs];
  const int chunk = threadIdx.x % kChunks, group = threadIdx.x / kChunks;
  const uint32_t line0 = blockIdx.x * kSide, place0 = blockIdx.y * kSide;
  uint32_t base[kMaxInputs + 1];
  map.batch.offsets(blockIdx.z, base);
  // Of the output, this thread has the packs at `line` in the places from `place` on.
  const uint32_t line = line0 + chunk * V, place = place0 + group * kRows;
  Pack<T, V> packs[kInputs][kRows];
#pragma unroll
  for (int i = 0; i < kInputs; ++i) {
    const uint32_t along = map.strides[0][i + 1], across = map.strides[1][i + 1];
    const char* source = data.in[i] + base[i + 1];
    if (map.turned >> i & 1) {
#pragma unroll
      for (int k = 0; k < kSide / kLines; ++k)
        if (const uint32_t l = line0 + k * kLines + group, p = place0 + chunk * V;
            l < map.sizes[0] && p < map.sizes[1])
          tiles[i].put(k * kLines + group, chunk,
                       *reinterpret_cast<const Pack<T, V>*>(source + l * along + p * across));
    } else {
#pragma unroll
      for (int k = 0; k < kRows; ++k)
        if (line < map.sizes[0] && place + k < map.sizes[1])
          packs[i][k] = load_pack<T, compute_t<T>, V>(
              data, i, base[i + 1] + line * along + (place + k) * across,
              (map.repeated >> i & 1) != 0);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kInputs; ++i)
    if (map.turned >> i & 1) tiles[i].get(group, chunk, packs[i]);
#pragma unroll
  for (int k = 0; k < kRows; ++k)
    if (line < map.sizes[0] && place + k < map.sizes[1])
      *reinterpret_cast<Pack<T, V>*>(data.out + base[0] + line * map.strides[0][0] +
                                     (place + k) * map.strides[1][0]) =
          apply<Types, V>(functor, std::index_sequence<I...>{}, packs[I][k]...);
}

// Is the turning kernel built? For two inputs of floats, all of one type.
template <class Types, class T, size_t... I>
constexpr bool can_turn() {
  return sizeof...(I) == 2 && is_float(DTypeOf<T>::value) && sizeof(T) <= 4 &&
         std::is_same_v<typename Types::Out, T> &&
         (std::is_same_v<typename Types::template In<I>, T> && ...);
}

template <template <class> class Functor, class T, size_t... I>
constexpr PointwiseKernels pointwise_kernels(std::index_sequence<I...>) {
  using Types = PointwiseTypes<Functor, sizeof...(I), T>;
  PointwiseKernels result{
      reinterpret_cast<const void*>(&pointwise_dense_kernel<Functor, T, I...>),
      reinterpret_cast<const void*>(&pointwise_strided_kernel<Functor, T, 1, I...>),
      nullptr,
      nullptr,
      sizeof...(I),
      Types::kVector,
      TurnedTile<T>::kUnits,
      sizeof(typename Types::Out),
      {sizeof(typename Types::template In<I>)...}};
  // Broadcasting along rows, as a bias does, is common for floats only; other types go one element
  // at a time.
  if constexpr (is_float(DTypeOf<T>::value))
    result.strided_packs =
        reinterpret_cast<const void*>(&pointwise_strided_kernel<Functor, T, Types::kVector, I...>);
  if constexpr (can_turn<Types, T, I...>())
    result.turned = reinterpret_cast<const void*>(&pointwise_turned_kernel<Functor, T, I...>);
  return result;
}

// A PointwiseFn for one operator: its functor, how many tensors it takes, the types it is built for
// (bits of pointwise_types.h) and how many scalars the functor is made of.
template <template <class> class Functor, int kInputs, unsigned kTypes, int kScalars>
void run_pointwise(const ElementwisePlan& plan, DType dtype, const Scalar* params, int scalar_at) {
  if (plan.numel == 0) return;
  visit_dtype(dtype, [&]<class T>(TypeTag<T>) {
    if constexpr (covers(kTypes, DTypeOf<T>::value)) {
      static const PointwiseKernels kernels =
          pointwise_kernels<Functor, T>(std::make_index_sequence<kInputs>{});
      Functor<compute_t<T>> functor(params);
      const auto scalar =
          scalar_at == kNoScalar ? compute_t<T>{} : params[kScalars].template to<compute_t<T>>();
      launch_pointwise(kernels, plan, &functor, &scalar, sizeof scalar, scalar_at);
    } else {
      fail(ErrorKind::kRuntime, "elementwise kernel: not implemented on CUDA for ", name(dtype));
    }
  });
}

}  // namespace vt::cuda
