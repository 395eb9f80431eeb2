// The environment switches: all of them, read once, listed by `vibetensor info`.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/macros.h"

namespace vt::env {

struct Switch {
  const char* name;
  const char* meaning;
  std::optional<std::string> value;  // as found in the environment
};

// Every switch with its present value.
std::vector<Switch> all();

int cpu_devices();  // VIBETENSOR_CPU_DEVICES, default 1
int num_threads();  // VIBETENSOR_NUM_THREADS, default: the cores of this process
std::string
cuda_library_path();  // VIBETENSOR_CUDA_LIBRARY_PATH: folders searched first for vendor libraries
double fabric_timeout_seconds();  // VIBETENSOR_FABRIC_TIMEOUT, default 30
std::string fabric_p2p();         // VIBETENSOR_P2P: "auto" (verify), "off", "force"
std::string
cache_folder();  // of this user: XDG_CACHE_HOME or ~/.cache, then vibetensor; "" if none
std::string cuda_allocator();  // VIBETENSOR_CUDA_ALLOCATOR: "segments", "expandable", "driver"
bool early_starts();           // VIBETENSOR_EARLY_STARTS: "on", "off"
bool graph_starts();    // VIBETENSOR_GRAPH_STARTS: "on", "off"; off with CUDA_LAUNCH_BLOCKING
std::string cpu_isa();  // VIBETENSOR_CPU_ISA: "auto", "base", "avx2", "avx512"

}  // namespace vt::env
