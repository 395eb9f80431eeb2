// Copies between GPUs over their link, without peer access for ordinary memory: the driver would
// send them through the host. Each piece goes into a small mapped buffer of the receiver, and from
// there to its place; while one piece is on the link, the one before it is put away.
#include <algorithm>
#include <array>
#include <memory>
#include <mutex>

#include "device/capture.h"
#include "device/cuda/check.h"
#include "device/cuda/copy.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"
#include "fabric/access.h"
#include "fabric/peer.h"
#include "fabric/symmetric.h"

namespace vt::fabric::cuda {
namespace {

using vt::cuda::device_at;
using vt::cuda::DeviceGuard;
using vt::cuda::Event;
using vt::cuda::handle_of;

constexpr size_t kPiece = 8 << 20;  // large enough that its calls take less time than the link
constexpr int kPieces = 2;          // of the buffer

void copy_on(Stream stream, void* dst, const void* src, size_t bytes) {
  DeviceGuard guard(stream.device.index);
  VT_CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, handle_of(stream)));
}

// The buffer for one direction of a pair. It lives as long as the process.
class Lane {
 public:
  Lane(std::shared_ptr<SymmetricMemory> memory, int to, int src_index, int dst_index)
      : memory_(std::move(memory)), buffer_(memory_->slot<char>(to, 0)) {
    for (int i = 0; i < kPieces; ++i) {
      sent_[i] = vt::cuda::create_event(src_index, false);
      stored_[i] = vt::cuda::create_event(dst_index, false);
    }
  }

  // The source is read on its stream and the target written on its own, so both are ordered with
  // what else is queued there.
  void copy(char* dst, Stream target, const char* src, Stream source, size_t bytes) {
    std::lock_guard lock(mutex_);
    for (size_t at = 0; at < bytes; at += kPiece) {
      const size_t size = std::min(kPiece, bytes - at);
      const int place = next_;
      next_ = (next_ + 1) % kPieces;
      char* const between = buffer_ + place * kPiece;
      vt::cuda::wait_event(source, *stored_[place]);
      copy_on(source, between, src + at, size);
      vt::cuda::record_event(*sent_[place], source);
      vt::cuda::wait_event(target, *sent_[place]);
      copy_on(target, dst + at, between, size);
      vt::cuda::record_event(*stored_[place], target);
    }
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<SymmetricMemory> memory_;
  char* buffer_;
  int next_ = 0;
  std::array<Event*, kPieces> sent_{}, stored_{};  // by place: the last piece was
};

struct Pair {
  std::once_flag once;
  std::unique_ptr<Lane> up, down;  // to the higher index, to the lower one
};

Lane& lane(int src_index, int dst_index) {
  static auto* const pairs = new std::array<std::array<Pair, kMaxDevices>, kMaxDevices>;
  const int low = std::min(src_index, dst_index), high = std::max(src_index, dst_index);
  Pair& pair = (*pairs)[low][high];
  std::call_once(pair.once, [&] {
    const auto memory = SymmetricMemory::create(Mesh({device_at(low), device_at(high)}),
                                                kPieces * kPiece, Backing::kDirect);
    pair.up = std::make_unique<Lane>(memory, 1, low, high);
    pair.down = std::make_unique<Lane>(memory, 0, high, low);
  });
  return src_index < dst_index ? *pair.up : *pair.down;
}

bool copy_over_link(void* dst, Stream target, const void* src, Stream source, size_t bytes) {
  const int from = source.device.index, to = target.device.index;
  // With peer access the driver takes the link itself. Graphs keep the driver's copy.
  if (has_access(from, to) || any_capture()) return false;
  if (!peer_state(source.device, target.device).usable) return false;
  lane(from, to).copy(static_cast<char*>(dst), target, static_cast<const char*>(src), source,
                      bytes);
  return true;
}

// From the moment this library is loaded.
[[maybe_unused]] const bool g_installed = [] {
  vt::cuda::g_peer_copy.store(&copy_over_link);
  return true;
}();

}  // namespace
}  // namespace vt::fabric::cuda
