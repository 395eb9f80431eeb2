// The kernels: TMA and wgmma in turns. Of the two groups of warps in a block one multiplies its
// tile while the other one applies the epilogue to its own, so arithmetic of GELU and traffic of
// results stay hidden behind the tensor cores.
#pragma once
#include <cutlass/bfloat16.h>
#include <cutlass/epilogue/thread/activation.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/half.h>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/epilogue/fusion/sm90_visitor_tma_warpspecialized.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <type_traits>

#include "base/error.h"
#include "kernels/cuda/gelu/cute/column_sums.h"
#include "kernels/cuda/gelu/cute/formulas.h"
#include "kernels/cuda/gelu/cute/gelu_and_slope.h"
#include "kernels/cuda/gelu/cute/launch.h"

namespace vt::cuda::gelu {

namespace fusion = cutlass::epilogue::fusion;
namespace epilogue = cutlass::epilogue::collective;
namespace mainloop = cutlass::gemm::collective;

template <class T>
using Number = std::conditional_t<std::is_same_v<T, Half>, cutlass::half_t, cutlass::bfloat16_t>;

template <int kTileColumns>
using Tile = cute::Shape<cute::Int<kTileRows>, cute::Int<kTileColumns>, cute::_64>;
// Of a tile: what the epilogue does at once. A wide one leaves no room for more, unless the product
// has a stage less.
template <class Tile, int kPartColumns = cute::size<1>(Tile{}) == kColumns ? 64 : 32>
using Part = cute::Shape<cute::_64, cute::Int<kPartColumns>>;
// Parts in shared memory: on their way in, and on their way out. The product's stages get the rest.
// (More parts than these gain nothing with GELU, and 0.3 to 1% without; H200, GPT-2's sizes.)
template <int kPartsIn, int kPartsOut>
struct Parts {
  static constexpr int kIn = kPartsIn, kOut = kPartsOut;
};
using Cluster = cute::Shape<cute::_2, cute::_1, cute::_1>;  // two blocks share the tile of b
using InTurns = cutlass::epilogue::TmaWarpSpecialized;
using RowMajor = cutlass::layout::RowMajor;
inline constexpr auto kNearest = cutlass::FloatRoundStyle::round_to_nearest;
inline constexpr int kLine = 8;  // elements of 16 bytes

template <class A, class B>
using Sum = fusion::Sm90EVT<fusion::Sm90Compute<cutlass::plus, float, float, kNearest>, A, B>;

// Of 16 bits that hold a slope of GELU, which lies between -0.13 and 1.13, float16 rounds least.
template <class N, bool kSlope>
using Beside = std::conditional_t<kSlope, cutlass::half_t, N>;

// gelu(accumulator + bias); what it is applied to, or GELU's slope there, is stored on the way.
template <class N, class Tile, bool kSlope>
struct Forward : Parts<4, 2> {
  // With its slope there is more to do for a part than waiting for one of four stages costs: 3% at
  // GPT-2's sizes (32768x3072x768, H200 at the power limit: 306 to 298 us).
  using Piece = std::conditional_t<kSlope, Part<Tile, 64>, Part<Tile>>;
  using Source = void;
  using OrderOfB = cutlass::layout::ColumnMajor;
  using Shared = epilogue::detail::EpilogueDescriptor<Tile, Piece, void, N, InTurns>;
  using Kept = epilogue::detail::AuxStoreDescriptor<Shared, RowMajor, Beside<N, kSlope>>;
  using Store = fusion::Sm90AuxStore<Parts<4, 2>::kOut, Piece, Beside<N, kSlope>, kNearest,
                                     typename Kept::Stride, typename Kept::SmemLayoutAtom,
                                     typename Kept::CopyOpR2S>;
  using Bias = fusion::Sm90RowBroadcast<0, Tile, N, float>;
  using Before = Sum<fusion::Sm90AccFetch, Bias>;
  using Tree = std::conditional_t<kSlope, fusion::Sm90EVT<GeluAndSlope<Store>, Before>,
                                  fusion::Sm90EVT<fusion::Sm90Compute<Apply, N, float, kNearest>,
                                                  fusion::Sm90EVT<Store, Before>>>;
};

// accumulator * gelu'(aux), or accumulator * aux, and the sums of a tile's columns.
template <class N, class Tile, bool kSlope>
struct Backward : std::conditional_t<cute::size<1>(Tile{}) == kColumns, Parts<4, 2>, Parts<8, 4>> {
  using Source = Beside<N, kSlope>;
  using OrderOfB = RowMajor;
  using Function =
      std::conditional_t<kSlope, fusion::Sm90Compute<cutlass::multiplies, float, float, kNearest>,
                         fusion::Sm90Compute<Gradient, float, float, kNearest>>;
  using Tree =
      fusion::Sm90EVT<ColumnSums<Tile, Part<Tile>>, fusion::Sm90EVT<Function, fusion::Sm90AccFetch,
                                                                    fusion::Sm90SrcFetch<Source>>>;
};

// The accumulator alone, where b lies along n: the gradient of a layer's input.
template <class N>
struct Plain : Parts<4, 4> {
  using Source = void;
  using OrderOfB = RowMajor;
  using Tree =
      fusion::Sm90EVT<fusion::Sm90Compute<cutlass::epilogue::thread::Identity, N, float, kNearest>,
                      fusion::Sm90AccFetch>;
};

// accumulator + bias.
template <class N, class Tile>
struct Linear : Parts<4, 4> {
  using Source = void;
  using OrderOfB = cutlass::layout::ColumnMajor;
  using Bias = fusion::Sm90RowBroadcast<0, Tile, N, float>;
  using Tree = fusion::Sm90EVT<fusion::Sm90Compute<cutlass::plus, N, float, kNearest>,
                               fusion::Sm90AccFetch, Bias>;
};

// accumulator + bias + another matrix.
template <class N, class Tile>
struct LinearAdd : Parts<6, 4> {
  using Source = N;
  using OrderOfB = cutlass::layout::ColumnMajor;
  using Bias = fusion::Sm90RowBroadcast<0, Tile, N, float>;
  using Tree = fusion::Sm90EVT<fusion::Sm90Compute<cutlass::plus, N, float, kNearest>,
                               Sum<fusion::Sm90AccFetch, Bias>, fusion::Sm90SrcFetch<N>>;
};

// The part that a way asks for, else the usual one.
template <class Way, class Tile>
struct PieceOf {
  using Type = Part<Tile>;
};
template <class Way, class Tile>
  requires requires { typename Way::Piece; }
struct PieceOf<Way, Tile> {
  using Type = typename Way::Piece;
};

template <class N, class Tile, class Way>
struct Assembled {
  using Piece = typename PieceOf<Way, Tile>::Type;
  // Parts that are read give their memory to results; where none are, a store waits for the part
  // behind it.
  static constexpr bool kReads = !std::is_void_v<typename Way::Source>;
  using Policy =
      cutlass::epilogue::Sm90TmaWarpSpecialized<Way::kIn, Way::kOut, cute::size(Piece{}) / 128,
                                                kReads, !kReads>;
  using Epilogue =
      typename epilogue::detail::Sm90TmaBuilderImpl<Tile, Piece, float, float, typename Way::Source,
                                                    RowMajor, kLine, N, RowMajor, kLine,
                                                    typename Way::Tree, Policy>::CollectiveOp;
  using Mainloop = typename mainloop::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, N, RowMajor, kLine, N,
      typename Way::OrderOfB, kLine, float, Tile, Cluster,
      mainloop::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
      cutlass::gemm::KernelTmaWarpSpecializedPingpong>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop,
                                                      Epilogue, cutlass::gemm::PersistentScheduler>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
};

// All but the epilogue's tree.
template <class N, class Kernels>
typename Kernels::Gemm::Arguments arguments_of(const Queue& queue, const Gemm& g) {
  typename Kernels::Gemm::Arguments result{};
  const auto size = [](int64_t x) { return static_cast<int>(x); };
  result.mode = cutlass::gemm::GemmUniversalMode::kGemm;
  result.problem_shape = {size(g.m), size(g.n), size(g.k), 1};
  result.mainloop.ptr_A = static_cast<const N*>(g.a.data);
  result.mainloop.ptr_B = static_cast<const N*>(g.b.data);
  cute::get<0>(result.mainloop.dA) = g.a.row_stride;
  if constexpr (std::is_same_v<typename Kernels::Mainloop::StrideB,
                               cute::Stride<int64_t, cute::_1, int64_t>>)
    cute::get<0>(result.mainloop.dB) = g.b.column_stride;
  else cute::get<1>(result.mainloop.dB) = g.b.row_stride;
  result.epilogue.ptr_D = static_cast<N*>(g.out.data);
  cute::get<0>(result.epilogue.dD) = g.out.row_stride;
  result.hw_info.device_id = queue.index();
  result.hw_info.sm_count = queue.multiprocessors();
  return result;
}

template <class Kernels>
void launch(const Queue& queue, const typename Kernels::Gemm::Arguments& arguments,
            void* workspace = nullptr) {
  using Kernel = typename Kernels::Kernel;
  constexpr int kShared = Kernel::SharedStorageSize;
  queue.allow_shared(reinterpret_cast<const void*>(&cutlass::device_kernel<Kernel>), kShared);
  auto params = Kernel::to_underlying_arguments(arguments, workspace);
  const cutlass::Status status = Kernels::Gemm::run(params, queue.stream());
  VT_CHECK(status == cutlass::Status::kSuccess, kRuntime,
           "matmul: the kernel made here could not be launched: ",
           cutlass::cutlassGetStatusString(status));
}

}  // namespace vt::cuda::gelu
