// A norm's gradient that is summed over its rows later, as the gradient of a bias in front of the
// residual stream is: the kernel that makes it has every column at hand. In 16 bits the sum is then
// of what was not rounded yet, and added in another order.
#include "fuse/patterns/pattern.h"

namespace vt::fuse {
namespace {

// The sum of the dense [rows, n] tensor dx over its rows, in dx's type.
bool is_sum_of_rows(const ReduceCall& sum, const Tensor& dx) {
  if (sum.kind != ReduceKind::kSum || sum.x.data() != dx.data() || sum.x.dtype() != dx.dtype() ||
      sum.out.dtype() != dx.dtype() || sum.x.numel() != dx.numel() || !sum.x.is_dense() ||
      !sum.out.is_dense() || sum.out.numel() != dx.sizes()[1])
    return false;
  // The first dimensions go, the others stay.
  int gone = 0;
  while (gone < sum.x.dim() && (sum.dims >> gone & 1)) ++gone;
  return sum.dims == (1u << gone) - 1;
}

// Shaped as one row of a dense matrix.
Tensor row_of(const Tensor& matrix) { return view_of(matrix, {matrix.sizes()[1]}, {1}, 0); }

}  // namespace

int fuse_norm_backward_sum(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* sum = std::get_if<ReduceCall>(&list[i].call);
    if (!sum) continue;
    const Range x{sum->x.data<char>(), sum->x.data<char>() + sum->x.bytes()};
    const int at = list.last_writer(i, x);
    const auto* norm = at < 0 ? nullptr : std::get_if<NormBackwardCall>(&list[at].call);
    if (!norm || norm->dx_sum.defined() || !is_sum_of_rows(*sum, norm->dx)) continue;
    if (!list.may_write_at(at, list[i].writes[0], i)) continue;
    NormBackwardCall call = *norm;
    call.dx_sum = over(Window{sum->out.data<char>(), sum->out.dtype(), {}}, row_of(call.dx));
    Node both(NodeKind::kCall, "norm_backward_sum", list[at].device);
    both.call = call;
    prepare_call(both);
    list[at] = std::move(both);
    list.remove(i);
    ++found;
  }
  return found;
}

}  // namespace vt::fuse
