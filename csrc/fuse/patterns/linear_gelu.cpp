// GELU (tanh form) of a product, and its gradient or slope times one: the product's kernel applies
// them before it rounds, and adds up columns of the gradient. One rounding where the two kernels do
// two, so results in 16 bits may differ in their last bit.
#include <algorithm>

#include "fuse/gelu_slope.h"
#include "fuse/group.h"
#include "fuse/patterns/pattern.h"
#include "fuse/recorder.h"
#include "kernels/linear_add.h"

namespace vt::fuse {
namespace {

// A product whose kernel may take an epilogue on. On a GPU rows must be made of whole 16-byte
// lines.
const Gemm* plain_product(const Node& node) {
  const auto* gemm = std::get_if<Gemm>(&node.call);
  if (!gemm || gemm->batch != 1 || gemm->beta != 0 || gemm->epilogue != GemmEpilogue::kNone ||
      gemm->out.row_stride != gemm->n)
    return nullptr;
  const bool fits = node.device.is_cpu() || (is_half(gemm->dtype) && gemm->n % 8 == 0) ||
                    (gemm->dtype == DType::kF32 && gemm->n % 4 == 0);
  return fits ? gemm : nullptr;
}

Range range_of(const Gemm& gemm) {
  const char* begin = static_cast<const char*>(gemm.out.data);
  return {begin, begin + gemm.m * gemm.n * static_cast<int64_t>(item_size(gemm.dtype))};
}

// Is the window all of the product's result, row after row?
bool is_result(const Window& window, const Space& space, const Gemm& gemm) {
  return window.data == gemm.out.data && window.dtype == gemm.dtype &&
         is_run(window, space, gemm.m * gemm.n * static_cast<int64_t>(item_size(gemm.dtype)));
}

bool is_operator(const Node& node, std::string_view name) {
  return node.kind == NodeKind::kPointwise && name == node.name;
}
bool is_tanh_form(const Node& node, std::string_view name) {
  return is_operator(node, name) && node.params[0].to<bool>();
}
bool is_gradient(const Node& node) {
  return (is_tanh_form(node, "gelu_backward") || is_operator(node, "gelu_times")) &&
         node.scalar_at == kNoScalar;
}

// The slope is kept in this type.
DType slope_dtype(DType dtype) { return dtype == DType::kBF16 ? DType::kF16 : dtype; }

// Is node i a conversion, element by element of a dense window, from one type to the other?
bool converts(const Node& node, DType from, DType to) {
  if (node.kind != NodeKind::kConvert || node.in[0].dtype != from || node.out.dtype != to)
    return false;
  const auto bytes = [&](DType dtype) {
    return node.space.numel() * static_cast<int64_t>(item_size(dtype));
  };
  return is_run(node.in[0], node.space, bytes(from)) && is_run(node.out, node.space, bytes(to));
}

// Does a kernel make GELU of this product and its slope?
bool makes_both(const Gemm& gemm, Device device) {
  return device.is_cpu() || makes_slope_in_kernel(gemm);
}

// The node that multiplies and applies the epilogue, writing what `last` writes.
Node product_node(const char* name, const Node& last, const Gemm& gemm, GemmEpilogue epilogue,
                  void* aux) {
  Gemm call = gemm;
  call.out.data = last.out.data;
  call.epilogue = epilogue;
  if (aux) call.aux = {aux, gemm.n, 1, 0};
  Node node(NodeKind::kCall, name, last.device);
  node.call = call;
  prepare_call(node);
  return node;
}

// Puts `both` where the product at `at` was, in place of it and the operator at `i`.
bool replace(PatternList& list, int at, int i, Node both) {
  Node target(NodeKind::kCall, both.name, both.device);
  target.writes = {{list[i].out.data, list[i].out.end(list[i].space)}};
  if (!list.may_move(target, i, at)) return false;
  list[at] = std::move(both);
  list.remove(i);
  return true;
}

}  // namespace

bool makes_gelu_slope(const Tensor& x) {
  if (!recorder().here() || !recorder().enabled(kGeluSlope) || x.numel() == 0 || !x.is_dense())
    return false;
  const std::optional<Node> node = recorder().last_writer(x);
  const Gemm* gemm = node ? plain_product(*node) : nullptr;
  return gemm && gemm->out.data == x.data() && gemm->dtype == x.dtype() &&
         gemm->m * gemm->n == x.numel() && makes_both(*gemm, node->device);
}

bool joins_gelu() {
  return recorder().here() && recorder().enabled(kGeluSlope) && recorder().enabled(kLinearGelu);
}

int fuse_gelu_slope(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const Node& slope = list[i];
    if (list.removed(i) || !is_operator(slope, "gelu_slope")) continue;
    const DType kept = slope_dtype(slope.out.dtype);
    int stored = i;  // the node behind which the slope has its type and place
    if (kept != slope.out.dtype) {
      stored = list.only_reader(i, {slope.out.data, slope.out.end(slope.space)});
      if (stored < 0 || !converts(list[stored], slope.out.dtype, kept)) continue;
    }
    const Node& last = list[stored];
    const Range in{slope.in[0].data, slope.in[0].end(slope.space)};
    const int at = list.last_writer(i, in);
    const Gemm* gemm = at < 0 ? nullptr : plain_product(list[at]);
    if (!gemm || !is_result(slope.in[0], slope.space, *gemm) || !makes_both(*gemm, slope.device))
      continue;
    // What both are of must be nobody else's, as it is not stored.
    const std::vector<int> readers = list.readers(at, range_of(*gemm));
    if (readers.size() != 2 || readers[1] != i || !is_tanh_form(list[readers[0]], "gelu")) continue;
    const int other = readers[0];
    const Node& gelu = list[other];
    list.place(other);
    list.place(stored);
    const int64_t bytes = in.end - in.begin;
    if (!is_result(gelu.in[0], gelu.space, *gemm) || !is_run(gelu.out, gelu.space, bytes) ||
        !is_run(last.out, last.space, bytes) || gelu.out.data == gemm->out.data ||
        last.out.data == gemm->out.data)
      continue;
    Node target(NodeKind::kCall, "gelu_slope", gelu.device);
    target.writes = {{gelu.out.data, gelu.out.end(gelu.space)},
                     {last.out.data, last.out.end(last.space)}};
    if (!list.may_move(target, stored, at, other)) continue;
    list[at] = product_node("linear_gelu", gelu, *gemm, GemmEpilogue::kGeluSlope, last.out.data);
    list.remove(other);
    list.remove(i);
    list.remove(stored);
    ++found;
  }
  return found;
}

