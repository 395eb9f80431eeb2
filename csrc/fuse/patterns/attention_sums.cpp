// Attention's gradients that are summed over all tokens later, as those of the layers in front of
// it are for the gradient of a bias: their kernels have every column at hand. On a GPU they add up
// in another order what is not rounded yet.
#include "kernels/attention_sums.h"
#include "fuse/patterns/pattern.h"

namespace vt::fuse {
namespace {

// How many columns of [tokens of all sequences, columns] the sum keeps; 0 where it is none of all
// rows of a dense tensor.
int64_t columns_of(const ReduceCall& sum) {
  int gone = 0;
  while (gone < sum.x.dim() && (sum.dims >> gone & 1)) ++gone;
  const bool plain = sum.kind == ReduceKind::kSum && gone > 0 && sum.dims == (1u << gone) - 1 &&
                     sum.x.numel() > 0 && sum.x.is_dense() && sum.out.is_dense() &&
                     sum.out.dtype() == sum.x.dtype();
  return plain ? sum.out.numel() : 0;
}

// Where the sums of a gradient's columns begin among those of x, a dense matrix of `columns`; -1
// where the gradient is none of its columns.
int64_t first_column(const Attention& a, const HeadedTensor& t, int64_t heads, int64_t tokens,
                     const ReduceCall& sum, int64_t columns) {
  const bool lies_so = (tokens == 1 || t.token_stride == columns) &&
                       (heads == 1 || t.head_stride == a.width) &&
                       (a.batch == 1 || t.batch_stride == tokens * columns) &&
                       sum.x.numel() == a.batch * tokens * columns;
  const int64_t bytes = static_cast<char*>(t.data) - sum.x.data<char>();
  const int64_t first = bytes / static_cast<int64_t>(sum.x.item_size());
  return lies_so && bytes >= 0 && first + heads * a.width <= columns ? first : -1;
}

// Has attention make the sums, if all columns are its gradients'.
bool join(Attention& a, const ReduceCall& sum) {
  const int64_t columns = columns_of(sum);
  if (columns == 0 || sum.x.dtype() != a.dtype) return false;
  int64_t known = 0;
  const auto take = [&](void*& sums, const HeadedTensor& t, int64_t heads, int64_t tokens) {
    const int64_t first = first_column(a, t, heads, tokens, sum, columns);
    if (first < 0 || sums) return;
    sums = sum.out.data<char>() + first * static_cast<int64_t>(item_size(a.dtype));
    known += heads * a.width;
  };
  take(a.dq_sums, a.dq, a.heads, a.queries);
  take(a.dk_sums, a.dk, a.kv_heads, a.keys);
  take(a.dv_sums, a.dv, a.kv_heads, a.keys);
  return known == columns;
}

}  // namespace

int fuse_attention_sums(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* sum = std::get_if<ReduceCall>(&list[i].call);
    if (!sum || list.removed(i)) continue;
    const int at = list.last_writer(i, {sum->x.data<char>(), sum->x.data<char>() + sum->x.bytes()});
    const auto* attention = at < 0 ? nullptr : std::get_if<Attention>(&list[at].call);
    if (!attention) continue;
    Attention call = *attention;
    if (!join(call, *sum) || !list.may_write_at(at, list[i].writes[0], i)) continue;
    if (!call.device.is_cpu() && !makes_sums_in_kernel(call)) continue;
    list[at].call = call;
    prepare_call(list[at]);
    list.remove(i);
    ++found;
  }
  return found;
}

}  // namespace vt::fuse
