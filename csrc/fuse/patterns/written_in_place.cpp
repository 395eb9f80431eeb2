// A result that is only copied elsewhere, as a weight's gradient into the flat gradient of the
// optimizer: its kernel writes there at once. The same bits.
#include <algorithm>

#include "fuse/patterns/pattern.h"

namespace vt::fuse {
namespace {

bool retarget(Tensor& t, const Range& from, char* to) {
  if (!t.defined() || t.data<char>() != from.begin || !t.is_dense() ||
      static_cast<int64_t>(t.bytes()) != from.end - from.begin)
    return false;
  t = over(Window{to, t.dtype(), {}}, t);
  return true;
}

// The call with its result at `from` at `to` instead; false where it has none that is just that.
bool retarget(Call& call, const Range& from, char* to) {
  if (auto* gemm = std::get_if<Gemm>(&call)) {
    const int64_t bytes =
        gemm->m * gemm->n * gemm->batch * static_cast<int64_t>(item_size(gemm->dtype));
    if (gemm->out.data != from.begin || bytes != from.end - from.begin || gemm->beta != 0 ||
        gemm->out.row_stride != gemm->n ||
        (gemm->batch > 1 && gemm->out.batch_stride != gemm->m * gemm->n))
      return false;
    gemm->out.data = to;
    return true;
  }
  if (auto* back = std::get_if<NormBackwardCall>(&call))
    return retarget(back->dweight, from, to) || retarget(back->dbias, from, to) ||
           retarget(back->dx_sum, from, to) || retarget(back->dx, from, to);
  if (auto* reduce = std::get_if<ReduceCall>(&call)) return retarget(reduce->out, from, to);
  return false;
}

}  // namespace

int fuse_copies(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const Node& copy = list[i];
    if (copy.kind != NodeKind::kConvert || copy.in[0].dtype != copy.out.dtype ||
        is_unplaced(copy.out))
      continue;
    const Range from{copy.in[0].data, copy.in[0].end(copy.space)};
    const Range to{copy.out.data, copy.out.end(copy.space)};
    if (!is_run(copy.in[0], copy.space, from.end - from.begin) ||
        !is_run(copy.out, copy.space, from.end - from.begin))
      continue;
    const int at = list.last_writer(i, from);
    if (at < 0 || list[at].kind != NodeKind::kCall || list.only_reader(at, from) != i) continue;
    Node direct(NodeKind::kCall, list[at].name, list[at].device);
    direct.call = list[at].call;
    if (!retarget(direct.call, from, copy.out.data)) continue;
    prepare_call(direct);
    // Only its target is new at `at`: nobody up to the copy may touch that.
    Node target(NodeKind::kCall, copy.name, copy.device);
    target.writes = {to};
    if (direct.reads.end() != std::find_if(direct.reads.begin(), direct.reads.end(),
                                           [&](const Range& r) { return r.overlaps(to); }) ||
        !list.may_move(target, i, at))
      continue;
    list[at] = std::move(direct);
    list.remove(i);
    ++found;
  }
  return found;
}

}  // namespace vt::fuse
