// Grids and tiles of the chain of neighbours.
#include "collectives/cuda/algorithms/ring.h"

#include <algorithm>

#include "base/error.h"
#include "collectives/cuda/algorithms/kernels.h"
#include "collectives/cuda/algorithms/two_shot.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"

namespace vt::collectives::gpu::ring {
namespace {

constexpr int kChannels = 32;
constexpr size_t kMostStages = 12;

bool begins_at_a_word(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

// Of the type that sums are taken in: 16-bit floats are summed as float.
size_t sum_size(DType dtype) {
  return visit_dtype(dtype,
                     [](auto tag) { return sizeof(compute_t<typename decltype(tag)::type>); });
}

bool has_bulk_copies() {
  int device = 0, major = 0;
  VT_CUDA(cudaGetDevice(&device));
  VT_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return major >= 9;
}

}  // namespace

// A kernel of kThreads threads that takes a whole multiprocessor: f, which asks for kMaxThreads, is
// not for it; setting the attribute loads it.
void for_each_kernel(void (*)(const void* kernel)) {
  if (*unavailable() || !has_bulk_copies()) return;
  for (int t = 0; t < kDTypeCount; ++t) {
    const auto dtype = static_cast<DType>(t);
    if (dtype == DType::kBool) continue;
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax}) {
      VT_CUDA(cudaFuncSetAttribute(kernel(dtype, op, 2),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(kSharedBytes)));
    }
  }
}

bool suits(const Site&, const Unit&) { return false; }

void run(Site& site, const Unit& unit, const Plan& plan) {
  VT_CHECK(!*unavailable(), kRuntime, "all_reduce by the ring: ", unavailable());
  {
    const cuda::DeviceGuard guard(site.device_index(0));
    VT_CHECK(has_bulk_copies(), kRuntime, "all_reduce by the ring: ", site.mesh(),
             " has no bulk copies (compute capability 9.0)");
  }
  const void* const function = kernel(unit.dtype, unit.call().op, site.ranks());
  const bool returns = site.ranks() > 2;
  direct::for_each_piece(site, unit, [&](direct::Args& buffers, size_t bytes) {
    bool aligned = true;
    for (int r = 0; r < site.ranks(); ++r)
      aligned &= begins_at_a_word(buffers.in[r]) && begins_at_a_word(buffers.out[r]);
    // Bulk copies move whole 16-byte words between addresses that are multiples of 16; what is left
    // has the same bits from another algorithm.
    const size_t whole = aligned ? bytes / 16 * 16 : 0;
    if (whole > 0) {
      Args args{};
      args.buffers = buffers;
      args.bytes = static_cast<int64_t>(whole);
      // Rank 0 sends its input as it is, so on two ranks no partial sum is wider than that.
      const size_t tile = sum_size(unit.dtype) / item_size(unit.dtype);
      const size_t own = kTileBytes / tile;
      args.stage_bytes = static_cast<int>(own + (returns ? kTileBytes : own));
      const size_t back = returns ? kReturnStages * static_cast<size_t>(kTileBytes) : 0;
      args.stages = static_cast<int>(
          std::min<size_t>((kSharedBytes - kBarrierBytes - back) / args.stage_bytes, kMostStages));
      const size_t shared =
          kBarrierBytes + static_cast<size_t>(args.stages) * args.stage_bytes + back;
      for (int r = 0; r < site.ranks(); ++r) args.scratch[r] = site.scratch<char>(r);
      const int most =
          std::min(site.most_blocks(kThreads, 1), plan.blocks ? plan.blocks : kChannels);
      const int blocks = static_cast<int>(
          std::clamp<size_t>(whole / (4 * static_cast<size_t>(kTileBytes)), 1, most));
      site.launch(function, blocks, kThreads, &args, args.buffers.clique, shared);
    }
    if (whole == bytes) return;
    direct::Args rest = buffers;
    for (int r = 0; r < site.ranks(); ++r) {
      rest.in[r] = static_cast<const char*>(rest.in[r]) + whole;
      rest.out[r] = static_cast<char*>(rest.out[r]) + whole;
    }
    two_shot::run_piece(site, rest, bytes - whole, unit.dtype, unit.call().op, {});
  });
}

}  // namespace vt::collectives::gpu::ring
