// The streams of every device.
#include "device/cuda/stream.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/graph.h"

namespace vt::cuda {
namespace {

thread_local cudaStream_t t_current[kMaxDevices] = {};

struct Pool {
  std::mutex mutex;
  std::map<std::pair<int, int>, std::vector<cudaStream_t>> idle;  // by device and priority
  std::map<cudaStream_t, int> priority;                           // of every stream created here
};

Pool& pool() {
  static auto* const instance = new Pool;
  return *instance;
}

void check_stream(const char* op, Stream stream) {
  VT_CHECK(stream.device.is_cuda(), kRuntime, op,
           ": expected a stream of a CUDA device, got one of ", stream.device);
  require_device(stream.device.index);
}

void check_not_captured(const char* op, Stream stream) {
  if (any_capture() && capture_id(stream) != 0)
    refuse_in_capture(op,
                      "the stream is being captured: its work runs at replays, so there is "
                      "nothing to wait for");
}

}  // namespace

cudaStream_t current_stream(int index) { return t_current[index]; }

void set_current_stream(Stream stream) {
  check_stream("set_stream", stream);
  t_current[stream.device.index] = handle_of(stream);
}

Stream create_stream(int index, int priority) {
  require_device(index);
  DeviceGuard guard(index);
  int least = 0, greatest = 0;
  VT_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  priority = std::clamp(priority, greatest, least);
  {
    std::lock_guard lock(pool().mutex);
    auto& idle = pool().idle[{index, priority}];
    if (!idle.empty()) {
      cudaStream_t stream = idle.back();
      idle.pop_back();
      return {device_at(index), stream};
    }
  }
  cudaStream_t stream = nullptr;
  VT_CUDA(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority));
  std::lock_guard lock(pool().mutex);
  pool().priority[stream] = priority;
  return {device_at(index), stream};
}

void destroy_stream(Stream stream) {
  std::lock_guard lock(pool().mutex);
  auto found = pool().priority.find(handle_of(stream));
  if (found == pool().priority.end())
    return;  // the default stream, or one that another library owns
  pool().idle[{stream.device.index, found->second}].push_back(handle_of(stream));
}

int stream_priority(Stream stream) {
  check_stream("stream.priority", stream);
  DeviceGuard guard(stream.device.index);
  int priority = 0;
  VT_CUDA(cudaStreamGetPriority(handle_of(stream), &priority));
  return priority;
}

bool query_stream(Stream stream) {
  check_stream("stream.query", stream);
  check_not_captured("stream.query", stream);
  DeviceGuard guard(stream.device.index);
  const cudaError_t code = cudaStreamQuery(handle_of(stream));
  if (code == cudaErrorNotReady) {
    (void)cudaGetLastError();
    return false;
  }
  VT_CUDA(code);
  return true;
}

void synchronize_stream(Stream stream) {
  check_stream("stream.synchronize", stream);
  check_not_captured("stream.synchronize", stream);
  DeviceGuard guard(stream.device.index);
  VT_CUDA(cudaStreamSynchronize(handle_of(stream)));
}

}  // namespace vt::cuda
