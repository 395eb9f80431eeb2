// Sizes of the memory of a site, and the calls that algorithms make on it.
#include "collectives/cuda/site.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

#include "base/env.h"
#include "base/error.h"
#include "device/backend.h"
#include "device/capture.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/graph.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"

namespace vt::collectives::gpu {
namespace {

using cuda::DeviceGuard;

constexpr int kLeftProcessors = 4;  // Note [One kernel a device]
constexpr int kBlocksBeside = 16, kLoadingBlocksBeside = 32;
constexpr size_t kLargeBeside = 4 << 20;  // of a part; shorter ones are done before it matters
constexpr size_t kPage = 4096;
constexpr size_t kScratchBytes = 64 << 20;                              // of a rank
constexpr size_t kLargeScratchBytes = 256 << 20, kShareOfMemory = 512;  // a rank's, of a device's
constexpr size_t kStageBytes = 32 << 20;                                // of a rank

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
  has_clusters_ = true;
  for (size_t d = 0; d < mesh.devices().size(); ++d) {
    const Device device = mesh.devices()[d];
    has_clusters_ &= cuda::properties(device.index).compute_major >= 9;
    Clique& clique = cliques_.emplace_back();
    int here = 0;
    for (int r = 0; r < ranks(); ++r) {
      clique.pads[r] = memory_->slot<fabric::Pad>(r, 0);
      if (mesh.device(r) == device) clique.here[here++] = static_cast<uint8_t>(r);
    }
    clique.board = faults_.board();
    clique.timeout_ns = static_cast<uint64_t>(options.timeout_seconds * 1e9);
    clique.ranks = ranks();
    processors_.push_back(cuda::multiprocessors(device.index));
    ranks_here_.push_back(here);
  }
  early_launch_ = options.early_launch && has_clusters_;  // both came with the same devices
}

// Whether what is queued on the devices' default streams ends within the time that ranks wait for
// each other. Memory for all devices is made by calls that wait for it, for ever if it never ends:
// a unit that goes without finds out who is late, and says so.
bool Site::comes_to_rest() const {
  using Clock = std::chrono::steady_clock;
  const std::chrono::duration<double> patience(options_.timeout_seconds);
  const Clock::time_point start = Clock::now();
  for (Device device : mesh_.devices())
    while (!cuda::query_stream({device})) {
      if (Clock::now() - start > patience) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  return true;
}

void Site::take_large_scratch() {
  if (has_asked_ || !spread()) return;
  has_asked_ = true;
  if (!comes_to_rest()) return;
  size_t bytes = kLargeScratchBytes;
  for (Device device : mesh_.devices())
    bytes = std::min(bytes, backend(device).properties(device.index).total_memory / kShareOfMemory);
  if (bytes <= scratch_bytes_) return;
  try {
    large_scratch_ = fabric::SymmetricMemory::create(mesh_, bytes);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kOutOfMemory) throw;
    return;  // smaller pieces will do
  }
  scratch_bytes_ = bytes;
}

int Site::most_blocks(int threads, int blocks_per_processor) const {
  if (blocks_per_processor == 0) blocks_per_processor = kMaxThreads / threads;
  int blocks = options_.max_blocks > 0 ? std::min(options_.max_blocks, kMaxBlocks) : kMaxBlocks;
  const int left = spread() ? kLeftProcessors : 0;
  for (size_t d = 0; d < processors_.size(); ++d)
    blocks = std::min(blocks, (processors_[d] - left) * blocks_per_processor / ranks_here_[d]);
  return blocks;
}

int Site::limit(const Unit& unit) const {
  if (options_.max_blocks > 0) return options_.max_blocks;
  const bool beside =
      spread() && !unit.in_line && !unit.call().alone && unit.bytes() >= kLargeBeside;
  if (!beside || options_.algorithm != Algorithm::kAuto) return 0;
  return unit.call().kind == Kind::kReduceScatter ? kLoadingBlocksBeside : kBlocksBeside;
}

void Site::begin(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner) {
  streams_.begin(unit, owner);
  narrow_ = narrow(unit);
  half_ &= streams_.adjacent();
  for (Clique& clique : cliques_) clique.kind = static_cast<uint8_t>(unit.call().kind);
}

bool Site::reachable(const Unit& unit) const {
  const auto can = [&](const Tensor& t) {
    return !t.defined() || fabric::reachable(mesh_, t.device(), t.data(), t.bytes());
  };
  return std::all_of(unit.calls.begin(), unit.calls.end(), [&](const Call& call) {
    return can(call.input) && (call.input.same(call.output) || can(call.output));
  });
}

void Site::launch(const void* kernel, int blocks, int threads, void* args, Clique& clique,
                  size_t shared_bytes) const {
  start(kernel, blocks, threads, args, clique, shared_bytes, false);
  half_ = false;
}

void Site::launch_early(const void* kernel, int blocks, int threads, void* args,
                        Clique& clique) const {
  const bool half = 2 * blocks <= most_blocks(std::max(threads, kMaxThreads / 2));
  start(kernel, blocks, threads, args, clique, 0, early_launch_ && half && half_);
  half_ = half;
}

void Site::start(const void* kernel, int blocks, int threads, void* args, Clique& clique,
                 size_t shared_bytes, bool early) const {
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t how{};
  how.blockDim = dim3(threads);
  how.dynamicSmemBytes = shared_bytes;
  how.attrs = attributes;
  if (early) {
    cudaLaunchAttribute& attribute = attributes[how.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  // Note [Blocks in pairs] Large products run in pairs of blocks on neighbouring multiprocessors:
  // one taken from each of two pairs would stop four.
  if (narrow_ && has_clusters_ && blocks % 2 == 0 && !early && shared_bytes == 0) {
    cudaLaunchAttribute& attribute = attributes[how.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = 2;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  }
  void* parameters[] = {args};
  for (size_t d = 0; d < cliques_.size(); ++d) {
    clique = cliques_[d];
    how.gridDim = dim3(blocks, ranks_here_[d]);
    how.stream = cuda::handle_of(streams_.of_device(static_cast<int>(d)));
    DeviceGuard guard(mesh_.devices()[d].index);
    VT_CUDA(cudaLaunchKernelExC(&how, kernel, parameters));
  }
}

void Site::launch_alone(const void* kernel, Stream stream, int blocks, int threads,
                        const void* args) const {
  void* parameters[] = {const_cast<void*>(args)};
  DeviceGuard guard(stream.device.index);
  VT_CUDA(cudaLaunchKernel(kernel, dim3(blocks), dim3(threads), parameters, 0,
                           cuda::handle_of(stream)));
  half_ = false;
}

void Site::join_side_streams() {
  if (streams_.capturing()) return;
  for (int r = 0; r < ranks(); ++r) side_.join(r, streams_.at(r));
}

void Site::copy(int rank, void* to, const void* from, size_t bytes) const {
  if (to == from || bytes == 0) return;
  DeviceGuard guard(device_index(rank));
  VT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, streams_[rank]));
  half_ = false;
}

void Site::reset() {
  using Clock = std::chrono::steady_clock;
  faults_.abort();  // whoever still waits in a kernel leaves
  const double patience = std::max(options_.timeout_seconds, env::fabric_timeout_seconds());
  const Clock::time_point start = Clock::now();
  while (!streams_.drained()) {
    VT_CHECK(Clock::now() - start < std::chrono::duration<double>(patience), kFabricTimeout,
             "reset: ", mesh_, " has been at work for another ", patience,
             " s, on what was queued before the communicator's calls or on these; call reset() "
             "again when it has ended, and keep the calls' tensors until then");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  streams_.synchronize();
  streams_.use_own();
  for (int r = 0; r < ranks(); ++r) {
    DeviceGuard guard(device_index(r));
    VT_CUDA(cudaMemsetAsync(memory_->slot(r), 0, scratch_, streams_[r]));
    VT_CUDA(cudaStreamSynchronize(streams_[r]));
  }
  faults_.clear();
  half_ = false;
}

}  // namespace vt::collectives::gpu
