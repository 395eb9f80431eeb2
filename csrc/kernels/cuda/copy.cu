// Copies within a device, with any strides and between any two types.
#include "kernels/cuda/packs.h"
#include "kernels/cuda/strided.h"
#include "kernels/cuda/turned_tile.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// Elements as raw bytes: the same kernel moves every type of that size.
template <int kBytes>
struct alignas(kBytes) Raw {
  uint8_t bytes[kBytes];
};

template <class R>
__global__ void __launch_bounds__(kThreads)
    copy_strided_kernel(char* dst, const char* src, uint32_t numel, OffsetMap<2> map) {
  await_earlier();
  const uint32_t element = blockIdx.x * kThreads + threadIdx.x;
  if (element >= numel) return;
  uint32_t at[2];
  map.offsets(element, at);
  *reinterpret_cast<R*>(dst + at[0]) = *reinterpret_cast<const R*>(src + at[1]);
}

constexpr int kTile = 32, kTileRows = 8;

// dst[b][c][r] = src[b][r][c]: dst has its rows dense, src its columns. Strides in elements.
template <class R>
__global__ void __launch_bounds__(kTile* kTileRows)
    transpose_kernel(R* dst, const R* src, int64_t rows, int64_t cols, int64_t dst_pitch,
                     int64_t src_pitch, int64_t dst_batch, int64_t src_batch) {
  await_earlier();
  __shared__ alignas(16) char storage[kTile * (kTile + 1) * sizeof(R)];
  R(*tile)
  [kTile + 1] = reinterpret_cast<R(*)[kTile + 1]>(storage);  // one column more: no bank conflicts
  dst += blockIdx.z * dst_batch;
  src += blockIdx.z * src_batch;
  const int64_t row0 = int64_t{blockIdx.y} * kTile, col0 = int64_t{blockIdx.x} * kTile;
  for (int y = threadIdx.y; y < kTile; y += kTileRows)
    if (row0 + y < rows && col0 + threadIdx.x < cols)
      tile[y][threadIdx.x] = src[(row0 + y) * src_pitch + col0 + threadIdx.x];
  __syncthreads();
  for (int y = threadIdx.y; y < kTile; y += kTileRows)
    if (col0 + y < cols && row0 + threadIdx.x < rows)
      dst[(col0 + y) * dst_pitch + row0 + threadIdx.x] = tile[threadIdx.x][y];
}

// Packs of bytes would be moved byte by byte.
template <size_t kBytes>
using Unsigned = std::conditional_t<
    kBytes == 1, uint8_t,
    std::conditional_t<kBytes == 2, uint16_t, std::conditional_t<kBytes == 4, uint32_t, uint64_t>>>;

// The same where both sides can be cut into packs of 16 bytes. A block turns kTiles tiles that lie
// beside each other in src. See Note [Turned tiles].
template <class R, int kTiles>
__global__ void __launch_bounds__(TurnedTile<R>::kUnits)
    transpose_packs_kernel(R* dst, const R* src, int64_t rows, int64_t cols, int64_t dst_pitch,
                           int64_t src_pitch, int64_t dst_batch, int64_t src_batch) {
  await_earlier();
  using Tile = TurnedTile<R>;
  constexpr int V = Tile::V, kSide = Tile::kSide, kChunks = Tile::kChunks, kRows = Tile::kRows;
  __shared__ Tile tiles[kTiles];
  dst += blockIdx.z * dst_batch;
  src += blockIdx.z * src_batch;
  // A line of a tile is a row of src.
  const int64_t row0 = int64_t{blockIdx.x} * kSide, col0 = int64_t{blockIdx.y} * kTiles * kSide;
  constexpr int kAcross = kTiles * kChunks;       // packs of a row
  constexpr int kLines = Tile::kUnits / kAcross;  // that are loaded at once
  const int pack = threadIdx.x % kAcross, line = threadIdx.x / kAcross;
  Pack<R, V> packs[kSide / kLines];
#pragma unroll
  for (int k = 0; k < kSide / kLines; ++k)
    if (const int64_t row = row0 + k * kLines + line, col = col0 + pack * V;
        row < rows && col < cols)
      packs[k] = *reinterpret_cast<const Pack<R, V>*>(src + row * src_pitch + col);
#pragma unroll
  for (int k = 0; k < kSide / kLines; ++k)
    tiles[pack / kChunks].put(k * kLines + line, pack % kChunks, packs[k]);
  __syncthreads();
  const int chunk = threadIdx.x % kChunks, group = threadIdx.x / kChunks;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    Pack<R, V> across[kRows];
    tiles[t].get(group, chunk, across);
#pragma unroll
    for (int k = 0; k < kRows; ++k)
      if (const int64_t row = row0 + chunk * V, col = col0 + t * kSide + group * kRows + k;
          row < rows && col < cols) {
        uint4 words;
        memcpy(&words, &across[k], 16);
        // The compiler would take another form of this store apart.
        asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(
                         __cvta_generic_to_global(dst + col * dst_pitch + row)),
                     "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
                     : "memory");
      }
  }
}

