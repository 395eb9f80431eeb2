// Where kernels leave their notes.
#include "device/cuda/fault.h"

#include <atomic>
#include <mutex>
#include <string>

#include "base/device.h"
#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/unit_lock.h"

namespace vt::cuda {
namespace {

struct Slot {
  std::once_flag once;
  std::atomic<FaultNote*> note{nullptr};
};

Slot& slot(int index) {
  static auto* const slots = new Slot[kMaxDevices];
  return slots[index];
}

}  // namespace

FaultNote* fault_note(int index) {
  Slot& own = slot(index);
  std::call_once(own.once, [&] {
    DeviceGuard guard(index);
    std::lock_guard unit(launch_unit_mutex());
    void* memory = nullptr;
    VT_CUDA(cudaHostAlloc(&memory, sizeof(FaultNote), cudaHostAllocMapped | cudaHostAllocPortable));
    own.note = new (memory) FaultNote{};
  });
  return own.note;
}

void check_faults(int index) {
  FaultNote* note = slot(index).note.load(std::memory_order_acquire);
  if (VT_LIKELY(note == nullptr || note->present == 0)) return;
  const std::string op(const_cast<const char*>(note->op));
  const int64_t value = note->index, limit = note->limit;
  note->present = 0;
  fail(ErrorKind::kIndex, op, ": index ", value, " is out of range for ", limit,
       " rows on cuda:", index, "; the operation ran earlier, its output at that index is zero");
}

}  // namespace vt::cuda
