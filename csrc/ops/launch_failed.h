// Adds to the error of a kernel that could not be started which operator it was, and of what.
#pragma once
#include <string>
#include <vector>

#include "base/macros.h"
#include "device/launch_error.h"
#include "ops/operand.h"

namespace vt {

namespace detail {
void append_operand(std::string& out, const Tensor& t);
void append_operand(std::string& out, const Operand& operand);
void append_operand(std::string& out, const std::vector<Tensor>& list);
}  // namespace detail

template <class... Inputs>
[[noreturn]] VT_NOINLINE void launch_failed(const LaunchError& error, const char* op,
                                            const Inputs&... inputs) {
  std::string operands;
  (detail::append_operand(operands, inputs), ...);
  throw Error(error.kind(), str(error.what(), "; it was called as ", op, "(", operands, ")"));
}

}  // namespace vt
