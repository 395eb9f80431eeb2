// Shapes as text.
#include "ops/op_scope.h"

#include <initializer_list>

#include "base/error.h"

namespace vt::detail {

void append_shape(std::string& out, const Tensor& t) {
  if (!t.defined()) {
    out += "[], ";
    return;
  }
  out += "[";
  const char* separator = "";
  for (int64_t size : t.sizes()) {
    out += str(separator, size);
    separator = ", ";
  }
  out += "], ";
}

void append_shape(std::string& out, const Operand& operand) {
  if (operand.is_tensor()) append_shape(out, *operand.tensor);
  else out += "[], ";
}

void append_shape(std::string& out, const std::vector<Tensor>& list) {
  for (const Tensor& t : list) append_shape(out, t);
}

}  // namespace vt::detail
