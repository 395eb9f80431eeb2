// Indexing: ints, slices, None and ... become views; masks and index tensors become gathers and
// scatters. All of it goes through public operators, so that it is differentiable.
#include "python/indexing.h"

#include <vector>

#include "autograd/variable.h"
#include "iter/elementwise.h"
#include "ops/ops.h"
#include "python/conversion.h"
#include "python/parse.h"

namespace vt::py {
namespace {

// A mask or index tensor and the first dimension of the view that it indexes.
struct Advanced {
  Tensor index;
  int dim;
  bool is_mask() const { return index.dtype() == DType::kBool; }
  int width() const { return is_mask() ? index.dim() : 1; }
};

// What an index comes to: a view, and what picks from it.
struct Target {
  Tensor view;
  std::vector<Advanced> picks;
};

bool is_plain_int(PyObject* item) { return PyLong_Check(item) && !PyBool_Check(item); }

// An object that is no int, slice, None, ... or bool, as a tensor.
Tensor index_tensor_of(PyObject* item, Device device) {
  Tensor index = is_tensor(item) ? unwrap(item) : tensor_from_data(item, std::nullopt, {});
  if (!is_tensor(item) && index.numel() == 0 && is_float(index.dtype()))
    index = to_dtype(index, DType::kI64);
  VT_CHECK(
      index.dtype() == DType::kBool || index.dtype() == DType::kI64 || index.dtype() == DType::kI32,
      kIndex, "tensors used as indices must be int64, int32 or bool, got ", index);
  if (index.dtype() == DType::kI32) index = to_dtype(index, DType::kI64);
  return to_device(index, device, false);
}

// How many dimensions of the tensor an item takes; -1 for an Ellipsis.
int width_of(PyObject* item) {
  if (is_plain_int(item) || PySlice_Check(item)) return 1;
  if (item == Py_None || PyBool_Check(item)) return 0;
  if (item == Py_Ellipsis) return -1;
  if (is_tensor(item)) return unwrap(item).dtype() == DType::kBool ? unwrap(item).dim() : 1;
  return 1;
}

int64_t int_of(PyObject* number) {
  const int64_t value = PyLong_AsLongLong(number);
  if (VT_UNLIKELY(value == -1 && PyErr_Occurred())) throw PythonError();
  return value;
}

Tensor apply_slice(const Tensor& view, int dim, PyObject* item, bool skip_full) {
  Py_ssize_t start, stop, step;
  if (PySlice_Unpack(item, &start, &stop, &step) < 0) throw PythonError();
  VT_CHECK(step > 0, kValue, "slice step must be positive, got ", step, "; use flip() to reverse");
  const int64_t size = view.sizes()[dim];
  PySlice_AdjustIndices(size, &start, &stop, step);
  if (skip_full && start == 0 && stop >= size && step == 1) return view;
  return slice(view, dim, start, std::max(start, stop), step);
}

Tensor bool_pick(bool value, Device device) {
  return value ? zeros({1}, DType::kI64, device) : empty({0}, DType::kI64, device);
}

// One item of an index; returns the dimension that the next item starts at.
int apply_item(Target& target, PyObject* item, int dim) {
  Tensor& view = target.view;
  if (is_plain_int(item)) {
    view = select(view, dim, int_of(item));
    return dim;
  }
  if (PySlice_Check(item)) {
    view = apply_slice(view, dim, item, true);
    return dim + 1;
  }
  if (item == Py_None) {
    view = unsqueeze(view, dim);
    return dim + 1;
  }
  if (PyBool_Check(item)) {
    view = unsqueeze(view, dim);
    target.picks.push_back({bool_pick(item == Py_True, view.device()), dim});
    return dim + 1;
  }
  Tensor index = index_tensor_of(item, view.device());
  if (index.dim() == 0 && index.dtype() == DType::kI64) {
    view = select(view, dim, vt::py::item(index).to<int64_t>());
    return dim;
  }
  if (index.dim() == 0) {
    const bool value = vt::py::item(index).to<bool>();
    view = unsqueeze(view, dim);
    target.picks.push_back({bool_pick(value, view.device()), dim});
    return dim + 1;
  }
  const Advanced pick{std::move(index), dim};
  for (int i = 0; pick.is_mask() && i < pick.width(); ++i) {
    VT_CHECK(pick.index.sizes()[i] == view.sizes()[dim + i], kIndex, "the shape of the mask ",
             pick.index.sizes(), " at index ", i,
             " does not match the shape of the indexed tensor ", view.sizes(), " at index ",
             dim + i);
  }
  target.picks.push_back(pick);
  return dim + pick.width();
}

Target resolve(const Tensor& self, PyObject* index) {
  PyObject* const* items = &index;
  Py_ssize_t count = 1;
  if (PyTuple_Check(index)) {
    items = PySequence_Fast_ITEMS(index);
    count = PyTuple_GET_SIZE(index);
  }
  int taken = 0, ellipses = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    const int width = width_of(items[i]);
    if (width < 0) ++ellipses;
    else taken += width;
  }
  VT_CHECK(ellipses <= 1, kIndex, "an index can only have a single ellipsis ('...')");
  VT_CHECK(taken <= self.dim(), kIndex, "too many indices for a tensor of dimension ", self.dim(),
           ", got ", taken);
  Target target{self, {}};
  int dim = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    dim = items[i] == Py_Ellipsis ? dim + self.dim() - taken : apply_item(target, items[i], dim);
  }
  return target;
}

