// Reading the fault board.
#include "collectives/cuda/fault_board.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <mutex>

#include "collectives/collective.h"
#include "device/cuda/check.h"
#include "device/cuda/unit_lock.h"

namespace vt::collectives::gpu {
namespace {

using fabric::FaultRecord;

// A kernel may be writing: the record counts from the moment its last word is there.
bool present(const FaultRecord& record) {
  return __atomic_load_n(&record.present, __ATOMIC_ACQUIRE) != 0;
}

constexpr const char* kPhases[] = {"to begin", "to finish", "to send its part",
                                   "to send its next chunk", "to make room for the next chunk"};

}  // namespace

std::string list_of(const fabric::Mesh& mesh, uint32_t mask) {
  std::string names;
  for (int r = 0; r < mesh.size(); ++r)
    if (mask >> r & 1) names += str(names.empty() ? "" : ", ", r, " (", mesh.device(r), ")");
  return names;
}

FaultMemory::FaultMemory() {
  std::lock_guard lock(cuda::launch_unit_mutex());
  void* memory = nullptr;
  VT_CUDA(cudaHostAlloc(&memory, sizeof(fabric::FaultBoard),
                        cudaHostAllocMapped | cudaHostAllocPortable));
  board_ = static_cast<fabric::FaultBoard*>(memory);
  clear();
}

FaultMemory::~FaultMemory() {
  std::lock_guard lock(cuda::launch_unit_mutex());
  (void)cudaFreeHost(board_);
}

void FaultMemory::clear() {
  std::memset(static_cast<void*>(board_), 0, sizeof(fabric::FaultBoard));
}

std::string FaultMemory::sentence(const fabric::Mesh& mesh, uint32_t late) const {
  const FaultRecord* first = nullptr;
  int waiting = 0;
  uint32_t missing = 0;
  for (int r = 0; r < mesh.size(); ++r)
    for (const FaultRecord& record : board_->records[r]) {
      if (!present(record)) continue;
      if (!first || static_cast<int32_t>(record.sequence - first->sequence) < 0) {
        first = &record;
        waiting = r;
        missing = 0;
      }
      if (record.sequence == first->sequence) missing |= 1u << record.peer;
    }
  // One kernel does the part of all ranks of a device: all of them are missing, or none.
  uint32_t all = 0;
  for (int r = 0; r < mesh.size(); ++r)
    for (int p = 0; p < mesh.size(); ++p)
      if (missing >> p & 1 && mesh.device(r) == mesh.device(p)) all |= 1u << r;
  missing = late ? late : all;
  // A rank that itself waited in the same unit was there: it is not the one that is missing.
  for (int r = 0; r < mesh.size(); ++r)
    for (const FaultRecord& record : board_->records[r])
      if (present(record) && record.sequence == first->sequence && (missing & ~(1u << r)))
        missing &= ~(1u << r);
  return str("collective ", first->sequence, " (", name(static_cast<Kind>(first->kind)), "): rank ",
             waiting, " (", mesh.device(waiting), ") waited ", first->waited_ms, " ms for rank ",
             list_of(mesh, missing), ' ',
             kPhases[std::min<size_t>(first->phase, std::size(kPhases) - 1)]);
}

}  // namespace vt::collectives::gpu
