// What a recording did: launches before and after, the kernels that were generated, bytes that
// never moved.
#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace vt::fuse {

struct FusedKernel {
  std::string operators;  // "mul add gelu", in order
  int64_t elements = 0;
  int steps = 0, loads = 0, stores = 0;
  int64_t launches = 0;
  int64_t bytes_saved = 0;  // of all launches
};

struct Report {
  int64_t recorded = 0;    // operators that were put off: launches without fusion
  int64_t passed_by = 0;   // calls that were not put off
  int64_t launched = 0;    // kernels that ran instead of the recorded ones
  int64_t dropped = 0;     // operators that were never computed
  int64_t not_stored = 0;  // values that stayed in registers
  int64_t bytes_saved = 0;
  int64_t flushes = 0;
  std::map<std::string, FusedKernel> kernels;
  std::map<std::string, int64_t> rewrites;  // by pass: how often a structured pattern was found
  std::map<std::string, int64_t> alone;     // operators that ran by themselves, by name
  std::string failure;                      // why a kernel ran unfused, the first time
};

}  // namespace vt::fuse
