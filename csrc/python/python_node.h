// A backward node whose formula is a Python callable, and Python callables as hooks.
#pragma once
#include <Python.h>

#include <memory>
#include <string>
#include <vector>

#include "autograd/node.h"
#include "autograd/saved.h"

namespace vt::py {

// A Python object held from C++ that may die on any thread.
class SharedObject {
 public:
  explicit SharedObject(PyObject* borrowed);
  PyObject* get() const { return object_.get(); }

 private:
  std::shared_ptr<PyObject> object_;
};

// `callable(grad) -> Tensor | None` as a hook.
GradHook make_hook(PyObject* callable);

// backward is called as backward(saved, grads), with a tuple of the saved tensors and one of
// gradients, zeros where none arrived; it returns one gradient or None for each input.
class PythonNode final : public Node {
 public:
  PythonNode(std::string name, PyObject* backward, const std::vector<Tensor>& inputs,
             const std::vector<Tensor>& outputs, const std::vector<Tensor>& saved);

  const char* name() const override { return name_.c_str(); }
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override;
  void release_saved() override;

 private:
  struct Kept {
    SavedTensor tensor;
    int output;  // which output of this node it is, or -1
  };

  std::string name_;
  SharedObject backward_;
  std::vector<TensorMeta> outputs_;
  std::vector<TensorMeta> inputs_;
  std::vector<Kept> saved_;
  bool released_ = false;
};

}  // namespace vt::py
