// Choosing and launching the elementwise kernel of a plan; one function for all operators and
// types.
#include "kernels/cuda/pointwise.h"

#include <cstring>

namespace vt::cuda {
namespace {

// The operands of the plan, matched with the functor's inputs.
struct Inputs {
  int operand[kMaxInputs];  // of each input in the plan; 0: it is the number
  size_t item[kMaxInputs + 1];

  Inputs(const PointwiseKernels& kernels, int scalar_at) {
    item[0] = kernels.out_item;
    for (int i = 0, next = 1; i < kernels.inputs; ++i) {
      operand[i] = i == scalar_at ? 0 : next++;
      if (operand[i]) item[operand[i]] = kernels.in_item[i];
    }
  }
};

// May the innermost dimension be walked `vector` elements at a time?
bool packs_fit(const ElementwisePlan& plan, const size_t* item, int vector) {
  if (plan.sizes[0] % vector != 0) return false;
  for (int k = 0; k < plan.operands; ++k) {
    const auto width = static_cast<int64_t>(item[k]) * vector;
    if (k > 0 && plan.strides[k][0] == 0) continue;
    if (plan.strides[k][0] != static_cast<int64_t>(item[k]) || !is_aligned(plan.data[k], width))
      return false;
    for (int d = 1; d < plan.ndim; ++d)
      if (plan.strides[k][d] % width != 0) return false;
  }
  return true;
}

void launch_strided(const Queue& queue, const PointwiseKernels& kernels,
                    const ElementwisePlan& plan, const Inputs& inputs, PointwiseData& data,
                    void* functor) {
  const bool packed = kernels.strided_packs && packs_fit(plan, inputs.item, kernels.vector);
  const int width = packed ? kernels.vector : 1;
  PointwiseMap map{};
  unsigned repeated = 0;
  map.ndim = plan.ndim;
  for (int d = 0; d < plan.ndim; ++d) {
    const int step = d == 0 ? width : 1;
    map.sizes[d] = FastDivisor(static_cast<uint32_t>(plan.sizes[d] / step));
    map.strides[d][0] = static_cast<uint32_t>(plan.strides[0][d] * step);
    for (int i = 0; i < kernels.inputs; ++i) {
      const int k = inputs.operand[i];
      map.strides[d][i + 1] = k ? static_cast<uint32_t>(plan.strides[k][d] * step) : 0;
      if (d == 0 && k && plan.strides[k][0] == 0) repeated |= 1u << i;
    }
  }
  auto packs = static_cast<uint32_t>(plan.numel / width);
  void* arguments[] = {&data, functor, &packs, &map, &repeated};
  queue.launch_erased<Start::kEarly>(packed ? kernels.strided_packs : kernels.strided,
                                     ceil_div(packs, kThreads), kThreads, arguments);
}

}  // namespace

void launch_pointwise(const PointwiseKernels& kernels, const ElementwisePlan& plan, void* functor,
                      const void* scalar, size_t scalar_bytes, int scalar_at) {
  const Queue queue("elementwise kernel", plan.device);
  const Inputs inputs(kernels, scalar_at);
  PointwiseData data{};
  std::memcpy(data.scalar, scalar, scalar_bytes);
  auto place = [&](const ElementwisePlan& piece) {
    data.out = piece.data[0];
    for (int i = 0; i < kernels.inputs; ++i)
      data.in[i] = inputs.operand[i] ? piece.data[inputs.operand[i]] : nullptr;
  };
  ElementwisePlan strided;
  if (VT_LIKELY(plan.dense)) {
    bool aligned = true;
    for (int k = 0; k < plan.operands; ++k)
      aligned &= is_aligned(plan.data[k], inputs.item[k] * kernels.vector);
    if (VT_LIKELY(aligned)) {
      place(plan);
      int64_t numel = plan.numel;
      void* arguments[] = {&data, functor, &numel};
      return queue.launch_erased<Start::kEarly>(
          kernels.dense, ceil_div(numel, int64_t{kThreads} * kernels.vector), kThreads, arguments);
    }
    strided = plan;
    flatten_dense(strided, inputs.item);
  } else {
    strided = plan;
  }
  for_each_32bit_piece(strided, [&](const ElementwisePlan& piece) {
    place(piece);
    launch_strided(queue, kernels, piece, inputs, data, functor);
  });
}

}  // namespace vt::cuda
