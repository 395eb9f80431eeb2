// What a program tells NVIDIA's profilers: named ranges of host time, and when to look. It costs
// nothing unless one is attached.
#pragma once
#include <cstdint>

namespace vt {

// In a build without CUDA nobody listens, and all of these do nothing.
void nvtx_push(const char* name);
void nvtx_pop();
void nvtx_mark(const char* name);
// A range that any thread may end, by its number.
uint64_t nvtx_start(const char* name);
void nvtx_end(uint64_t range);

// From now on every operation and range that the profiler of this project would record is a range
// of these, too, with the shapes of inputs if asked; until it is off again.
void emit_ranges(bool on, bool shapes);
bool emits_ranges();

// Begins and ends what a profiler collects that was told to wait for it.
void begin_collection();
void end_collection();

}  // namespace vt
