// Copies between the host, one device, and two devices.
#include "device/cuda/copy.h"

#include "device/capture.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/fault.h"
#include "device/cuda/pinned.h"
#include "device/cuda/stream.h"
#include "device/sync_debug.h"

namespace vt::cuda {

std::atomic<PeerCopy> g_peer_copy{nullptr};

namespace {

void between_devices(void* dst, int dst_index, const void* src, int src_index, size_t bytes) {
  for (int index : {src_index, dst_index})
    check_not_capturing("copy between devices", device_at(index),
                        "graphs hold no copies between devices; bring tensors to their device "
                        "before the step, or exchange them by a collective");
  const Stream source{device_at(src_index), current_stream(src_index)};
  const Stream target{device_at(dst_index), current_stream(dst_index)};
  const PeerCopy over_link = g_peer_copy.load(std::memory_order_relaxed);
  if (over_link && over_link(dst, target, src, source, bytes)) return;
  // The copy runs on the source's stream. It waits for earlier users of the target memory, and
  // later ones wait for it.
  order_streams(target, source);
  {
    DeviceGuard guard(src_index);
    VT_CUDA(cudaMemcpyPeerAsync(dst, dst_index, src, src_index, bytes, handle_of(source)));
  }
  order_streams(source, target);
}

// `host` is the end in host memory.
void with_host(void* dst, const void* src, const void* host, int index, size_t bytes,
               bool non_blocking, cudaMemcpyKind kind) {
  const Stream stream{device_at(index), current_stream(index)};
  if (kind == cudaMemcpyDeviceToHost)
    check_not_capturing("copy to the host", stream.device,
                        "the host would wait for values that only a replay computes; keep them on "
                        "the GPU, return them from the step and read them afterwards");
  else
    check_not_capturing("copy from the host", stream.device,
                        "every replay would read the same host memory again; make the tensor on "
                        "the GPU before the step, or pass it to the step as an argument");
  DeviceGuard guard(index);
  // Before the copy, so that a block freed by another thread meanwhile is not handed out.
  const bool pinned = is_pinned(host);
  if (kind == cudaMemcpyDeviceToHost ? !(pinned && non_blocking) : pinned && !non_blocking)
    note_wait(kind == cudaMemcpyDeviceToHost ? "copy to the host" : "copy from pinned memory");
  if (pinned && non_blocking) record_pinned_use(host, stream);
  VT_CUDA(cudaMemcpyAsync(dst, src, bytes, kind, handle_of(stream)));
  if (pinned && non_blocking) return;
  // From pageable memory CUDA has read everything when the call returns: the stream need not be
  // waited for.
  if (kind == cudaMemcpyHostToDevice && !pinned) return;
  VT_CUDA(cudaStreamSynchronize(handle_of(stream)));
  if (kind == cudaMemcpyDeviceToHost) check_faults(index);
}

}  // namespace

void copy_memory(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes,
                 bool non_blocking) {
  if (bytes == 0) return;
  if (dst_device.is_cpu()) {
    require_device(src_device.index);
    return with_host(dst, src, dst, src_device.index, bytes, non_blocking, cudaMemcpyDeviceToHost);
  }
  require_device(dst_device.index);
  if (src_device.is_cpu())
    return with_host(dst, src, src, dst_device.index, bytes, non_blocking, cudaMemcpyHostToDevice);
  require_device(src_device.index);
  if (src_device.index != dst_device.index)
    return between_devices(dst, dst_device.index, src, src_device.index, bytes);
  DeviceGuard guard(dst_device.index);
  VT_CUDA(
      cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, current_stream(dst_device.index)));
}

}  // namespace vt::cuda