// --- masks and index tensors ---

// The picks as one int64 tensor a dimension, broadcast to one shape.
struct Gather {
  std::vector<Tensor> indices;
  std::vector<int> dims;  // of the view, ascending
  Dims shape;             // of the indices
  Dims order;             // of the view's dimensions: the picked ones first
  int front =
      0;  // where the picked block stands in the result: after this many unpicked dimensions
};

Gather gather_of(const Target& target) {
  Gather g;
  for (const Advanced& pick : target.picks) {
    if (!pick.is_mask()) {
      g.indices.push_back(pick.index);
      g.dims.push_back(pick.dim);
      continue;
    }
    const Tensor positions = nonzero(pick.index);
    for (int i = 0; i < pick.width(); ++i) {
      g.indices.push_back(select(positions, 1, i));
      g.dims.push_back(pick.dim + i);
    }
  }
  for (const Tensor& index : g.indices) {
    try {
      g.shape = broadcast_sizes("index", g.shape, index.sizes());
    } catch (const Error& error) { fail(ErrorKind::kIndex, error.what()); }
  }
  for (Tensor& index : g.indices) {
    if (!(index.sizes() == g.shape)) index = expand(index, g.shape);
  }
  for (int dim : g.dims) g.order.push_back(dim);
  for (int dim = 0; dim < target.view.dim(); ++dim) {
    if (std::find(g.dims.begin(), g.dims.end(), dim) == g.dims.end()) g.order.push_back(dim);
  }
  // Neighbouring picked dimensions are replaced where they stand; others move to the front.
  if (g.dims.back() - g.dims.front() + 1 == static_cast<int>(g.dims.size()))
    g.front = g.dims.front();
  return g;
}

bool is_identity(const Dims& order) {
  for (int i = 0; i < order.size(); ++i) {
    if (order[i] != i) return false;
  }
  return true;
}

Tensor permuted(const Tensor& t, const Dims& order) {
  return is_identity(order) ? t : permute(t, order);
}

// From "picked block first" to the result's order, of `total` dimensions.
Dims result_order(const Gather& g, int total) {
  const int block = g.shape.size();
  Dims order;
  for (int i = 0; i < g.front; ++i) order.push_back(block + i);
  for (int i = 0; i < block; ++i) order.push_back(i);
  for (int i = block + g.front; i < total; ++i) order.push_back(i);
  return order;
}

Dims inverse(const Dims& order) {
  Dims result = order;
  for (int i = 0; i < order.size(); ++i) result[static_cast<int>(order[i])] = i;
  return result;
}

Tensor pick(const Target& target) {
  const Gather g = gather_of(target);
  const Tensor result = index_tensor(permuted(target.view, g.order), g.indices);
  return permuted(result, result_order(g, result.dim()));
}

// Positions in the picked dimensions counted as one, int64 [shape]; IndexError where one is out of
// range.
Tensor flat_positions(const Gather& g, const Dims& picked_sizes) {
  Tensor flat;
  for (size_t i = 0; i < g.indices.size(); ++i) {
    const int64_t size = picked_sizes[static_cast<int>(i)];
    const Tensor& index = g.indices[i];
    const Tensor wrapped = add(index, mul(to_dtype(lt(index, 0), DType::kI64), size), 1);
    const Tensor outside = vt::any(logical_or(lt(wrapped, 0), ge(wrapped, size)), {}, false);
    VT_CHECK(!item(outside).to<bool>(), kIndex, "index out of range for dimension ", g.dims[i],
             " with size ", size);
    flat = flat.defined() ? add(mul(flat, size), wrapped, 1) : wrapped;
  }
  return flat;
}

