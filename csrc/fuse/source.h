// CUDA C++ for a program: the same functors that the kernels built ahead of time are made of, each
// result rounded to the type that it would have been stored in.
#pragma once
#include <string>

#include "fuse/functors.h"
#include "fuse/program.h"

namespace vt::fuse {

inline constexpr int kBlock = 256;  // threads

// A parameter of a kernel, by value.
struct Parameter {
  alignas(16) char bytes[kMaxFunctorBytes] = {};
};

struct KernelSource {
  std::string text;  // of one kernel, named kKernelName; equal programs give equal text
  std::vector<Parameter> parameters;
  int64_t blocks = 0;
  int threads = kBlock;  // a block
};
inline constexpr const char* kKernelName = "fused";

KernelSource generate(const Program& program);

// The files that generated source includes, for the run-time compiler: names and texts.
struct Header {
  const char* name;
  const char* text;
};
const std::vector<Header>& headers();
const std::vector<Header>& embedded();  // those of them that are files of the checkout

}  // namespace vt::fuse
