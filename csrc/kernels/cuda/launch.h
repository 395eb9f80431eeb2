// Starting kernels: where they run, how large the grid is, and the check of every launch.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "device/capture.h"
#include "device/cuda/allocator.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/stream.h"
#include "kernels/types.h"

namespace vt::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kThreads = 256;  // a block, unless a kernel says otherwise

VT_HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Note [Early starts]
// In a captured step a kernel may be put on the device when the last blocks of the one before it in
// its stream end, and not only once all that they wrote is in memory: it waits for that itself. A
// kernel that is launched so begins, in every thread, with await_earlier(), and touches memory only
// afterwards; then it ends after all that came before it, as any other kernel does. These kernels
// do not let the next one come while their own blocks run: early blocks would crowd the first
// multiprocessors that have room. Kernels of collectives that are launched early do (fabric/cuda),
// so blocks of a kernel behind them may hold room while they wait for other ranks.
// VIBETENSOR_EARLY_STARTS=off has kernels start in turn.
__device__ __forceinline__ void await_earlier() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Lets the next kernel come when all blocks of this one run: for kernels whose next one is their
// own and small, so that it crowds nobody.
__device__ __forceinline__ void release_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
// The launch of a kernel that awaits what came earlier, where `early`; an ordinary one where the
// device cannot start kernels early, or should not. In clusters of that many neighbouring blocks.
cudaError_t launch_awaiting(int index, const void* kernel, dim3 grid, dim3 block, void** arguments,
                            size_t shared_bytes, cudaStream_t stream, bool early = true,
                            int cluster = 1);

// The launch of a kernel in turn, on device `index`, which is current. By the driver itself, which
// takes the host 0.2 us less than the runtime's call.
cudaError_t launch_in_turn(int index, const void* kernel, dim3 grid, dim3 block, void** arguments,
                           size_t shared_bytes, cudaStream_t stream);

// How a kernel may start: kEarly is for those that begin with await_earlier().
enum class Start : bool { kInTurn, kEarly };

// The device and the calling thread's stream of it, current for as long as this lives.
class Queue {
 public:
  explicit Queue(const char* op, Device device)
      : op_(op),
        index_(device.index),
        guard_(device.index),
        stream_(current_stream(device.index)) {}

  int index() const { return index_; }
  cudaStream_t stream() const { return stream_; }
  int multiprocessors() const { return cuda::multiprocessors(index_); }

  // Launches on the queue's stream. `grid` may be 0: then there is nothing to do.
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block,
              Arguments&&... arguments) const {
    launch_shared(kernel, grid, block, 0, std::forward<Arguments>(arguments)...);
  }
  template <Start kStart = Start::kInTurn, class... Parameters, class... Arguments>
  void launch_shared(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                     Arguments&&... arguments) const {
    launch_copies<kStart>(kernel, grid, block, shared_bytes,
                          static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  }
  // Note [Early starts]
  template <class... Parameters, class... Arguments>
  void launch_early(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                    Arguments&&... arguments) const {
    launch_shared<Start::kEarly>(kernel, grid, block, 0, std::forward<Arguments>(arguments)...);
  }
  // Blocks in clusters of `cluster` neighbours, on GPUs that have them (architecture 9.0). Note
  // [Early starts]
  template <class... Parameters, class... Arguments>
  void launch_clusters(void (*kernel)(Parameters...), dim3 grid, dim3 block, int cluster,
                       Arguments&&... arguments) const {
    launch_clusters_shared(kernel, grid, block, 0, cluster, std::forward<Arguments>(arguments)...);
  }
  template <class... Parameters, class... Arguments>
  void launch_clusters_shared(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                              size_t shared_bytes, int cluster, Arguments&&... arguments) const {
    [&](std::type_identity_t<Parameters>... copies) {
      void* pointers[] = {static_cast<void*>(&copies)...};
      const cudaError_t code =
          launch_awaiting(index_, reinterpret_cast<const void*>(kernel), grid, block, pointers,
                          shared_bytes, stream_, any_capture(), cluster);
      if (VT_UNLIKELY(code != cudaSuccess)) fail_launch(op_, code);
    }(static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  }
  // The most dynamic shared memory a block may have, once allow_shared() has asked for it.
  int64_t shared_limit() const {
    int bytes = 0;
    VT_CUDA(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index_));
    return bytes;
  }
  // Needed in front of launches with more than 48 KiB.
  void allow_shared(const void* kernel, size_t bytes) const {
    VT_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(bytes)));
  }
  // `arguments` points to the kernel's parameters, in order.
  template <Start kStart = Start::kInTurn>
  void launch_erased(const void* kernel, dim3 grid, dim3 block, void** arguments,
                     size_t shared_bytes = 0) const {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    const cudaError_t code =
        kStart == Start::kEarly && any_capture()
            ? launch_awaiting(index_, kernel, grid, block, arguments, shared_bytes, stream_)
            : launch_in_turn(index_, kernel, grid, block, arguments, shared_bytes, stream_);
    if (VT_UNLIKELY(code != cudaSuccess)) fail_launch(op_, code);
  }

 private:
  template <Start kStart, class... Parameters>
  void launch_copies(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                     std::type_identity_t<Parameters>... copies) const {
    void* arguments[] = {static_cast<void*>(&copies)...};
    launch_erased<kStart>(reinterpret_cast<const void*>(kernel), grid, block, arguments,
                          shared_bytes);
  }

  const char* op_;
  int index_;
  DeviceGuard guard_;
  cudaStream_t stream_;
};

// Device memory for the length of one call. Later work of the stream may reuse it, earlier work is
// not disturbed.
template <class T>
class Scratch {
 public:
  Scratch(const Queue& queue, int64_t count) : index_(queue.index()) {
    if (count > 0)
      data_ = static_cast<T*>(allocate(index_, static_cast<size_t>(count) * sizeof(T)));
  }
  ~Scratch() {
    if (data_) deallocate(index_, data_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }

 private:
  int index_;
  T* data_ = nullptr;
};

// V neighbouring elements that move in one instruction.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T v[V];
};
inline bool is_aligned(const void* data, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

template <class To, class From>
VT_HD To convert(From value) {
  if constexpr (std::is_same_v<To, From>) return value;
  else if constexpr (std::is_same_v<To, bool>)
    return static_cast<compute_t<From>>(value) != compute_t<From>(0);
  else if constexpr (std::is_same_v<To, Half> || std::is_same_v<To, BFloat16>)
    return To(static_cast<float>(static_cast<compute_t<From>>(value)));
  else return static_cast<To>(static_cast<compute_t<From>>(value));
}

}  // namespace vt::cuda
