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

Tensor over(void* data, DType dtype, int64_t count) {
  auto storage = Storage::wrap(Device{}, data, static_cast<size_t>(count) * item_size(dtype), {});
  return Tensor(
      Ref<TensorImpl>::adopt(new TensorImpl(std::move(storage), Dims{count}, Dims{1}, 0, dtype)));
}

class Piece {
 public:
  explicit Piece(const Program& program) : program_(program) {
    const size_t buffers = program.loads.size() + program.steps.size();
    memory_ = std::make_unique<double[]>(buffers * kPiece);
  }

  void run(int64_t begin, int64_t count) {
    for (size_t l = 0; l < program_.loads.size(); ++l) {
      const Window& window = program_.loads[l];
      const size_t item = item_size(window.dtype);
      char* to = load(static_cast<int>(l));
      walk(program_.space, window, begin, count, [&](int64_t i, int64_t offset) {
        std::memcpy(to + static_cast<size_t>(i) * item, window.data + offset, item);
      });
    }
    for (size_t s = 0; s < program_.steps.size(); ++s) step(static_cast<int>(s), count);
    for (const Store& store : program_.stores) {
      const size_t item = item_size(store.window.dtype);
      const char* from = value(store.step);
      walk(program_.space, store.window, begin, count, [&](int64_t i, int64_t offset) {
        std::memcpy(store.window.data + offset, from + static_cast<size_t>(i) * item, item);
      });
    }
  }

 private:
  char* load(int index) const { return reinterpret_cast<char*>(memory_.get() + index * kPiece); }
  char* value(int step) const { return load(static_cast<int>(program_.loads.size()) + step); }
  char* argument(const Argument& a) const {
    return a.kind == Argument::kLoad ? load(a.index) : value(a.index);
  }

  void step(int index, int64_t count) const {
    const Step& s = program_.steps[static_cast<size_t>(index)];
    const Node& node = *s.node;
    if (node.kind == NodeKind::kFill) {
      cpu_kernels().fill(over(value(index), node.out.dtype, count), node.params[0]);
    } else if (node.kind == NodeKind::kConvert) {
      cpu_kernels().copy(over(value(index), node.out.dtype, count),
                         over(argument(s.arguments[0]), node.in[0].dtype, count));
    } else {
      ElementwisePlan plan;
      plan.device = program_.device;
      plan.numel = count;
      plan.dense = true;
      plan.data[0] = value(index);
      plan.operands = 1;
      for (int i = 0; i < node.inputs; ++i)
        if (i != node.scalar_at) plan.data[plan.operands++] = argument(s.arguments[i]);
      cpu_kernels().pointwise[static_cast<int>(node.op)](plan, node.dtype, node.params,
                                                         node.scalar_at);
    }
  }

  const Program& program_;
  std::unique_ptr<double[]> memory_;
};

}  // namespace

void run_on_cpu(const Program& program) {
  const int64_t numel = program.space.numel();
  const int64_t pieces = (numel + kPiece - 1) / kPiece;
  parallel_for(pieces, 8, [&](int64_t from, int64_t to) {
    Piece piece(program);
    for (int64_t p = from; p < to; ++p) piece.run(p * kPiece, std::min(kPiece, numel - p * kPiece));
  });
}

}  // namespace vt::fuse
