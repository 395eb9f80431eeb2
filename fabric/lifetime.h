// When memory that another device reads may be written or handed out again.
#pragma once
#include "tensor/tensor.h"

namespace vt::fabric {

// Note [Remote lifetime]
// Work of one device that reads or writes the memory of another is fenced in both directions, by
// events and without the host: it waits for what is queued on the owner's current stream, so that
// it sees what was written, and the owner's current stream waits for it, so that nothing queued
// there later writes the memory too early. The owner's allocator hands freed memory out again to
// the stream that it was taken for; where that is not the current one, the block also waits for the
// current one (record_stream). So a tensor may be overwritten or dropped right after the call.
//
// Who keeps to it: operators over peer memory (before_ and after_remote_use), copies between
// devices (device/cuda/copy.cpp, peer_copy.cpp), collectives (a unit starts behind the marks of its
// ranks, no rank's part ends before its peers have read what is the rank's, and the communicator
// keeps the tensors until the caller's stream has been put behind the unit), symmetric and unified
// memory (their release waits for the devices).
//
// On CPU devices work is done when a call returns, and there is nothing to order.

// `user` is about to work on memory of `owner`. `what` names the work in the events.
void before_remote_use(const char* what, Device user, Device owner);
// That work is queued on the current stream of `user`.
void after_remote_use(const char* what, Device user, const Tensor& memory);

// `stream`, of the tensor's device, works on the tensor: its memory is not handed out again before
// what is queued there now is done, even if the tensor is dropped at once.
void hold_for(const Tensor& memory, Stream stream);

}  // namespace vt::fabric
