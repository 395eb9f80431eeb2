// Tensors kept for backward, guarded against in-place changes.
#pragma once
#include "autograd/variable.h"
#include "ops/operand.h"

namespace vt {

// Shape, type and place of a tensor whose values backward does not need.
struct TensorMeta {
  Dims sizes;
  DType dtype = DType::kF32;
  Device device;

  TensorMeta() = default;
  explicit TensorMeta(const Tensor& t) {
    if (!t.defined()) return;
    sizes = t.sizes();
    dtype = t.dtype();
    device = t.device();
  }
};

class SavedTensor {
 public:
  void save_input(const Tensor& t);
  void save_output(const Tensor& t);  // without its history: the node would own itself
  // The tensor; throws if it was modified in place since, or if the graph was freed. `node` is
  // whose output it was.
  Tensor unpack(Node* node, int output = 0) const;
  void release() {
    tensor_ = Tensor();
    released_ = true;
  }

 private:
  Tensor tensor_;
  uint32_t version_ = 0;
  bool released_ = false;
  bool is_output_ = false;
};

// An Operand that outlives the call.
struct OperandValue {
  Tensor tensor;
  Scalar scalar;
  operator Operand() const { return tensor.defined() ? Operand(tensor) : Operand(scalar); }
};

class SavedOperand {
 public:
  void save_input(const Operand& operand) {
    if (operand.is_tensor()) tensor_.save_input(*operand.tensor);
    else scalar_ = operand.scalar;
    is_tensor_ = operand.is_tensor();
  }
  OperandValue unpack(Node* node) const {
    return is_tensor_ ? OperandValue{tensor_.unpack(node), {}} : OperandValue{Tensor(), scalar_};
  }
  void release() { tensor_.release(); }

 private:
  SavedTensor tensor_;
  Scalar scalar_;
  bool is_tensor_ = false;
};

[[noreturn]] void fail_graph_freed(const char* node);

}  // namespace vt
