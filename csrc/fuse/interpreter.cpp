// Pieces of a program through the kernels of the CPU.
#include "fuse/interpreter.h"

#include <cstring>
#include <memory>

#include "device/cpu/parallel.h"
#include "fuse/functors.h"

namespace vt::fuse {
namespace {

constexpr int64_t kPiece = 2048;  // elements

// Calls f(position of the element in the window, in bytes) for elements [begin, begin + count).
template <class F>
void walk(const Space& space, const Window& window, int64_t begin, int64_t count, F&& f) {
  int64_t at[kMaxDims] = {}, offset = 0, rest = begin;
  for (int d = 0; d < space.ndim; ++d) {
    at[d] = rest % space.sizes[d];
    rest /= space.sizes[d];
    offset += at[d] * window.strides[d];
  }
  for (int64_t i = 0; i < count; ++i) {
    f(i, offset);
    for (int d = 0; d < space.ndim; ++d) {
      offset += window.strides[d];
      if (++at[d] < space.sizes[d]) break;
      offset -= window.strides[d] * space.sizes[d];
      at[d] = 0;
    }
  }
}

Tensor over(void* data, DType dtype, int64_t count, int64_t stride = 1) {
  auto storage = Storage::wrap(Device{}, data, static_cast<size_t>(count) * item_size(dtype), {});
  return Tensor(Ref<TensorImpl>::adopt(
      new TensorImpl(std::move(storage), Dims{count}, Dims{stride}, 0, dtype)));
}

class Piece {
 public:
  explicit Piece(const Program& program) : program_(program) {
    const size_t buffers = program.loads.size() + program.steps.size();
    capacity_ = std::max(kPiece, program.row);
    memory_ = std::make_unique<double[]>(buffers * static_cast<size_t>(capacity_));
  }

  void run(int64_t begin, int64_t count) {
    for (size_t l = 0; l < program_.loads.size(); ++l) {
      const Window& window = program_.loads[l];
      const size_t item = item_size(window.dtype);
      char* to = load(static_cast<int>(l));
      walk(program_.space, window, begin, elements(window, count), [&](int64_t i, int64_t offset) {
        std::memcpy(to + static_cast<size_t>(i) * item, window.data + offset, item);
      });
    }
    for (size_t s = 0; s < program_.steps.size(); ++s) step(static_cast<int>(s), count);
    for (const Store& store : program_.stores) {
      const size_t item = item_size(store.window.dtype);
      const char* from = value(store.step);
      walk(program_.space, store.window, begin, elements(store.window, count),
           [&](int64_t i, int64_t offset) {
             std::memcpy(store.window.data + offset, from + static_cast<size_t>(i) * item, item);
           });
    }
  }

 private:
  char* load(int index) const { return reinterpret_cast<char*>(memory_.get() + index * capacity_); }
  char* value(int step) const { return load(static_cast<int>(program_.loads.size()) + step); }
  char* argument(const Argument& a) const {
    return a.kind == Argument::kLoad ? load(a.index) : value(a.index);
  }

  int64_t elements(const Window& window, int64_t count) const {
    return once_a_row(program_, window) ? 1 : count;
  }
  bool is_once(const Argument& a) const {
    return a.kind == Argument::kLoad
               ? once_a_row(program_, program_.loads[static_cast<size_t>(a.index)])
               : program_.steps[static_cast<size_t>(a.index)].once;
  }

  void step(int index, int64_t in_row) const {
    const Step& s = program_.steps[static_cast<size_t>(index)];
    const Node& node = *s.node;
    const int64_t count = s.once ? 1 : in_row;
    if (node.kind == NodeKind::kReduce) {
      const Tensor row =
          over(argument(s.arguments[0]), node.in[0].dtype, in_row, is_once(s.arguments[0]) ? 0 : 1);
      return cpu_kernels().reduce(over(value(index), node.out.dtype, 1), row, node.reduce, 1u);
    }
    if (node.kind == NodeKind::kFill) {
      cpu_kernels().fill(over(value(index), node.out.dtype, count), node.params[0]);
    } else if (node.kind == NodeKind::kConvert) {
      cpu_kernels().copy(
          over(value(index), node.out.dtype, count),
          over(argument(s.arguments[0]), node.in[0].dtype, count, is_once(s.arguments[0]) ? 0 : 1));
    } else {
      ElementwisePlan plan;
      plan.device = program_.device;
      plan.numel = count;
      plan.dense = true;
      plan.ndim = 1;
      plan.sizes[0] = count;
      plan.data[0] = value(index);
      plan.strides[0][0] = static_cast<int64_t>(item_size(node.out.dtype));
      plan.operands = 1;
      for (int i = 0; i < node.inputs; ++i) {
        if (i == node.scalar_at) continue;
        const bool repeated = is_once(s.arguments[i]) && !s.once;
        plan.dense = plan.dense && !repeated;
        plan.strides[plan.operands][0] =
            repeated ? 0 : static_cast<int64_t>(item_size(node.in[i].dtype));
        plan.data[plan.operands++] = argument(s.arguments[i]);
      }
      cpu_kernels().pointwise[static_cast<int>(node.op)](plan, node.dtype, node.params,
                                                         node.scalar_at);
    }
  }

  const Program& program_;
  int64_t capacity_;
  std::unique_ptr<double[]> memory_;
};

}  // namespace

void run_on_cpu(const Program& program) {
  const int64_t numel = program.space.numel();
  const int64_t size = program.row == 0 ? kPiece : program.row;
  const int64_t pieces = (numel + size - 1) / size;
  parallel_for(pieces, std::max<int64_t>(16384 / size, 1), [&](int64_t from, int64_t to) {
    Piece piece(program);
    for (int64_t p = from; p < to; ++p) piece.run(p * size, std::min(size, numel - p * size));
  });
}

}  // namespace vt::fuse