int fuse_linear_gelu(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const Node& gelu = list[i];
    if (!is_tanh_form(gelu, "gelu") || gelu.out.data == gelu.in[0].data ||
        !is_run(gelu.out, gelu.space, gelu.in[0].end(gelu.space) - gelu.in[0].data))
      continue;
    const int at = list.last_writer(i, {gelu.in[0].data, gelu.in[0].end(gelu.space)});
    const Gemm* gemm = at < 0 ? nullptr : plain_product(list[at]);
    if (!gemm || !is_result(gelu.in[0], gelu.space, *gemm)) continue;
    // What GELU is applied to is kept where somebody still wants it, as its gradient does.
    list.place(i);
    const bool kept = list.only_reader(at, range_of(*gemm)) != i;
    if (replace(list, at, i,
                product_node("linear_gelu", gelu, *gemm, GemmEpilogue::kGelu,
                             kept ? gemm->out.data : nullptr)))
      ++found;
  }
  return found;
}

int fuse_gelu_backward(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const Node& gelu = list[i];
    if (!is_gradient(gelu)) continue;
    const int64_t bytes = gelu.in[0].end(gelu.space) - gelu.in[0].data;
    if (!is_run(gelu.out, gelu.space, bytes) || !is_run(gelu.in[1], gelu.space, bytes) ||
        gelu.out.data == gelu.in[0].data || gelu.out.data == gelu.in[1].data)
      continue;
    const int at = list.last_writer(i, {gelu.in[0].data, gelu.in[0].end(gelu.space)});
    const Gemm* gemm = at < 0 ? nullptr : plain_product(list[at]);
    if (!gemm || gemm->bias || !is_result(gelu.in[0], gelu.space, *gemm) ||
        list.only_reader(at, range_of(*gemm)) != i)
      continue;
    const bool by_slope = is_operator(gelu, "gelu_times");
    Range beside{gelu.in[1].data, gelu.in[1].end(gelu.space)};
    int by = -1;  // the node that converts a kept slope
    if (by_slope && slope_dtype(gemm->dtype) != gemm->dtype) {
      by = list.last_writer(i, beside);
      if (by < 0 || !converts(list[by], slope_dtype(gemm->dtype), gemm->dtype) ||
          list.only_reader(by, beside) != i)
        continue;
      beside = {list[by].in[0].data, list[by].in[0].end(list[by].space)};
    }
    if (list.last_writer(i, beside) > at) continue;
    list.place(i);
    if (replace(list, at, i,
                product_node("gelu_backward_product", gelu, *gemm,
                             by_slope ? GemmEpilogue::kTimes : GemmEpilogue::kGeluBackward,
                             const_cast<char*>(by < 0 ? gelu.in[1].data : beside.begin)))) {
      if (by >= 0) list.remove(by);
      ++found;
    }
  }
  return found;
}

int fuse_column_sums(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* sums = std::get_if<ReduceCall>(&list[i].call);
    if (list.removed(i) || !sums || sums->kind != ReduceKind::kSum || sums->dims != 1u ||
        sums->x.dim() != 2 || !sums->x.is_dense() || !sums->out.is_dense() ||
        sums->out.dtype() != sums->x.dtype() || sums->x.numel() == 0)
      continue;
    const char* begin = sums->x.data<char>();
    const Range rows{begin, begin + sums->x.bytes()};
    const int at = list.last_writer(i, rows);
    const Gemm* gemm = at < 0 ? nullptr : std::get_if<Gemm>(&list[at].call);
    const bool is_gradient = gemm && (gemm->epilogue == GemmEpilogue::kGeluBackward ||
                                      gemm->epilogue == GemmEpilogue::kTimes);
    if (!is_gradient || gemm->column_sums || gemm->out.data != begin ||
        gemm->out.row_stride != gemm->n || gemm->dtype != sums->x.dtype() ||
        gemm->m != sums->x.sizes()[0] || gemm->n != sums->x.sizes()[1])
      continue;
    Gemm call = *gemm;
    call.column_sums = sums->out.data();
    const char* to = sums->out.data<char>();
    if (!list.may_write_at(at, {to, to + sums->out.bytes()}, i)) continue;
    list[at].call = call;
    prepare_call(list[at]);
    list.remove(i);
    ++found;
  }
  return found;
}

}  // namespace vt::fuse
