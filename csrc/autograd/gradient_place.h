// Where the backward of an operation may write a leaf's gradient at once, instead of into memory of
// its own that is then copied.
#pragma once
#include "tensor/tensor.h"

namespace vt {

class PlaceSource {
 public:
  // With `adds`, also a place that holds a gradient already: *adds then says so.
  virtual Tensor place_of(int edge, bool* adds) = 0;

 protected:
  ~PlaceSource() = default;
};

namespace detail {
inline thread_local PlaceSource* t_places = nullptr;
}

// Set by the engine while it applies a node.
class PlaceScope {
 public:
  explicit PlaceScope(PlaceSource* source) : previous_(detail::t_places) {
    detail::t_places = source;
  }
  ~PlaceScope() { detail::t_places = previous_; }
  PlaceScope(const PlaceScope&) = delete;
  PlaceScope& operator=(const PlaceScope&) = delete;

 private:
  PlaceSource* previous_;
};

// The memory to write the gradient of edge `edge` of the node that is being applied into: the
// leaf's bound place where this is the only gradient the leaf gets and no hook looks at it, else
// new memory. All of it must be written. Where the caller has `adds`, and the place holds gradients
// of earlier passes, *adds becomes true: what is computed has to be added there. Below autograd
// only.
inline Tensor gradient_output(int edge, const Dims& sizes, DType dtype, Device device,
                              bool* adds = nullptr) {
  if (detail::t_places) {
    const Tensor place = detail::t_places->place_of(edge, adds);
    if (place.defined() && place.is_dense() && place.sizes() == sizes && place.dtype() == dtype &&
        place.device() == device)
      return place;
  }
  if (adds) *adds = false;
  return empty(sizes, dtype, device);
}

}  // namespace vt