template <class To, class From, int V>
__device__ __forceinline__ Pack<To, V> convert_pack(Pack<From, V> in) {
  if constexpr (std::is_same_v<compute_t<To>, float> && std::is_same_v<compute_t<From>, float>) {
    return narrow<To>(widen<float>(in));
  } else {
    Pack<To, V> out;
#pragma unroll
    for (int j = 0; j < V; ++j) out.v[j] = convert<To>(in.v[j]);
    return out;
  }
}

// Elements of a pack, and packs a thread: two where they are stored half as wide.
template <class To, class From>
inline constexpr int kConvertedPacks = sizeof(To) < sizeof(From) ? 2 : 1;
template <class To, class From>
inline constexpr int kConverted = 16 / static_cast<int>(std::max(sizeof(To), sizeof(From)));

template <class To, class From>
__global__ void __launch_bounds__(kThreads)
    convert_dense_kernel(To* dst, const From* src, int64_t numel) {
  await_earlier();
  constexpr int V = kConverted<To, From>, kPacks = kConvertedPacks<To, From>, kStep = kThreads * V;
  const int64_t begin = int64_t{blockIdx.x} * (kPacks * kStep) + threadIdx.x * V;
  if (begin + (kPacks - 1) * kStep + V <= numel) {
    Pack<From, V> packs[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      packs[p] = *reinterpret_cast<const Pack<From, V>*>(src + begin + p * kStep);
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      *reinterpret_cast<Pack<To, V>*>(dst + begin + p * kStep) = convert_pack<To>(packs[p]);
    return;
  }
  for (int p = 0; p < kPacks; ++p) {
    const int64_t first = begin + p * kStep;
    for (int64_t i = first; i < numel && i < first + V; ++i) dst[i] = convert<To>(src[i]);
  }
}

template <class To, class From>
__global__ void __launch_bounds__(kThreads)
    convert_strided_kernel(char* dst, const char* src, uint32_t numel, OffsetMap<2> map) {
  await_earlier();
  const uint32_t element = blockIdx.x * kThreads + threadIdx.x;
  if (element >= numel) return;
  uint32_t at[2];
  map.offsets(element, at);
  *reinterpret_cast<To*>(dst + at[0]) = convert<To>(*reinterpret_cast<const From*>(src + at[1]));
}

template <class F>
void visit_raw(size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f(Raw<1>{});
    case 2: return f(Raw<2>{});
    case 4: return f(Raw<4>{});
    case 8: return f(Raw<8>{});
    default: return f(Raw<16>{});
  }
}

// Takes runs that are dense on both sides as elements of up to 16 bytes.
size_t widen(ElementwisePlan& plan, size_t item) {
  if (plan.strides[0][0] != static_cast<int64_t>(item) ||
      plan.strides[1][0] != static_cast<int64_t>(item))
    return item;
  for (size_t wide = 16; wide > item; wide /= 2) {
    const auto factor = static_cast<int64_t>(wide / item);
    bool fits = plan.sizes[0] % factor == 0;
    for (int k = 0; k < 2; ++k) {
      fits &= is_aligned(plan.data[k], wide);
      for (int d = 1; d < plan.ndim; ++d)
        fits &= plan.strides[k][d] % static_cast<int64_t>(wide) == 0;
    }
    if (!fits) continue;
    plan.sizes[0] /= factor;
    plan.numel /= factor;
    plan.strides[0][0] = plan.strides[1][0] = static_cast<int64_t>(wide);
    return wide;
  }
  return item;
}

