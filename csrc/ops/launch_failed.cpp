// Operands as text.
#include "ops/launch_failed.h"

namespace vt::detail {
namespace {

template <class Value>
void append(std::string& out, const Value& value) {
  out += str(out.empty() ? "" : ", ", value);
}

}  // namespace

void append_operand(std::string& out, const Tensor& t) {
  if (t.defined()) append(out, t);
  else append(out, "none");
}

void append_operand(std::string& out, const Operand& operand) {
  if (operand.is_tensor()) append_operand(out, *operand.tensor);
  else append(out, operand.scalar);
}

void append_operand(std::string& out, const std::vector<Tensor>& list) {
  for (const Tensor& t : list) append_operand(out, t);
}

}  // namespace vt::detail
