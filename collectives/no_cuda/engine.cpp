// The GPU engine of a build without CUDA: says so. A mesh of CUDA devices cannot be made there in
// the first place.
#include "collectives/engine.h"
#include "base/error.h"
#include "device/backend.h"

namespace vt::collectives {

std::unique_ptr<Engine> make_cuda_engine(const fabric::Mesh&, const Options&) {
  fail(ErrorKind::kRuntime, "communicator: ", cuda_unavailable_reason());
}
std::unique_ptr<Engine> make_nccl_engine(const fabric::Mesh&) {
  fail(ErrorKind::kRuntime, "communicator: NCCL runs on GPUs only: ", cuda_unavailable_reason());
}
std::string nccl_version() {
  fail(ErrorKind::kRuntime, "NCCL runs on GPUs only: ", cuda_unavailable_reason());
}

}  // namespace vt::collectives
