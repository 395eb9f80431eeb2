// The general way of an elementwise operator: promotion, broadcasting, strides, numbers in 0-d
// tensors, result types.
#include "ops/pointwise_call.h"

#include "ops/ops.h"
#include "ops/remote_operand.h"
#include "ops/rules/promotion.h"

namespace vt {

std::atomic<RemoteOperands*> g_remote_operands{nullptr};

namespace {

struct Prepared {
  Tensor owned[4];           // converted inputs
  const Tensor* tensors[4];  // the inputs that are tensors, in order
  int count = 0;
  int scalar_at = kNoScalar;
  bool remote = false;  // an input lies on another device than the result
  DType compute;
  Dims sizes;
  Device device;
};

// What the kernel reads for an operand `t` that is not on the result's device.
Tensor admit(const PointwiseInfo& info, const Tensor& anchor, const Tensor& t) {
  const Device device = anchor.device();
  // A number in a tensor may meet any device.
  if (t.dim() == 0 && t.device().is_cpu()) return raw::to_device(t, device, false);
  RemoteOperands* const keeper = g_remote_operands.load(std::memory_order_acquire);
  Tensor admitted = keeper ? keeper->admit(info.name, t, device) : Tensor();
  VT_CHECK(admitted.defined(), kRuntime, info.name,
           ": expected all tensors to be on the same device, but found ", anchor, " and ", t,
           keeper ? keeper->hint() : "; move one with .to(device)");
  return admitted;
}

DType compute_type(const PointwiseInfo& info, const Operand* inputs, int count,
                   const Scalar* params) {
  Promotion promotion;
  for (int i = 0; i < count; ++i) {
    if (info.bool_inputs >> i & 1) continue;
    if (inputs[i].is_tensor()) promotion.add(*inputs[i].tensor);
    else promotion.add(inputs[i].scalar);
  }
  if (info.numbers == NumberRule::kPromote)
    for (int i = 0; i < info.scalars; ++i)
      if (!params[i].is_none()) promotion.add(params[i]);
  DType dtype = promotion.result();
  if (info.result == ResultType::kFloat && !is_float(dtype)) dtype = DType::kF32;
  VT_CHECK(covers(info.types, dtype), kRuntime, info.name, ": not implemented for ", name(dtype),
           dtype == DType::kBool ? "; convert with .to(torch.int64) first"
                                 : "; convert with .float() first");
  if (info.numbers == NumberRule::kFit)
    for (int i = 0; i < info.scalars; ++i)
      VT_CHECK(is_float(dtype) || !params[i].is_float(), kRuntime, info.name, ": a factor of ",
               params[i].to<double>(), " for ", name(dtype),
               " tensors: give an integer or convert with .float() first");
  return dtype;
}

Prepared prepare(const PointwiseInfo& info, const Operand* inputs, int count, Scalar* params) {
  Prepared p;
  p.compute = compute_type(info, inputs, count, params);
  const Tensor* anchor =
      inputs[0].tensor;  // decides the device: the first tensor that has dimensions, if any
  for (int i = 0; i < count; ++i)
    if (inputs[i].is_tensor() &&
        (inputs[i].tensor->dim() > 0 || inputs[i].tensor->device().is_cuda())) {
      anchor = inputs[i].tensor;
      break;
    }
  p.device = anchor->device();
  bool first = true;
  for (int i = 0; i < count; ++i) {
    const bool is_bool = info.bool_inputs >> i & 1;
    if (!inputs[i].is_tensor()) {
      VT_CHECK(p.scalar_at == kNoScalar, kType, info.name, ": at most one operand may be a number");
      p.scalar_at = i;
      params[info.scalars] = inputs[i].scalar;
      continue;
    }
    const Tensor& t = *inputs[i].tensor;
    if (is_bool)
      VT_CHECK(t.dtype() == DType::kBool, kRuntime, info.name,
               ": expected a bool tensor for input ", i, ", got ", t);
    Tensor& owned = p.owned[p.count];
    owned = t;
    if (VT_UNLIKELY(t.device() != p.device)) {
      // Converted where it lies: what is admitted is what the kernel reads.
      if (!is_bool) owned = raw::to_dtype(owned, p.compute);
      owned = admit(info, *anchor, owned);
      p.remote |= owned.device() != p.device;
    }
    if (!is_bool && t.dtype() != p.compute) owned = raw::to_dtype(owned, p.compute);
    if (first) p.sizes = owned.sizes();
    else if (!(owned.sizes() == p.sizes)) {
      try {
        p.sizes = broadcast_sizes(info.name, p.sizes, owned.sizes());
      } catch (const Error& error) {
        fail(error.kind(), error.what(), "; operands are ", *inputs[0].tensor, " and ", t);
      }
    }
    first = false;
    p.tensors[p.count] = &owned;
    ++p.count;
  }
  return p;
}

// Calls `each` of the keeper with every input that lies on another device.
void for_remote(const PointwiseInfo& info, const Prepared& p,
                void (RemoteOperands::*each)(const char*, const Tensor&, Device)) {
  RemoteOperands* const keeper = g_remote_operands.load(std::memory_order_acquire);
  for (int i = 0; i < p.count; ++i)
    if (p.owned[i].device() != p.device) (keeper->*each)(info.name, p.owned[i], p.device);
}

void launch(const PointwiseInfo& info, const Tensor& out, Prepared& p, const Scalar* params) {
  if (out.numel() == 0) return;
  for (int i = 0; i < p.count; ++i) p.tensors[i] = &p.owned[i];
  const ElementwisePlan plan = plan_elementwise(out, {p.tensors, static_cast<size_t>(p.count)});
  if (VT_UNLIKELY(p.remote)) for_remote(info, p, &RemoteOperands::before_read);
  kernels(out.device()).pointwise[static_cast<int>(info.op)](plan, p.compute, params, p.scalar_at);
  if (VT_UNLIKELY(p.remote)) for_remote(info, p, &RemoteOperands::after_read);
}

DType result_type(const PointwiseInfo& info, DType compute) {
  return info.result == ResultType::kBool ? DType::kBool : compute;
}

}  // namespace

Tensor call_pointwise_general(const PointwiseInfo& info, const Operand* inputs, int count,
                              Scalar* params) {
  Prepared p = prepare(info, inputs, count, params);
  // Keep the order of dimensions of a transposed input of the same shape: reads and writes then
  // both run along memory.
  const Tensor& lead = p.owned[0];
  Tensor out = p.count == 1 && !lead.is_dense()
                   ? empty_in_order_of(lead, result_type(info, p.compute))
                   : empty(p.sizes, result_type(info, p.compute), p.device);
  launch(info, out, p, params);
  return out;
}

void call_pointwise_into(const PointwiseInfo& info, const Tensor& out, const Operand* inputs,
                         int count, Scalar* params) {
  Prepared p = prepare(info, inputs, count, params);
  VT_CHECK(out.sizes() == p.sizes, kRuntime, info.name, ": output with shape ", out.sizes(),
           " doesn't match the broadcast shape ", p.sizes);
  check_writable(info.name, out);
  VT_CHECK(out.device() == p.device, kRuntime, info.name, ": output ", out,
           " is on another device than the inputs (", p.device, ")");
  const DType result = result_type(info, p.compute);
  const bool fits = (is_float(out.dtype()) || !is_float(result)) &&
                    (out.dtype() != DType::kBool || result == DType::kBool);
  VT_CHECK(fits, kRuntime, info.name, ": result type ", name(result),
           " can't be cast to the desired output type ", name(out.dtype()));
  bool direct = out.dtype() == result;
  for (int i = 0; i < p.count; ++i) direct = direct && !overlaps_partially(out, p.owned[i]);
  if (direct) return launch(info, out, p, params);
  Tensor temporary = empty(p.sizes, result, p.device);
  launch(info, temporary, p, params);
  kernels(out.device()).copy(out, temporary);
}

bool parse_flag(const char* op, std::string_view text, const char* first, const char* second) {
  if (text == first) return false;
  VT_CHECK(text == second, kRuntime, op, ": expected '", first, "' or '", second, "', got '", text,
           "'");
  return true;
}

}  // namespace vt
