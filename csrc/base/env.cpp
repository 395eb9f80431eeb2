// Reading of the environment switches.
#include "base/env.h"

#include <sched.h>

#include <cstdlib>

#include "base/error.h"

namespace vt::env {
namespace {

constexpr const char* kSwitches[][2] = {
    {"VIBETENSOR_CPU_DEVICES", "how many CPU devices the process starts with (default 1)"},
    {"VIBETENSOR_NUM_THREADS",
     "threads that one CPU operation may use (default: the cores of this process)"},
    {"VIBETENSOR_CPU_ISA",
     "auto, base, avx2 or avx512: which build of the CPU kernels runs (default auto)"},
    {"VIBETENSOR_CUDA_LIBRARY_PATH",
     "folders, separated by ':', searched first for cuBLASLt and other NVIDIA libraries"},
    {"VIBETENSOR_CUDA_ALLOCATOR",
     "segments (default), expandable (GPU memory in ranges of addresses that grow), or driver "
     "(cudaMallocAsync; no graph capture)"},
    {"VIBETENSOR_EARLY_STARTS",
     "on (default) or off: may kernels of a captured step be put on the GPU before the one before "
     "them has ended"},
    {"VIBETENSOR_GRAPH_STARTS",
     "on (default) or off: are kernels on a GPU's default stream launched as graphs of one, which "
     "takes the host less time"},
    {"VIBETENSOR_P2P", "auto (verify each GPU pair), off, or force (trust what the driver says)"},
    {"VIBETENSOR_FABRIC_TIMEOUT",
     "seconds a collective waits for a missing device before it fails (default 30)"},
};

std::optional<std::string> lookup(const char* name) {
  const char* text = std::getenv(name);
  if (!text || !*text) return std::nullopt;
  return std::string(text);
}

double number(const char* name, double low, double high, double fallback) {
  const auto text = lookup(name);
  if (!text) return fallback;
  char* end = nullptr;
  const double value = std::strtod(text->c_str(), &end);
  VT_CHECK(end && *end == '\0' && value >= low && value <= high, kValue, name,
           ": expected a number from ", low, " to ", high, ", got '", *text, "'");
  return value;
}

std::string choice(const char* name, std::initializer_list<const char*> allowed) {
  const auto text = lookup(name);
  if (!text) return *allowed.begin();
  for (const char* option : allowed)
    if (*text == option) return *text;
  std::string options;
  for (const char* option : allowed) options += std::string(options.empty() ? "" : ", ") + option;
  fail(ErrorKind::kValue, name, ": expected one of ", options, ", got '", *text, "'");
}

}  // namespace

std::vector<Switch> all() {
  std::vector<Switch> result;
  for (const auto& entry : kSwitches) result.push_back({entry[0], entry[1], lookup(entry[0])});
  return result;
}

int cpu_devices() { return static_cast<int>(number("VIBETENSOR_CPU_DEVICES", 1, 64, 1)); }

int num_threads() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  const int cores = sched_getaffinity(0, sizeof(mask), &mask) == 0 ? CPU_COUNT(&mask) : 1;
  return static_cast<int>(number("VIBETENSOR_NUM_THREADS", 1, 1024, cores));
}

std::string cuda_library_path() { return lookup("VIBETENSOR_CUDA_LIBRARY_PATH").value_or(""); }
double fabric_timeout_seconds() { return number("VIBETENSOR_FABRIC_TIMEOUT", 0.01, 86400, 30); }
std::string fabric_p2p() { return choice("VIBETENSOR_P2P", {"auto", "off", "force"}); }
std::string cache_folder() {
  if (const auto folder = lookup("XDG_CACHE_HOME")) return *folder + "/vibetensor";
  if (const auto home = lookup("HOME")) return *home + "/.cache/vibetensor";
  return "";
}
std::string cuda_allocator() {
  return choice("VIBETENSOR_CUDA_ALLOCATOR", {"segments", "expandable", "driver"});
}
bool early_starts() { return choice("VIBETENSOR_EARLY_STARTS", {"on", "off"}) == "on"; }
bool graph_starts() {
  // Graphs would not wait for their kernels there.
  if (lookup("CUDA_LAUNCH_BLOCKING").value_or("0") != "0") return false;
  return choice("VIBETENSOR_GRAPH_STARTS", {"on", "off"}) == "on";
}
std::string cpu_isa() { return choice("VIBETENSOR_CPU_ISA", {"auto", "base", "avx2", "avx512"}); }

}  // namespace vt::env
