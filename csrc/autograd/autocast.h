// Autocast: what of it is on in the calling thread, and what an operator's inputs are cast to. The
// generated vt::autocast::op cast by it and then call vt::op; which rule an operator follows is in
// the table. Knows no operator.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>

#include "base/dtype.h"
#include "ops/operand.h"
#include "tensor/tensor.h"

namespace vt {

// Note [Where autocast acts]
// At the outermost call: the callers that Python reaches test one flag and go to vt::autocast::op
// where it is set. Above autograd, so that gradients flow through the casts and what is saved for
// backward is the narrow tensor; not inside an operator that is made of others, nor in a formula of
// a gradient, which run in the types that the outer call was given.

struct AutocastMode {
  bool enabled = false;
  DType dtype = DType::kF32;  // the lower precision
};

namespace detail {
inline thread_local bool t_autocasting = false;
}  // namespace detail

// Is it on for some kind of device?
inline bool autocasting() { return detail::t_autocasting; }
AutocastMode autocast_mode(DeviceType kind);
void set_autocast_mode(DeviceType kind, AutocastMode mode);

// Regions nest; what was cast in them is forgotten when the outermost ends.
void enter_autocast_region();
void leave_autocast_region();
bool autocast_caches();
void set_autocast_caches(bool caches);
void clear_autocast_cache();

// Off while it lives: a backward pass does not see what its caller's thread has set.
class AutocastOff {
 public:
  AutocastOff();
  ~AutocastOff();
  AutocastOff(const AutocastOff&) = delete;
  AutocastOff& operator=(const AutocastOff&) = delete;

 private:
  AutocastMode modes_[kDeviceTypeCount];
  bool on_;
};

// What the table says of an operator and a kind of device: nothing; the region's type; float32; or
// the widest type among the inputs.
enum class CastRule : uint8_t { kNone, kLower, kFloat32, kWidest };

inline DeviceType kind_of(const Tensor& t) { return t.device().type; }
// t in the type. A float32 leaf that wants a gradient is cast once in a region, see autocast.cpp.
Tensor autocast_to(const Tensor& t, DType dtype);

// Float64 and what is no float stay as they are.
inline bool is_cast_by_autocast(DType t) { return is_float(t) && t != DType::kF64; }

// An operand that owns its tensor.
template <class T, class O>
struct CastOperand {
  T tensor;
  Scalar scalar;
  operator O() const { return tensor.defined() ? O(tensor) : O(scalar); }
};

// The casts of one call of an operator, decided from all of its inputs; then called for each of
// them. T is a tensor, O the operand that may be one.
template <class T, class O>
class Casts {
 public:
  template <class... Inputs>
  Casts(CastRule cpu, CastRule cuda, const Inputs&... inputs) {
    (see_place(inputs), ...);
    const AutocastMode mode = autocast_mode(kind_);
    if (!mode.enabled) return;
    rule_ = kind_ == DeviceType::kCUDA ? cuda : cpu;
    if (rule_ == CastRule::kLower) target_ = mode.dtype;
    else if (rule_ == CastRule::kFloat32) target_ = DType::kF32;
    else if (rule_ == CastRule::kWidest) (see_type(inputs), ...);
  }

  T operator()(const T& t) const {
    if (!target_ || !t.defined() || kind_of(t) != kind_ || !is_cast_by_autocast(t.dtype()) ||
        t.dtype() == *target_)
      return t;
    return autocast_to(t, *target_);
  }
  std::vector<T> operator()(const std::vector<T>& list) const {
    std::vector<T> result;
    result.reserve(list.size());
    for (const T& t : list) result.push_back((*this)(t));
    return result;
  }
  CastOperand<T, O> operator()(const O& operand) const {
    if (!operand.is_tensor()) return {T(), operand.scalar};
    return {(*this)(*operand.tensor), Scalar()};
  }
  // Of an operator that takes the type of its result: float32 where none was asked for and its
  // first input is one that autocast would cast.
  std::optional<DType> result_type(std::optional<DType> given, const T& first) const {
    if (given || rule_ != CastRule::kFloat32 || !is_cast_by_autocast(first.dtype())) return given;
    return DType::kF32;
  }

 private:
  // One tensor on a GPU makes it a call of GPUs: the others are numbers of the host then.
  void see_place(const T& t) {
    if (t.defined() && kind_of(t) == DeviceType::kCUDA) kind_ = DeviceType::kCUDA;
  }
  void see_place(const std::vector<T>& list) {
    for (const T& t : list) see_place(t);
  }
  void see_place(const O& operand) {
    if (operand.is_tensor()) see_place(*operand.tensor);
  }

  void see_type(const T& t) {
    if (!t.defined() || kind_of(t) != kind_ || !is_cast_by_autocast(t.dtype())) return;
    target_ = target_ ? promote(*target_, t.dtype()) : t.dtype();
  }
  void see_type(const std::vector<T>& list) {
    for (const T& t : list) see_type(t);
  }
  void see_type(const O& operand) {
    if (operand.is_tensor()) see_type(*operand.tensor);
  }

  DeviceType kind_ = DeviceType::kCPU;
  CastRule rule_ = CastRule::kNone;
  std::optional<DType> target_;
};

}  // namespace vt
