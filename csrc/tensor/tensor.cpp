// Making tensors and windows on them.
#include "tensor/tensor.h"

#include <ostream>

namespace vt {
namespace {

bool is_row_major(const Dims& sizes, const Dims& strides) {
  int64_t expected = 1;
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return true;
  for (int i = sizes.size() - 1; i >= 0; --i) {
    if (sizes[i] == 1) continue;
    if (strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

}  // namespace

TensorImpl::TensorImpl(Ref<Storage> owner, const Dims& sizes_in, const Dims& strides_in,
                       int64_t offset_in, DType type)
    : storage(std::move(owner)), dtype(type), device(storage->device()) {
  set_geometry(sizes_in, strides_in, offset_in);
}

void TensorImpl::set_geometry(const Dims& sizes_in, const Dims& strides_in, int64_t offset_in) {
  sizes = sizes_in;
  strides = strides_in;
  offset = offset_in;
  numel = sizes.product();
  data = static_cast<char*>(storage->data()) + offset * static_cast<int64_t>(item_size(dtype));
  dense = is_row_major(sizes, strides);
}

int64_t Tensor::size(int64_t d) const { return sizes()[wrap_dim("size", d, dim())]; }
int64_t Tensor::stride(int64_t d) const { return strides()[wrap_dim("stride", d, dim())]; }

size_t bytes_of(const char* op, const Dims& sizes, DType dtype) {
  int64_t numel = 1;
  for (int64_t s : sizes) {
    VT_CHECK(s >= 0, kRuntime, op, ": sizes must not be negative, got ", sizes);
    VT_CHECK(!__builtin_mul_overflow(numel, s, &numel) && numel < (int64_t{1} << 56), kRuntime, op,
             ": a tensor of sizes ", sizes, " has too many elements");
  }
  return static_cast<size_t>(numel) * item_size(dtype);
}

Tensor empty(const Dims& sizes, DType dtype, Device device) {
  const size_t bytes = bytes_of("empty", sizes, dtype);
  return Tensor(Ref<TensorImpl>::adopt(
      new TensorImpl(Storage::create(device, bytes), sizes, row_major_strides(sizes), 0, dtype)));
}

Tensor empty_like(const Tensor& t) { return empty(t.sizes(), t.dtype(), t.device()); }

Tensor empty_in_order_of(const Tensor& t, DType dtype) {
  const Dims& sizes = t.sizes();
  int order[kMaxDims];
  for (int i = 0; i < sizes.size(); ++i) order[i] = i;
  std::stable_sort(order, order + sizes.size(),
                   [&](int a, int b) { return t.strides()[a] > t.strides()[b]; });
  Dims strides = sizes;
  int64_t step = 1;
  for (int i = sizes.size() - 1; i >= 0; --i) {
    strides[order[i]] = step;
    step *= std::max<int64_t>(sizes[order[i]], 1);
  }
  const size_t bytes = static_cast<size_t>(t.numel()) * item_size(dtype);
  return Tensor(Ref<TensorImpl>::adopt(
      new TensorImpl(Storage::create(t.device(), bytes), sizes, strides, 0, dtype)));
}

Tensor view_of(const Tensor& t, const Dims& sizes, const Dims& strides, int64_t offset) {
  int64_t last = offset, count = 1;
  bool fits = true, no_elements = false;  // fits: no number overflowed
  for (int i = 0; i < sizes.size(); ++i) {
    VT_CHECK(sizes[i] >= 0 && strides[i] >= 0, kRuntime,
             "view: sizes and strides must not be negative, got ", sizes, " and ", strides);
    int64_t step;
    no_elements |= sizes[i] == 0;
    fits = fits && !__builtin_mul_overflow(sizes[i] - 1, strides[i], &step) &&
           !__builtin_add_overflow(last, step, &last) &&
           !__builtin_mul_overflow(count, sizes[i], &count);
  }
  const int64_t available = static_cast<int64_t>(t.storage().bytes() / t.item_size());
  VT_CHECK(offset >= 0 && (no_elements || (fits && last < available)), kRuntime, "view: sizes ",
           sizes, ", strides ", strides, " and offset ", offset, " reach past the storage of ",
           available, " elements");
  return Tensor(
      Ref<TensorImpl>::adopt(new TensorImpl(t.impl()->storage, sizes, strides, offset, t.dtype())));
}

Tensor alias(const Tensor& t) {
  return Tensor(Ref<TensorImpl>::adopt(
      new TensorImpl(t.impl()->storage, t.sizes(), t.strides(), t.offset(), t.dtype())));
}

std::string describe(const Tensor& t) {
  if (!t.defined()) return "undefined";
  return str(short_name(t.dtype()), t.sizes(), '@', to_string(t.device()));
}

std::ostream& operator<<(std::ostream& out, const Tensor& t) { return out << describe(t); }

int wrap_dim(const char* op, int64_t d, int dims) {
  const int64_t range = dims > 0 ? dims : 1;
  VT_CHECK(d >= -range && d < range, kIndex, op,
           ": dimension out of range (expected to be in range of [", -range, ", ", range - 1,
           "], but got ", d, ")");
  return static_cast<int>(d < 0 ? d + range : d);
}

}  // namespace vt
