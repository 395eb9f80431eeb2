// Sizes of the memory of a site, and the calls that algorithms make on it.
#include "collectives/cuda/site.h"

#include <algorithm>
#include <mutex>

#include "base/error.h"
#include "device/backend.h"
#include "device/capture.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/graph.h"
#include "device/cuda/unit_lock.h"

namespace vt::collectives::gpu {
namespace {

using cuda::DeviceGuard;

constexpr size_t kPage = 4096;
constexpr size_t kScratchBytes = 64 << 20;  // of a rank
constexpr size_t kStageBytes = 32 << 20;    // of a rank

}  // namespace

Site::Site(const Mesh& mesh, const Options& options, const std::vector<size_t>& mailboxes)
    : mesh_(mesh), options_(options), side_(mesh), streams_(mesh) {
  size_t end = round_up(sizeof(fabric::Pad), kPage);
  for (size_t bytes : mailboxes) {
    mailboxes_.push_back(end);
    end += round_up(bytes, kPage);
  }
  scratch_ = end;
  scratch_bytes_ = kScratchBytes;
  stage_ = scratch_ + scratch_bytes_;
  stage_bytes_ = options.always_stage || spread() ? kStageBytes : 0;
  memory_ = fabric::SymmetricMemory::create(mesh, stage_ + stage_bytes_);
  const std::string gpu = backend(mesh.device(0)).properties(device_index(0)).name;
  bool alike = true;
  for (Device device : mesh.devices())
    alike &= backend(device).properties(device.index).name == gpu;
  if (alike) measured_ = measured_for(mesh, gpu);
  early_launch_ = options.early_launch;
  for (int r = 0; r < ranks(); ++r) {
    half_.push_back(false);
    processors_.push_back(cuda::multiprocessors(device_index(r)));
    early_launch_ &= cuda::properties(device_index(r)).compute_major >= 9;
  }
}

int Site::most_blocks(int threads, int blocks_per_processor) const {
  if (blocks_per_processor == 0) blocks_per_processor = kMaxThreads / threads;
  int blocks = options_.max_blocks > 0 ? std::min(options_.max_blocks, kMaxBlocks) : kMaxBlocks;
  for (int r = 0; r < ranks(); ++r)
    blocks =
        std::min(blocks, processors_[r] * blocks_per_processor / mesh_.ranks_on(mesh_.device(r)));
  return blocks;
}

Clique Site::clique(int rank) const {
  Clique result{};
  for (int r = 0; r < ranks(); ++r) result.pads[r] = memory_->slot<fabric::Pad>(r, 0);
  result.board = faults_.board();
  result.timeout_ns = static_cast<uint64_t>(options_.timeout_seconds * 1e9);
  result.rank = rank;
  result.ranks = ranks();
  result.kind = static_cast<uint8_t>(kind_);
  return result;
}

bool Site::reachable(const Unit& unit) const {
  const auto can = [&](const Tensor& t) {
    return !t.defined() || fabric::reachable(mesh_, t.device(), t.data(), t.bytes());
  };
  return std::all_of(unit.calls.begin(), unit.calls.end(), [&](const Call& call) {
    return can(call.input) && (call.input.same(call.output) || can(call.output));
  });
}

bool Site::one_capture() const {
  if (VT_LIKELY(!any_capture())) return true;
  const uint64_t first = cuda::capture_id(streams_.at(0));
  for (int r = 1; r < ranks(); ++r)
    if (cuda::capture_id(streams_.at(r)) != first) return false;
  return true;
}

const Measured* Site::measured(const Unit& unit) const {
  if (measured_.empty()) return nullptr;
  const Call& call = unit.call();
  const bool in_place =
      call.input.defined() && call.output.defined() && call.input.data() == call.output.data();
  return find_measured(measured_, call.kind, item_size(unit.dtype), in_place, unit.bytes());
}

void Site::launch(const void* kernel, int rank, int blocks, int threads, const void* args,
                  size_t shared_bytes) const {
  void* parameters[] = {const_cast<void*>(args)};
  DeviceGuard guard(device_index(rank));
  VT_CUDA(cudaLaunchKernel(kernel, dim3(blocks), dim3(threads), parameters, shared_bytes,
                           streams_[rank]));
  half_[rank] = false;
}

void Site::launch_early(const void* kernel, int rank, int blocks, int threads,
                        const void* args) const {
  const bool half = 2 * blocks <= most_blocks(threads);
  if (!early_launch_ || !half || !half_[rank]) {
    launch(kernel, rank, blocks, threads, args);
    half_[rank] = half;
    return;
  }
  void* parameters[] = {const_cast<void*>(args)};
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = dim3(blocks);
  how.blockDim = dim3(threads);
  how.stream = streams_[rank];
  how.attrs = &early;
  how.numAttrs = 1;
  DeviceGuard guard(device_index(rank));
  VT_CUDA(cudaLaunchKernelExC(&how, kernel, parameters));
}

void Site::copy(int rank, void* to, const void* from, size_t bytes) const {
  if (to == from || bytes == 0) return;
  DeviceGuard guard(device_index(rank));
  VT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, streams_[rank]));
}

void Site::reset() {
  faults_.abort();  // whoever still waits in a kernel leaves
  streams_.synchronize();
  for (int r = 0; r < ranks(); ++r) {
    DeviceGuard guard(device_index(r));
    VT_CUDA(cudaMemsetAsync(memory_->slot(r), 0, scratch_, streams_[r]));
  }
  streams_.synchronize();
  faults_.clear();
}

}  // namespace vt::collectives::gpu