// A matrix, or a batch of them, whose source runs along another dimension than its target: through
// shared memory, so that both sides move whole lines. False where the plan is something else.
bool transpose(const Queue& queue, const ElementwisePlan& plan, size_t item) {
  const auto step = static_cast<int64_t>(item);
  if (plan.ndim < 2 || plan.ndim > 3 || plan.strides[0][0] != step || plan.strides[1][0] == step)
    return false;
  int across = 0;  // the dimension that the source runs along
  for (int d = 1; d < plan.ndim; ++d)
    if (plan.strides[1][d] == step) across = d;
  if (across == 0) return false;
  const int batch = plan.ndim == 2 ? 0 : 3 - across;
  const int64_t rows = plan.sizes[0], cols = plan.sizes[across],
                count = batch ? plan.sizes[batch] : 1;
  if (count > 65535 || ceil_div(rows, kTile) > 65535 || rows < 8 || cols < 8) return false;
  const int64_t dst_pitch = plan.strides[0][across] / step, src_pitch = plan.strides[1][0] / step,
                dst_batch = batch ? plan.strides[0][batch] / step : 0,
                src_batch = batch ? plan.strides[1][batch] / step : 0;
  const dim3 grid(static_cast<unsigned>(ceil_div(cols, kTile)),
                  static_cast<unsigned>(ceil_div(rows, kTile)), static_cast<unsigned>(count));
  const int64_t pack = 16 / step, side = 8 * pack;  // of a tile; mostly empty ones are not worth it
  const bool packed = (rows | cols | dst_pitch | src_pitch | dst_batch | src_batch) % pack == 0 &&
                      is_aligned(plan.data[0], 16) && is_aligned(plan.data[1], 16) &&
                      cols / side < 65535 && rows >= side / 2 && cols >= side / 2;
  visit_raw(item, [&]<class R>(R) {
    if constexpr (sizeof(R) <= 8) {
      using U = Unsigned<sizeof(R)>;
      auto run = [&]<int kTiles>(std::integral_constant<int, kTiles>) {
        const dim3 blocks(static_cast<unsigned>(ceil_div(rows, side)),
                          static_cast<unsigned>(ceil_div(cols, side * kTiles)),
                          static_cast<unsigned>(count));
        queue.launch_early(&transpose_packs_kernel<U, kTiles>, blocks, TurnedTile<U>::kUnits,
                           reinterpret_cast<U*>(plan.data[0]),
                           reinterpret_cast<const U*>(plan.data[1]), rows, cols, dst_pitch,
                           src_pitch, dst_batch, src_batch);
      };
      if (packed) {
        // Two tiles a block where there are many.
        if constexpr (sizeof(U) > 1) {
          if (rows / side * (cols / side) * count >= int64_t{queue.multiprocessors()} * 32)
            return run(std::integral_constant<int, 2>{});
        }
        return run(std::integral_constant<int, 1>{});
      }
    }
    queue.launch_early(&transpose_kernel<R>, grid, dim3(kTile, kTileRows),
                       reinterpret_cast<R*>(plan.data[0]), reinterpret_cast<const R*>(plan.data[1]),
                       rows, cols, dst_pitch, src_pitch, dst_batch, src_batch);
  });
  return true;
}

void copy_same_type(const Queue& queue, const ElementwisePlan& plan, size_t item) {
  if (plan.dense) {
    VT_CUDA(cudaMemcpyAsync(plan.data[0], plan.data[1], static_cast<size_t>(plan.numel) * item,
                            cudaMemcpyDeviceToDevice, queue.stream()));
    return;
  }
  if (transpose(queue, plan, item)) return;
  for_each_32bit_piece(plan, [&](ElementwisePlan piece) {
    visit_raw(widen(piece, item), [&]<class R>(R) {
      queue.launch_early(&copy_strided_kernel<R>, ceil_div(piece.numel, kThreads), kThreads,
                         piece.data[0], piece.data[1], piece.numel, offset_map<2>(piece));
    });
  });
}

template <class To, class From>
void convert_plan(const Queue& queue, ElementwisePlan plan) {
  if (plan.dense && is_aligned(plan.data[0], 16) && is_aligned(plan.data[1], 16)) {
    constexpr int64_t kEach = int64_t{kThreads} * kConverted<To, From> * kConvertedPacks<To, From>;
    queue.launch_early(&convert_dense_kernel<To, From>, ceil_div(plan.numel, kEach), kThreads,
                       reinterpret_cast<To*>(plan.data[0]),
                       reinterpret_cast<const From*>(plan.data[1]), plan.numel);
    return;
  }
  if (plan.dense) {
    const size_t items[] = {sizeof(To), sizeof(From)};
    flatten_dense(plan, items);
  }
  for_each_32bit_piece(plan, [&](const ElementwisePlan& piece) {
    queue.launch_early(&convert_strided_kernel<To, From>, ceil_div(piece.numel, kThreads), kThreads,
                       piece.data[0], piece.data[1], piece.numel, offset_map<2>(piece));
  });
}

}  // namespace

void copy(const Tensor& dst, const Tensor& src) {
  if (dst.numel() == 0) return;
  const Tensor* inputs[] = {&src};
  const ElementwisePlan plan = plan_elementwise(dst, inputs);
  const Queue queue("copy", dst.device());
  if (dst.dtype() == src.dtype()) return copy_same_type(queue, plan, dst.item_size());
  visit_dtype(dst.dtype(), [&]<class To>(TypeTag<To>) {
    visit_dtype(src.dtype(), [&]<class From>(TypeTag<From>) {
      if constexpr (!std::is_same_v<To, From>) convert_plan<To, From>(queue, plan);
    });
  });
}

}  // namespace vt::cuda
