// The profiler's view of an operator: its name and, where asked for, the shapes of its inputs.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "device/profiler.h"
#include "ops/operand.h"

namespace vt {

namespace detail {
void append_shape(std::string& out, const Tensor& t);
void append_shape(std::string& out, const Operand& operand);
void append_shape(std::string& out, const std::vector<Tensor>& list);
}  // namespace detail

// An event of the profiler as long as a public operator. While none runs it is a load and a branch.
class OpScope {
 public:
  template <class... Inputs>
  explicit OpScope(const char* name, const Inputs&... inputs) {
    if (profiler::recording()) begin(name, inputs...);
  }
  ~OpScope() {
    if (VT_UNLIKELY(token_ != 0)) profiler::close(token_);
  }
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;

 private:
  template <class... Inputs>
  VT_NOINLINE void begin(const char* name, const Inputs&... inputs) {
    std::string shapes;
    if (profiler::wants_shapes()) {
      shapes = "[";
      ((detail::append_shape(shapes, inputs)), ...);
      if (shapes.size() > 1) shapes.resize(shapes.size() - 2);  // the last ", "
      shapes += "]";
    }
    token_ = profiler::open(profiler::HostEvent::Kind::kOp, name, std::move(shapes));
  }

  uint64_t token_ = 0;
};

}  // namespace vt
