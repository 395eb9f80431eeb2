// The build found no headers of cuDNN: nothing is supported, so nothing else is called.
#include "kernels/cuda/vendor/cudnn.h"

namespace vt::cuda {
namespace {

[[noreturn]] void fail_not_built() {
  fail(ErrorKind::kRuntime,
       "attention: this build has no cuDNN; install nvidia-cudnn-cu13 and build again");
}

}  // namespace

bool cudnn_can_attend(const Attention&, bool) { return false; }
void cudnn_attention(const Attention&) { fail_not_built(); }
void cudnn_attention_backward(const Attention&) { fail_not_built(); }

}  // namespace vt::cuda
