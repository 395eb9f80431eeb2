// Direct access between devices for all their memory, and what it is switched on for: operators
// that read a peer's memory in place.
#pragma once
#include <string>
#include <vector>

#include "fabric/mesh.h"
#include "tensor/tensor.h"

namespace vt::fabric {

// kStrict: where there is no direct access, an error. kBestEffort: a copy, or host memory, instead.
// kDryRun: nothing is switched on or moved; an error says what would have been done.
enum class Mode : uint8_t { kOff, kStrict, kBestEffort, kDryRun };
const char* name(Mode mode);

struct PairAccess {
  Device from, to;     // a kernel on `from` and the memory of `to`
  bool direct;         // it reads and writes there in place, or would
  std::string reason;  // why not; "" if direct
};

// Lets operators mix the devices of one kind. Unless `peer_access` is false, every usable pair of
// GPUs gets direct access to all memory of each other: from then on, taking memory from the system
// and giving it back waits for all of them. Returns every pair of two devices. FabricError in
// kStrict where a pair is not direct; nothing is switched on then.
std::vector<PairAccess> enable(Mode mode, bool peer_access);
// Waits for the devices and takes back what enable switched on.
void disable();
Mode mode();  // kOff until enable
bool peer_access();

// How work on `reader` would get at the tensor.
struct Route {
  enum class Way : uint8_t { kLocal, kDirect, kCopy, kNone } way;
  std::string reason;  // why it is not direct
};
const char* name(Route::Way way);
Route route(const Tensor& t, Device reader);

namespace cuda {  // fabric/cuda, or fabric/no_cuda
// Counted: a pair is off again when everyone who switched it on has switched it off. Access that
// another library of the process has switched on stays.
void acquire_access(int from, int to);
void release_access(int from, int to) noexcept;
bool has_access(int from, int to);
// Whether the allocator's memory can be reached by GPUs with access at all.
bool allocator_is_reachable();
}  // namespace cuda

}  // namespace vt::fabric
