// Symmetric memory of any kind of device: creation, tensors on it, and the register by which an
// address is recognised.
#include "fabric/symmetric.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <span>

#include "fabric/events.h"

namespace vt::fabric {
namespace {

// Where each slot begins, for all living symmetric memory.
struct Register {
  std::shared_mutex mutex;
  std::map<const char*, const SymmetricMemory*> starts;
};

Register& known() {
  static auto* const instance = new Register;  // tensors may outlive static destruction
  return *instance;
}

// Are these bytes symmetric memory that all the devices can use?
bool symmetric_for(std::span<const Device> devices, const void* data, size_t bytes) {
  const char* const at = static_cast<const char*>(data);
  std::shared_lock lock(known().mutex);
  auto found = known().starts.upper_bound(at);
  if (found == known().starts.begin()) return false;
  const auto& [start, memory] = *--found;
  return at + bytes <= start + memory->bytes() &&
         std::all_of(devices.begin(), devices.end(),
                     [m = memory](Device d) { return m->reachable_from(d); });
}

struct CpuSlots final : SymmetricSlots {
  CpuSlots(const Mesh& mesh, size_t bytes) {
    for (Device device : mesh.ranks()) {
      owned.push_back(Storage::create(device, bytes));
      slots.push_back(owned.back()->data());
      std::memset(slots.back(), 0, bytes);
    }
  }
  const char* kind() const override { return "host"; }
  std::vector<Ref<Storage>> owned;
};

}  // namespace

std::unique_ptr<SymmetricSlots> cpu::make_symmetric_slots(const Mesh& mesh, size_t bytes) {
  return std::make_unique<CpuSlots>(mesh, bytes);
}

SymmetricMemory::SymmetricMemory(const Mesh& mesh, size_t bytes,
                                 std::unique_ptr<SymmetricSlots> memory)
    : mesh_(mesh), bytes_(bytes), memory_(std::move(memory)) {
  std::unique_lock lock(known().mutex);
  for (void* slot : memory_->slots) known().starts.emplace(static_cast<char*>(slot), this);
  note(EventKind::kArena, "take", mesh_.device(0), bytes_ * mesh_.size(), memory_->kind());
}

SymmetricMemory::~SymmetricMemory() {
  std::unique_lock lock(known().mutex);
  for (void* slot : memory_->slots) known().starts.erase(static_cast<char*>(slot));
  note(EventKind::kArena, "give_back", mesh_.device(0), bytes_ * mesh_.size(), memory_->kind());
}

std::shared_ptr<SymmetricMemory> SymmetricMemory::create(const Mesh& mesh, size_t bytes,
                                                         Backing backing) {
  bytes = std::max<size_t>(bytes, 1);
  auto memory = mesh.is_cuda() ? cuda::make_symmetric_slots(mesh, bytes, backing)
                               : cpu::make_symmetric_slots(mesh, bytes);
  return std::shared_ptr<SymmetricMemory>(new SymmetricMemory(mesh, bytes, std::move(memory)));
}

bool SymmetricMemory::reachable_from(Device device) const {
  const auto& devices = mesh_.devices();
  return std::find(devices.begin(), devices.end(), device) != devices.end();
}

std::vector<Tensor> symmetric_zeros(const Mesh& mesh, const Dims& sizes, DType dtype,
                                    Backing backing) {
  const size_t bytes = bytes_of("symmetric_zeros", sizes, dtype);
  const auto memory = SymmetricMemory::create(mesh, bytes, backing);
  std::vector<Tensor> tensors;
  for (int r = 0; r < mesh.size(); ++r) {
    auto storage = Storage::wrap(mesh.device(r), memory->slot(r), bytes, [memory] {});
    tensors.emplace_back(Ref<TensorImpl>::adopt(
        new TensorImpl(std::move(storage), sizes, row_major_strides(sizes), 0, dtype)));
  }
  return tensors;
}

bool reachable(const Mesh& mesh, Device home, const void* data, size_t bytes) {
  const auto& devices = mesh.devices();
  // A device reaches its own memory; CPU devices share theirs.
  if (!mesh.is_cuda() || bytes == 0 || (devices.size() == 1 && devices[0] == home)) return true;
  return symmetric_for(devices, data, bytes);
}

bool reachable_from(Device user, Device home, const void* data, size_t bytes) {
  if (user == home || (user.is_cpu() && home.is_cpu())) return true;
  return user.is_cuda() && symmetric_for({&user, 1}, data, bytes);
}

}  // namespace vt::fabric
