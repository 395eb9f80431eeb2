// The losses of rows of logits, and their gradient later in the same list: one pass over the logits
// at the place of the gradient. The same bits, but for sums whose order differs between the
// kernels.
#include "fuse/patterns/pattern.h"

namespace vt::fuse {
namespace {

bool same(const Tensor& a, const Tensor& b) { return a.data() == b.data(); }

}  // namespace

int fuse_cross_entropy(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* back = std::get_if<CrossEntropyBackwardCall>(&list[i].call);
    if (list.removed(i) || !back || back->loss.defined()) continue;
    const char* begin = back->logsumexp.data<char>();
    const Range logsumexp{begin, begin + back->logsumexp.bytes()};
    const int at = list.last_writer(i, logsumexp);
    const auto* forward = at < 0 ? nullptr : std::get_if<CrossEntropyCall>(&list[at].call);
    if (!forward || !same(forward->logits, back->logits) || !same(forward->target, back->target) ||
        forward->ignore_index != back->ignore_index ||
        forward->label_smoothing != back->label_smoothing || list.only_reader(at, logsumexp) != i)
      continue;
    CrossEntropyBackwardCall both = *back;
    both.loss = forward->loss;
    const int met = list.bring_together(at, i);
    if (met < 0) continue;
    Node node(NodeKind::kCall, "cross_entropy_both", list[met].device);
    node.call = both;
    prepare_call(node);
    list[met + 1] = std::move(node);
    list.remove(met);
    ++found;
  }
  return found;
}

}  // namespace vt::fuse
