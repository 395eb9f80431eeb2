// The door for elementwise operands that live on another device than the result. Shut by default;
// whoever joins devices to one machine installs a keeper, and this floor never learns its name.
#pragma once
#include <atomic>

#include "tensor/tensor.h"

namespace vt {

class RemoteOperands {
 public:
  virtual ~RemoteOperands() = default;

  // What a kernel on `reader` may read instead of `t`: `t` itself where it reaches its memory, or a
  // copy on `reader`. Undefined: operators may not mix devices. Throws where they may, but not
  // these.
  virtual Tensor admit(const char* op, const Tensor& t, Device reader) = 0;
  // Around the launch of the kernel, for each admitted tensor that is still on another device: what
  // is queued for it is waited for, and later work waits for the kernel.
  virtual void before_read(const char* op, const Tensor& t, Device reader) = 0;
  virtual void after_read(const char* op, const Tensor& t, Device reader) = 0;
  // How to open the door, as the end of an error: "; move one ... or ...".
  virtual const char* hint() const = 0;
};

// Null, or something that lives for ever.
extern std::atomic<RemoteOperands*> g_remote_operands;

}  // namespace vt
