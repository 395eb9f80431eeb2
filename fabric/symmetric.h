// Symmetric memory: a buffer of equal size on every rank of a mesh which all its devices can read
// and write directly. Collectives work on such tensors in place; all others pass through a staging
// buffer that is itself symmetric.
#pragma once
#include <memory>
#include <vector>

#include "fabric/mesh.h"
#include "tensor/tensor.h"

namespace vt::fabric {

// What GPU slots are made of. kMapped: pages on the rank's device, mapped for all devices of the
// mesh. kPeer, for drivers without mapped memory: cudaMalloc and peer access. kDirect: the first of
// the two that there is. kHost, for devices without direct access to each other: pinned memory of
// the host, slow, but every protocol works on it. kAuto: kDirect or, where the fabric is enabled as
// best_effort and a pair is not usable, kHost.
enum class Backing : uint8_t { kAuto, kDirect, kMapped, kPeer, kHost };

// The memory of one kind of device behind a SymmetricMemory: one slot a rank, released by the
// destructor.
struct SymmetricSlots {
  virtual ~SymmetricSlots() = default;
  virtual const char* kind() const = 0;  // "mapped", "peer" or "host", for events
  std::vector<void*> slots;
};

class SymmetricMemory {
 public:
  // At least `bytes` a rank, zeroed and visible to all devices of the mesh when it returns. Vetoes
  // are looked at by kAuto only.
  static std::shared_ptr<SymmetricMemory> create(const Mesh& mesh, size_t bytes,
                                                 Backing backing = Backing::kAuto);
  ~SymmetricMemory();

  const Mesh& mesh() const { return mesh_; }
  size_t bytes() const { return bytes_; }  // a rank
  void* slot(int rank) const { return memory_->slots[rank]; }
  template <class T>
  T* slot(int rank, size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(slot(rank)) + offset);
  }
  bool reachable_from(Device device) const;
  const char* kind() const { return memory_->kind(); }

 private:
  SymmetricMemory(const Mesh& mesh, size_t bytes, std::unique_ptr<SymmetricSlots> memory);

  Mesh mesh_;
  size_t bytes_;
  std::unique_ptr<SymmetricSlots> memory_;
};

// One dense tensor a rank in new symmetric memory, all zeros; the memory lives as long as any of
// them.
std::vector<Tensor> symmetric_zeros(const Mesh& mesh, const Dims& sizes, DType dtype,
                                    Backing backing = Backing::kAuto);

// May every device of `mesh` read and write these bytes of `home` directly?
bool reachable(const Mesh& mesh, Device home, const void* data, size_t bytes);
// May `user`?
bool reachable_from(Device user, Device home, const void* data, size_t bytes);

namespace cpu {
std::unique_ptr<SymmetricSlots> make_symmetric_slots(const Mesh& mesh, size_t bytes);
}
namespace cuda {  // fabric/cuda, or fabric/no_cuda
std::unique_ptr<SymmetricSlots> make_symmetric_slots(const Mesh& mesh, size_t bytes,
                                                     Backing backing);
}

}  // namespace vt::fabric
