// From an elementwise operator's arguments to its kernel. The common case (dense tensors of one
// shape, type and device, perhaps with a number) is decided inline before any set-up; the rest is
// in pointwise_call.cpp.
#pragma once
#include <string_view>

#include "kernels/pointwise_types.h"
#include "kernels/table.h"
#include "ops/operand.h"

namespace vt {

enum class ResultType : uint8_t { kPromote, kFloat, kBool };
// The operator's own numbers: converted to the type of the tensors, part of what decides it, or an
// error where they would lose their fraction.
enum class NumberRule : uint8_t { kConvert, kPromote, kFit };

struct PointwiseInfo {
  const char* name;
  PointwiseOp op;
  ResultType result;
  unsigned types;        // what the kernel is built for
  unsigned bool_inputs;  // bit i: input i is a bool tensor whatever the others are
  int scalars;           // parameters beside the inputs
  NumberRule numbers;    // how these take part in the type
};

Tensor call_pointwise_general(const PointwiseInfo& info, const Operand* inputs, int count,
                              Scalar* params);
// Writes into `out`, whose shape must be the broadcast shape; a different type is converted to
// where that loses no kind.
void call_pointwise_into(const PointwiseInfo& info, const Tensor& out, const Operand* inputs,
                         int count, Scalar* params);

namespace detail {

// Fills a dense plan and finds the number among the inputs; false where the general way is needed.
template <int N>
inline bool plan_dense(const PointwiseInfo& info, const Operand* inputs, Scalar* params,
                       ElementwisePlan& plan, int& scalar_at) {
  const TensorImpl* first = inputs[0].tensor->impl();
  const DType dtype = first->dtype;
  bool simple = first->dense && info.bool_inputs == 0 && covers(info.types, dtype) &&
                (info.result != ResultType::kFloat || is_float(dtype));
  if (info.numbers != NumberRule::kConvert)
    for (int i = 0; i < info.scalars; ++i)
      simple = simple && (params[i].is_none() || params[i].promoted(dtype) == dtype);
  plan.data[1] = static_cast<char*>(first->data);
  int operands = 2;
  scalar_at = kNoScalar;
  for (int i = 1; i < N; ++i) {
    if (inputs[i].is_tensor()) {
      const TensorImpl* other = inputs[i].tensor->impl();
      simple = simple && other->dense && other->dtype == dtype && other->device == first->device &&
               other->sizes == first->sizes;
      plan.data[operands++] = static_cast<char*>(other->data);
    } else {
      simple = simple && scalar_at == kNoScalar && inputs[i].scalar.promoted(dtype) == dtype;
      scalar_at = i;
      params[info.scalars] = inputs[i].scalar;
    }
  }
  plan.device = first->device;
  plan.operands = operands;
  plan.numel = first->numel;
  plan.dense = true;
  return simple;
}

}  // namespace detail

// `params` holds the operator's scalars and one free place after them. Input 0 is always a tensor.
template <int N>
inline Tensor call_pointwise(const PointwiseInfo& info, const Operand* inputs, Scalar* params) {
  ElementwisePlan plan;
  int scalar_at;
  if (VT_UNLIKELY(!detail::plan_dense<N>(info, inputs, params, plan, scalar_at)))
    return call_pointwise_general(info, inputs, N, params);
  const Tensor& first = *inputs[0].tensor;
  Tensor out = empty(first.sizes(), info.result == ResultType::kBool ? DType::kBool : first.dtype(),
                     plan.device);
  plan.data[0] = out.data<char>();
  if (VT_LIKELY(plan.numel > 0))
    kernels(plan.device)
        .pointwise[static_cast<int>(info.op)](plan, first.dtype(), params, scalar_at);
  return out;
}

template <int N>
inline void call_pointwise_out(const PointwiseInfo& info, const Tensor& out, const Operand* inputs,
                               Scalar* params) {
  ElementwisePlan plan;
  int scalar_at;
  const Tensor& first = *inputs[0].tensor;
  const bool simple = detail::plan_dense<N>(info, inputs, params, plan, scalar_at) &&
                      out.same(first) && info.result != ResultType::kBool;
  if (VT_UNLIKELY(!simple)) return call_pointwise_into(info, out, inputs, N, params);
  for (int i = 1; i < N;
       ++i)  // another window on the same memory might be overwritten before it is read
    if (inputs[i].is_tensor() &&
        inputs[i].tensor->impl()->storage.get() == out.impl()->storage.get() &&
        inputs[i].tensor->data() != out.data())
      return call_pointwise_into(info, out, inputs, N, params);
  plan.data[0] = out.data<char>();
  if (VT_LIKELY(plan.numel > 0))
    kernels(plan.device)
        .pointwise[static_cast<int>(info.op)](plan, first.dtype(), params, scalar_at);
}

// A string option with two spellings, as gelu's approximate: false for the first, true for the
// second.
bool parse_flag(const char* op, std::string_view text, const char* first, const char* second);

}  // namespace vt
