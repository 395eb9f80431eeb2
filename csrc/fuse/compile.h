// Generated source to machine code of one GPU architecture, through NVRTC, kept on disk. Needs no
// GPU: only running the code does.
#pragma once
#include <string>

namespace vt::fuse {

// "" where NVRTC can be opened, else why not.
const std::string& compiler_unavailable_reason();

// The cubin of a generated source for `architecture` ("sm_90"). From the folder of the cache where
// an equal source was compiled before, with the same NVRTC and headers. Throws a RuntimeError with
// the compiler's messages.
std::string compile(const std::string& source, const std::string& architecture);

struct CompileStats {
  int compiled = 0, from_disk = 0;
  double seconds = 0;  // in NVRTC
};
CompileStats compile_stats();

}  // namespace vt::fuse
