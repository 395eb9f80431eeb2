// A product that is added to the residual stream in front of a norm: its kernel adds before it
// rounds, and the norm reads one tensor where it read two and wrote one. One rounding where the two
// kernels do two, so results in 16 bits may differ in their last bit.
#include <algorithm>

#include "fuse/patterns/pattern.h"
#include "kernels/linear_add.h"

namespace vt::fuse {
namespace {

Range range_of(const Tensor& t) { return {t.data<char>(), t.data<char>() + t.bytes()}; }

// The product, if it makes all of the dense tensor t and may add another one.
const Gemm* product_of(const Node& node, const Tensor& t) {
  const auto* gemm = std::get_if<Gemm>(&node.call);
  if (!gemm || gemm->batch != 1 || gemm->beta != 0 || gemm->k == 0 || gemm->addend ||
      gemm->epilogue != GemmEpilogue::kNone || gemm->row_sums || gemm->out.row_stride != gemm->n ||
      gemm->out.data != t.data() || gemm->dtype != t.dtype() || gemm->m * gemm->n != t.numel())
    return nullptr;
  return gemm;
}

bool overlaps(const std::vector<Range>& ranges, const Range& range) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& each) { return each.overlaps(range); });
}

// Puts the sum of `product` and `other`, which node i takes the norm of, into the kernel of the
// product.
bool join(PatternList& list, int i, const NormCall& norm, const Tensor& product,
          const Tensor& other) {
  if (!product.is_dense() || !other.is_dense() || product.data() == other.data()) return false;
  const Range made = range_of(product), sum = range_of(norm.sum);
  const int at = list.last_writer(i, made);
  const Gemm* gemm = at < 0 ? nullptr : product_of(list[at], product);
  if (!gemm || list.only_reader(at, made) != i || list.last_writer(i, range_of(other)) >= at)
    return false;
  // The sum's memory is written earlier now: nobody may touch it from there on, and what the
  // product reads must not lie in it.
  Node target(NodeKind::kCall, list[i].name, list[i].device);
  target.writes = {sum};
  if (overlaps(list[at].reads, sum) || !list.may_move(target, i, at)) return false;
  Node both(NodeKind::kCall, "linear_add", list[at].device);
  Gemm call = *gemm;
  call.out.data = norm.sum.data();
  call.addend = other.data();
  if (!both.device.is_cpu() && !adds_in_kernel(call)) return false;
  both.call = call;
  prepare_call(both);
  Node rest(NodeKind::kCall, "norm", list[i].device);
  NormCall alone = norm;
  alone.x = norm.sum;
  alone.sum = alone.residual = Tensor();
  rest.call = alone;
  prepare_call(rest);
  list[at] = std::move(both);
  list[i] = std::move(rest);
  return true;
}

}  // namespace

int fuse_linear_add(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* call = std::get_if<NormCall>(&list[i].call);
    if (!call || !call->residual.defined() || !call->sum.defined() || !call->sum.is_dense())
      continue;
    const NormCall norm = *call;
    if (join(list, i, norm, norm.x, norm.residual) || join(list, i, norm, norm.residual, norm.x))
      ++found;
  }
  return found;
}

}  // namespace vt::fuse