void put(const Target& target, const Tensor& value) {
  const Gather g = gather_of(target);
  const int picked = static_cast<int>(g.dims.size());
  const Tensor view = permuted(target.view, g.order);
  Dims block, rest;
  for (int i = 0; i < view.dim(); ++i) (i < picked ? block : rest).push_back(view.sizes()[i]);
  const int64_t rows = g.shape.product(), columns = rest.product();
  for (int i = 0; i < picked; ++i)
    VT_CHECK(block[i] > 0 || rows == 0, kIndex, "index out of range for dimension ", g.dims[i],
             " with size 0");
  if (rows * columns == 0) return;  // indices that name nothing are not looked at, as in torch
  const Tensor positions = flat_positions(g, block);

  // The value in the order of the result, then with the picked block first: [rows, columns].
  Dims shape = g.shape;
  for (int64_t size : rest) shape.push_back(size);
  const Dims order = result_order(g, shape.size());
  Dims wanted;
  for (int64_t dim : order) wanted.push_back(shape[static_cast<int>(dim)]);
  Tensor source = to_device(to_dtype(value, view.dtype()), view.device(), false);
  while (source.dim() > wanted.size() && source.sizes()[0] == 1) source = select(source, 0, 0);
  source = reshape(permuted(broadcast_to(source, wanted), inverse(order)), {rows, columns});

  const Tensor index = expand(reshape(positions, {rows, 1}), {rows, columns});
  const Tensor flat = reshape(view, {block.product(), columns});
  copy_(view, reshape(scatter(flat, 0, index, source), view.sizes()), false);
}

// A single mask and a single value need no positions.
bool put_masked(const Target& target, const Tensor* value, Scalar number) {
  if (target.picks.size() != 1 || !target.picks[0].is_mask() || (value && value->numel() != 1))
    return false;
  const Advanced& pick = target.picks[0];
  Dims shape = pick.index.sizes();
  for (int i = pick.dim + pick.width(); i < target.view.dim(); ++i) shape.push_back(1);
  const Tensor mask = reshape(pick.index, shape);
  if (!value) {
    masked_fill_(target.view, mask, number);
    return true;
  }
  const Tensor one =
      reshape(to_device(to_dtype(*value, target.view.dtype()), target.view.device(), false), {});
  copy_(target.view, where(mask, one, target.view), false);
  return true;
}

}  // namespace

PyObject* get_item(PyObject* self, PyObject* index) {
  return guarded([&]() -> PyObject* {
    const Tensor& t = unwrap(self);
    if (PyLong_CheckExact(index)) {
      VT_CHECK(t.dim() > 0, kIndex,
               "invalid index of a 0-dim tensor; use tensor.item() to get its value");
      return wrap(select(t, 0, int_of(index)));
    }
    if (PySlice_Check(index) && t.dim() > 0) return wrap(apply_slice(t, 0, index, false));
    const Target target = resolve(t, index);
    if (!target.picks.empty()) {
      ReleaseGil release(t);
      Tensor picked = pick(target);
      release.reacquire();
      return wrap(std::move(picked));
    }
    if (!target.view.same(t)) return wrap(target.view);
    // Nothing changed, as in t[...]: a view all the same.
    return wrap(t.dim() > 0 ? slice(t, 0, 0, t.sizes()[0], 1) : view(t, {}));
  });
}

int set_item(PyObject* self, PyObject* index, PyObject* value) {
  return guarded_int([&] {
    const Tensor& t = unwrap(self);
    VT_CHECK(value != nullptr, kType, "Tensor does not support deleting items");
    const Target target = resolve(t, index);
    Scalar number;
    if (number_from(value, number)) {
      ReleaseGil release(target.view);
      if (target.picks.empty()) fill_(target.view, number);
      else if (!put_masked(target, nullptr, number))
        put(target, full({}, number, t.dtype(), t.device()));
      return 0;
    }
    Tensor source =
        is_tensor(value) ? unwrap(value) : tensor_from_data(value, t.dtype(), t.device());
    ReleaseGil release(target.view);
    if (!target.picks.empty()) {
      if (!put_masked(target, &source, {})) put(target, source);
      return 0;
    }
    while (source.dim() > target.view.dim() && source.sizes()[0] == 1)
      source = select(source, 0, 0);
    copy_(target.view, source, false);
    return 0;
  });
}

}  // namespace vt::py
