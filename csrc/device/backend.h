// What every kind of device can do, and the one place to get it from. Everything above this floor
// talks to devices through here; CUDA itself is named only under device/cuda.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/device.h"

namespace vt {

struct MemoryStats {
  size_t allocated = 0;       // bytes held by live storages
  size_t reserved = 0;        // bytes taken from the system
  size_t peak_allocated = 0;  // since the last reset
  size_t peak_reserved = 0;
  uint64_t allocations = 0;         // calls so far
  uint64_t system_allocations = 0;  // calls that had to go to the system
};

struct DeviceProperties {
  std::string name;
  size_t total_memory = 0;  // bytes
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;  // cores on a CPU
  int pci_domain = 0, pci_bus = -1, pci_device = 0;
};

// A queue of work on one device. The null handle is the device's default stream; a CPU device has
// only that.
struct Stream {
  Device device;
  void* handle = nullptr;
  bool operator==(const Stream&) const = default;
};

struct Copy {
  void* dst;
  const void* src;
  size_t bytes;
};

class Graph;
class DeviceAllocator;

class Backend {
 public:
  virtual ~Backend() = default;

  virtual int count() = 0;
  virtual DeviceProperties properties(int index) = 0;
  virtual MemoryStats memory_stats(int index) = 0;
  virtual void reset_peak_memory(int index) = 0;
  virtual void empty_cache(int index) = 0;
  // Counters, snapshots, history and limits of a device's memory. Throws on a CPU.
  virtual DeviceAllocator& device_allocator(int index) = 0;
  struct FreeMemory {
    size_t free, total;  // bytes, of the whole device
  };
  virtual FreeMemory free_memory(int index) = 0;
  // May kernels of one device use the memory of the other?
  virtual bool can_access_peer(int index, int other) = 0;

  // Memory, ordered on the calling thread's current stream of the device: a freed block may be
  // handed out again to later work of the same stream at once. `bytes` is never 0 and is given back
  // unchanged to deallocate.
  virtual void* allocate(int index, size_t bytes) = 0;
  virtual void deallocate(int index, void* data, size_t bytes) = 0;
  // Keeps `data` from being reused before the work now queued on `stream` is done.
  virtual void record_stream(int index, void* data, Stream stream) = 0;

  // Private memory for graph capture (Note [Private pools]). A new pool has one reference; memory
  // goes back to the system when the last one is released and no tensor lies in it. From begin to
  // end, what any thread allocates for the stream, or for one that joined its capture, comes from
  // the pool. Begin before the capture starts, end after it has ended, also when it failed.
  virtual uint64_t create_memory_pool(int index) = 0;
  virtual void retain_memory_pool(int index, uint64_t pool) = 0;
  virtual void release_memory_pool(int index, uint64_t pool) = 0;
  virtual void begin_memory_pool(uint64_t pool, Stream stream) = 0;
  // Returns the most bytes that tensors held in the pool since it was begun.
  virtual int64_t end_memory_pool(uint64_t pool, Stream stream) = 0;
  // A graph that needs so many bytes of the pool runs: the peak counts them.
  virtual void count_memory_pool(int index, uint64_t pool, int64_t bytes) = 0;

  // Bytes between two devices of which at least one is of this kind, ordered after the work queued
  // on the current streams of both and before the work queued there later. Unless non_blocking,
  // returns when the host may read or overwrite the CPU side.
  virtual void copy(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes,
                    bool non_blocking) = 0;
  // Copies within the device, which do not overlap, on the current stream.
  virtual void copy_many(int index, std::span<const Copy> copies) = 0;
  virtual void zero(int index, void* data, size_t bytes) = 0;

  virtual Stream current_stream(int index) = 0;        // of the calling thread
  virtual void set_current_stream(Stream stream) = 0;  // for the calling thread
  virtual Stream create_stream(int index,
                               int priority) = 0;  // priority: 0 normal, negative is more urgent
  virtual void destroy_stream(Stream stream) = 0;
  virtual int stream_priority(Stream stream) = 0;
  virtual bool query_stream(Stream stream) = 0;  // is its work done?
  virtual void synchronize_stream(Stream stream) = 0;
  virtual void synchronize(int index) = 0;

  // Throws the error, if any, that a kernel met and only left a note of; waiting does so too.
  virtual void check_faults(int /*index*/) {}

  // A blocking one lets the waiting host thread sleep; another makes it spin, which is quicker.
  virtual void* create_event(int index, bool timing, bool blocking = false) = 0;
  virtual void destroy_event(void* event) = 0;
  virtual void record_event(void* event, Stream stream) = 0;
  virtual void wait_event(Stream stream, void* event) = 0;
  virtual bool query_event(void* event) = 0;
  virtual void synchronize_event(void* event) = 0;
  virtual double elapsed_ms(void* start, void* end) = 0;

  // Host memory that the device can copy from and to without a staging buffer.
  virtual void* allocate_pinned(size_t bytes) = 0;
  virtual void deallocate_pinned(void* data, size_t bytes) = 0;
  virtual bool is_pinned(const void* data) = 0;
  // Has `stream` wait for what other streams do with the block around `data`. False where nothing
  // is known about the memory.
  virtual bool follow_pinned_uses(const void* /*data*/, Stream /*stream*/) { return false; }

  // Graphs of captured work; see device/graph.h.
  virtual std::unique_ptr<Graph> make_graph(int index) = 0;
  virtual uint64_t capture_id(Stream stream) = 0;  // of the capture it takes part in, 0 for none
  // Writes `count` (up to 480) words on the current stream. They travel by value: the host may
  // change its own at once.
  virtual void write_words(int index, uint64_t* dst, const uint64_t* words, int count) = 0;
};

Backend& cpu_backend();   // device/cpu
Backend& cuda_backend();  // device/cuda, or device/no_cuda: count() is 0 and the rest say why

inline Backend& backend(DeviceType type) {
  return type == DeviceType::kCPU ? cpu_backend() : cuda_backend();
}
inline Backend& backend(Device device) { return backend(device.type); }

// Why there is no CUDA device: "" if there is one, else the reason, as "this build has no CUDA" or
// the driver's answer.
std::string cuda_unavailable_reason();

int device_count(DeviceType type);
// How many cpu:i devices there are (1 to 64). Devices with live tensors may not vanish, so it only
// grows or is reset early.
void set_cpu_devices(int count);
// Throws a RuntimeError that lists what exists when `device` does not.
void check_device(Device device);

// The device that "cuda" without an index means on the calling thread.
int current_cuda_index();
void set_current_cuda_index(int index);

// Copies bytes between any two devices.
void copy_bytes(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes,
                bool non_blocking = false);
// Told of every copy from one device to another; null by default.
using CopyObserver = void (*)(Device dst, Device src, size_t bytes);
void observe_copies(CopyObserver observer);

// Work queued on `later` from now on waits for what is queued on `earlier` now.
void order_streams(Stream earlier, Stream later);

}  // namespace vt
