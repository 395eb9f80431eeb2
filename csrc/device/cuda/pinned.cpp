// The cache of pinned blocks.
#include "device/cuda/pinned.h"

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "device/cuda/capture_mode.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"

namespace vt::cuda {
namespace {

struct PinnedBlock {
  char* data = nullptr;
  size_t size = 0;
  std::vector<Stream> uses;    // while live
  std::vector<Event*> events;  // while it waits to be free
};

struct Cache {
  std::mutex mutex;
  std::map<const char*, PinnedBlock> live;          // by address
  std::map<size_t, std::vector<PinnedBlock>> free;  // by size
  std::vector<PinnedBlock> waiting;
  std::vector<PinnedBlock> captured;  // a graph may read or write them at any replay: never reused
};

Cache& cache() {
  static auto* const instance = new Cache;
  return *instance;
}

// Four classes a power of two from a page up: at most a fifth of a block is unused.
size_t class_of(size_t bytes) {
  const size_t step = std::max<size_t>(std::bit_floor(bytes) / 4, 4096);
  return (bytes + step - 1) / step * step;
}

bool done(const PinnedBlock& block) {
  return std::all_of(block.events.begin(), block.events.end(),
                     [](Event* e) { return query_event(*e); });
}

bool is_captured(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (stream.handle) VT_CUDA(cudaStreamIsCapturing(handle_of(stream), &status));
  return status != cudaStreamCaptureStatusNone;
}

void collect(Cache& own) {
  std::erase_if(own.waiting, [&](PinnedBlock& block) {
    if (!done(block)) return false;
    for (Event* event : block.events) destroy_event(event);
    block.events.clear();
    own.free[block.size].push_back(std::move(block));
    return true;
  });
}

// The live block around `data`, or null.
PinnedBlock* around(Cache& own, const void* data) {
  auto next = own.live.upper_bound(static_cast<const char*>(data));
  if (next == own.live.begin()) return nullptr;
  PinnedBlock& block = std::prev(next)->second;
  return static_cast<const char*>(data) < block.data + block.size ? &block : nullptr;
}

}  // namespace

void* allocate_pinned(size_t bytes) {
  VT_CHECK(count() > 0, kRuntime,
           "pin_memory: there is no CUDA device to pin memory for: ", unavailable_reason());
  const size_t size = class_of(std::max<size_t>(bytes, 1));
  Cache& own = cache();
  RelaxedCapture relaxed;
  std::lock_guard lock(own.mutex);
  collect(own);
  PinnedBlock block;
  if (auto& free = own.free[size]; !free.empty()) {
    block = std::move(free.back());
    free.pop_back();
  } else {
    void* data = nullptr;
    std::lock_guard unit(launch_unit_mutex());
    const cudaError_t code = cudaHostAlloc(&data, size, cudaHostAllocPortable);
    if (code == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      fail(ErrorKind::kOutOfMemory, "pin_memory: cannot pin ", bytes,
           " bytes of host memory; use fewer or smaller pinned tensors, or pageable ones");
    }
    VT_CUDA(code);
    block.data = static_cast<char*>(data);
    block.size = size;
  }
  void* result = block.data;
  own.live.emplace(block.data, std::move(block));
  return result;
}

void deallocate_pinned(void* data) noexcept {
  Cache& own = cache();
  std::lock_guard lock(own.mutex);
  auto found = own.live.find(static_cast<const char*>(data));
  if (found == own.live.end()) return;
  PinnedBlock block = std::move(found->second);
  own.live.erase(found);
  try {
    RelaxedCapture relaxed;
    if (std::any_of(block.uses.begin(), block.uses.end(), is_captured)) {
      own.captured.push_back(std::move(block));
      return;
    }
    for (Stream stream : block.uses) {
      block.events.push_back(create_event(stream.device.index, false));
      record_event(*block.events.back(), stream);
    }
    block.uses.clear();
    if (block.events.empty()) own.free[block.size].push_back(std::move(block));
    else own.waiting.push_back(std::move(block));
  } catch (const Error&) {  // the context is lost; the block is never reused
  }
}

bool is_pinned(const void* data) {
  if (count() == 0) return false;
  {
    std::lock_guard lock(cache().mutex);
    if (around(cache(), data)) return true;
  }
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    (void)cudaGetLastError();
    return false;
  }
  return attributes.type == cudaMemoryTypeHost;
}

bool follow_pinned_uses(const void* data, Stream stream) {
  std::vector<Stream> others;
  {
    Cache& own = cache();
    std::lock_guard lock(own.mutex);
    const PinnedBlock* block = around(own, data);
    if (!block) return false;
    others = block->uses;
  }
  for (const Stream& other : others) order_streams(other, stream);
  return true;
}

bool record_pinned_use(const void* data, Stream stream) {
  Cache& own = cache();
  std::lock_guard lock(own.mutex);
  PinnedBlock* block = around(own, data);
  if (!block) return false;
  if (std::find(block->uses.begin(), block->uses.end(), stream) == block->uses.end())
    block->uses.push_back(stream);
  return true;
}

}  // namespace vt::cuda
