// Errors that only a running kernel can see, as an index out of range. The kernel goes on with a
// harmless value and leaves a note in host memory; the next synchronising call throws it. The CUDA
// context stays usable.
#pragma once
#include <cstdint>

namespace vt::cuda {

struct FaultNote {
  volatile int64_t index;
  volatile int64_t limit;
  volatile char op[32];  // a copy: a literal of a kernel lies where the host cannot read
  volatile uint32_t present;
};

// The note of device `index`: pinned host memory that its kernels can write.
FaultNote* fault_note(int index);

// After a wait for the device: throws the IndexError that a kernel left, if any, and clears it.
void check_faults(int index);

#if defined(__CUDACC__)
// Racing threads may overwrite each other's note: one of them is reported.
__device__ inline void note_index_fault(FaultNote* note, const char* op, int64_t index,
                                        int64_t limit) {
  note->index = index;
  note->limit = limit;
  // The last byte stays zero whoever writes.
  for (int i = 0; i + 1 < static_cast<int>(sizeof(note->op)); ++i) {
    note->op[i] = op[i];
    if (op[i] == '\0') break;
  }
  __threadfence_system();
  note->present = 1;
}
#endif

}  // namespace vt::cuda
