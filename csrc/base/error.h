// The error family. Every failure that a user can meet is one of these kinds; the Python module
// maps each kind to the exception type that PyTorch's users expect.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

#include "base/macros.h"

namespace vt {

enum class ErrorKind {
  kRuntime,         // RuntimeError
  kValue,           // ValueError
  kType,            // TypeError
  kIndex,           // IndexError
  kNotImplemented,  // NotImplementedError
  kOutOfMemory,     // vibetensor.OutOfMemoryError (a RuntimeError)
  kFabric,          // vibetensor.FabricError (a RuntimeError)
  kFabricTimeout,   // vibetensor.FabricTimeoutError (a FabricError)
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <class... Parts>
VT_NOINLINE std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
[[noreturn]] VT_NOINLINE void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, str(parts...));
}

}  // namespace vt

// VT_CHECK(condition, kValue, "op: what is wrong, ", value, " and what to do")
#define VT_CHECK(condition, kind, ...)                                             \
  do {                                                                             \
    if (VT_UNLIKELY(!(condition))) ::vt::fail(::vt::ErrorKind::kind, __VA_ARGS__); \
  } while (0)
