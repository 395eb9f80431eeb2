// The tensor: a typed, strided window on a storage. Knows its memory and layout; of autograd and
// Python it only keeps two pointers that the floors above own.
#pragma once
#include <string>
#include <vector>

#include "base/dims.h"
#include "base/dtype.h"
#include "tensor/storage.h"

namespace vt {

// What autograd keeps about a tensor; defined in autograd/.
struct AutogradMeta {
  virtual ~AutogradMeta() = default;
  // Has the tensor that this one views got a history since, by an in-place operation on another
  // view of it?
  virtual bool base_has_history() const { return false; }
};

class TensorImpl : public RefCounted<TensorImpl>, public Pooled<TensorImpl> {
 public:
  TensorImpl(Ref<Storage> storage, const Dims& sizes, const Dims& strides, int64_t offset,
             DType dtype);
  static void destroy(TensorImpl* impl) { delete impl; }
  ~TensorImpl() { delete autograd; }

  void set_geometry(const Dims& sizes, const Dims& strides, int64_t offset);

  Ref<Storage> storage;
  void* data;      // first element: storage + offset
  int64_t offset;  // elements
  int64_t numel;
  Dims sizes;
  Dims strides;  // elements; never negative
  DType dtype;
  Device device;
  bool dense;                  // row-major without gaps
  bool requires_grad = false;  // a leaf that wants a gradient, or the result of an operation on one
  AutogradMeta* autograd = nullptr;
  void* python_object =
      nullptr;  // the living wrapper, if any; touched under the GIL only, holds no count
};

class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Ref<TensorImpl> impl) : impl_(std::move(impl)) {}

  bool defined() const { return static_cast<bool>(impl_); }
  TensorImpl* impl() const { return impl_.get(); }
  const Ref<TensorImpl>& ref() const { return impl_; }
  bool same(const Tensor& other) const { return impl_ == other.impl_; }

  const Dims& sizes() const { return impl_->sizes; }
  const Dims& strides() const { return impl_->strides; }
  int dim() const { return impl_->sizes.size(); }
  int64_t size(int64_t d) const;  // negative d counts from the end; IndexError when out of range
  int64_t stride(int64_t d) const;
  int64_t numel() const { return impl_->numel; }
  int64_t offset() const { return impl_->offset; }
  DType dtype() const { return impl_->dtype; }
  Device device() const { return impl_->device; }
  size_t item_size() const { return vt::item_size(impl_->dtype); }
  size_t bytes() const { return static_cast<size_t>(impl_->numel) * item_size(); }
  bool is_dense() const { return impl_->dense; }
  bool requires_grad() const {
    return impl_ &&
           (impl_->requires_grad || (impl_->autograd && impl_->autograd->base_has_history()));
  }
  void* data() const { return impl_->data; }
  template <class T>
  T* data() const {
    return static_cast<T*>(impl_->data);
  }
  Storage& storage() const { return *impl_->storage; }
  uint32_t version() const { return impl_->storage->version(); }
  void bump_version() const { impl_->storage->bump_version(); }

 private:
  Ref<TensorImpl> impl_;
};

// The bytes of a dense tensor; an error that names `op` where sizes are negative or too large.
size_t bytes_of(const char* op, const Dims& sizes, DType dtype);
// Uninitialised and dense.
Tensor empty(const Dims& sizes, DType dtype, Device device);
Tensor empty_like(const Tensor& t);
// Uninitialised, with the dimensions in memory in the order of t's, without gaps.
Tensor empty_in_order_of(const Tensor& t, DType dtype);
// Another window on the same storage, without autograd. Bounds are checked.
Tensor view_of(const Tensor& t, const Dims& sizes, const Dims& strides, int64_t offset);
// The same window, without autograd.
Tensor alias(const Tensor& t);

// "f32[2, 3]@cuda:0", as error messages show a tensor.
std::string describe(const Tensor& t);
std::ostream& operator<<(std::ostream& out, const Tensor& t);

// Brings a dimension that may be negative into [0, dims); IndexError otherwise. A 0-d tensor counts
// as one dimension.
int wrap_dim(const char* op, int64_t d, int dims);

}  // namespace vt
