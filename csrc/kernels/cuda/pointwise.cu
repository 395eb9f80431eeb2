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

// Runs the plan by the turning kernel. False: no input lies across the output, or not in packs.
bool launch_turned(const Queue& queue, const PointwiseKernels& kernels, const ElementwisePlan& plan,
                   const Inputs& inputs, PointwiseData& data, void* functor) {
  if (!kernels.turned || plan.ndim < 2) return false;
  const auto item = static_cast<int64_t>(kernels.out_item), width = item * kernels.vector;
  if (plan.strides[0][0] != item) return false;
  int across = 0;
  for (int d = 1; d < plan.ndim; ++d)
    for (int k = 1; k < plan.operands; ++k)
      if (plan.strides[k][d] == item && plan.strides[k][0] != 0 && plan.strides[k][0] != item)
        across = d;
  if (across == 0) return false;
  const int64_t lines = plan.sizes[0], places = plan.sizes[across],
                side = width / item * 8;  // of a tile
  const int64_t count = plan.numel / lines / places;
  // Tiles that are mostly empty are not worth it.
  if (lines % kernels.vector != 0 || places % kernels.vector != 0 || lines < side / 2 ||
      places < side / 2 || count > 65535 || ceil_div(places, side) > 65535)
    return false;
  TurnedMap map{};
  for (int k = 0; k < plan.operands; ++k) {
    if (!is_aligned(plan.data[k], static_cast<size_t>(width))) return false;
    const bool turned = k > 0 && plan.strides[k][across] == item && plan.strides[k][0] != item &&
                        plan.strides[k][0] != 0;
    if (!turned && plan.strides[k][0] != item && plan.strides[k][0] != 0) return false;
    for (int d = 0; d < plan.ndim; ++d)
      if (d != (turned ? across : 0) && plan.strides[k][d] % width != 0) return false;
  }
  map.sizes[0] = static_cast<uint32_t>(lines);
  map.sizes[1] = static_cast<uint32_t>(places);
  for (int d = 1; d < plan.ndim; ++d)
    if (d != across)
      map.batch.sizes[map.batch.ndim++] = FastDivisor(static_cast<uint32_t>(plan.sizes[d]));
  for (int slot = 0; slot <= kernels.inputs; ++slot) {  // the output, then the inputs
    const int k = slot == 0 ? 0 : inputs.operand[slot - 1];
    if (slot > 0 && k == 0) continue;  // the number
    const int64_t* strides = plan.strides[k];
    map.strides[0][slot] = static_cast<uint32_t>(strides[0]);
    map.strides[1][slot] = static_cast<uint32_t>(strides[across]);
    for (int d = 1, rest = 0; d < plan.ndim; ++d)
      if (d != across) map.batch.strides[rest++][slot] = static_cast<uint32_t>(strides[d]);
    if (slot > 0 && strides[0] == 0) map.repeated |= 1u << (slot - 1);
    else if (strides[0] != item) map.turned |= 1u << (slot - 1);
  }
  void* arguments[] = {&data, functor, &map};
  queue.launch_erased<Start::kEarly>(
      kernels.turned,
      dim3(static_cast<unsigned>(ceil_div(lines, side)),
           static_cast<unsigned>(ceil_div(places, side)), static_cast<unsigned>(count)),
      kernels.turned_threads, arguments);
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
    if (!launch_turned(queue, kernels, piece, inputs, data, functor))
      launch_strided(queue, kernels, piece, inputs, data, functor);
  });
}

}  // namespace vt::cuda
