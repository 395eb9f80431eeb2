// The product that makes logits, their losses and their gradient, where nobody else sees either:
// the product's kernel makes exponentials and their sums, so that no pass over the logits is left.
// The gradient of the logits is those exponentials times a number a row, which the products that
// read it are scaled by: a row of their result, or of what they multiply it with. Logits are not
// rounded, the gradients as exponentials. Logits that are widened to float32 for the loss, and
// their gradient narrowed, are the same to it.
#include <algorithm>
#include <optional>

#include "fuse/patterns/pattern.h"
#include "kernels/linear_add.h"

namespace vt::fuse {
namespace {

bool overlaps(const std::vector<Range>& ranges, const Range& range) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& each) { return each.overlaps(range); });
}

Range range_of(const Tensor& t) { return {t.data<char>(), t.data<char>() + t.bytes()}; }

// The product that makes the logits, with its result in the gradient's place, if its kernel can
// make their exponentials there. In float16 those would leave its range.
std::optional<Gemm> product_of(const Node& node, const Range& logits, const Tensor& gradient) {
  const auto* gemm = std::get_if<Gemm>(&node.call);
  if (!gemm || gemm->batch != 1 || gemm->k == 0 || gemm->alpha != 1 || gemm->beta != 0 ||
      gemm->bias || gemm->addend || gemm->row_sums || gemm->epilogue != GemmEpilogue::kNone ||
      gemm->out.data != logits.begin || gemm->dtype != gradient.dtype() ||
      gemm->out.row_stride != gemm->n || gemm->m != gradient.sizes()[0] ||
      gemm->n != gradient.sizes()[1])
    return {};
  Gemm product = *gemm;
  product.out.data = gradient.data();
  const bool joins =
      node.device.is_cpu() ? product.dtype != DType::kF16 : joins_cross_entropy(product);
  return joins ? std::optional(product) : std::nullopt;
}

// A product with the gradient of the logits, and what becomes of the rows' scale: the rows of its
// result are scaled, as of the gradient of the input, or those of its other factor, as for the
// gradient of the weight.
struct Use {
  enum class Scaled : uint8_t { kResult, kFirst, kSecond };
  int at;
  Scaled scaled;
};

bool is_matrix(const GemmMatrix& m, int64_t columns) {
  return m.row_stride == columns && (m.column_stride == 1 || columns == 1);
}
bool is_transposed(const GemmMatrix& m, int64_t columns) {
  return m.column_stride == columns && (m.row_stride == 1 || columns == 1);
}

bool is_use(const Node& node, const Tensor& gradient, Use& use) {
  const auto* gemm = std::get_if<Gemm>(&node.call);
  if (!gemm || gemm->batch != 1 || gemm->dtype != gradient.dtype() || gemm->row_sums) return false;
  const int64_t rows = gradient.sizes()[0], classes = gradient.sizes()[1];
  const bool first = gemm->a.data == gradient.data();
  if (first == (gemm->b.data == gradient.data())) return false;
  if (overlaps(node.writes, range_of(gradient))) return false;
  if (first && gemm->m == rows && gemm->k == classes && is_matrix(gemm->a, classes)) {
    use.scaled = Use::Scaled::kResult;
    return gemm->beta == 0 && !gemm->bias && !gemm->addend && !gemm->column_sums &&
           gemm->epilogue == GemmEpilogue::kNone && gemm->out.row_stride == gemm->n;
  }
  if (gemm->k != rows) return false;
  use.scaled = first ? Use::Scaled::kSecond : Use::Scaled::kFirst;
  if (first)
    return gemm->m == classes && is_transposed(gemm->a, classes) && is_matrix(gemm->b, gemm->n);
  return gemm->n == classes && is_matrix(gemm->b, classes) && is_transposed(gemm->a, gemm->m);
}

// What reads the gradient that node `at` leaves, if all of them are such products.
std::vector<Use> uses(PatternList& list, int at, const Tensor& gradient) {
  std::vector<Use> found;
  for (int i : list.readers(at, range_of(gradient))) {
    Use use{i, {}};
    if (!is_use(list[i], gradient, use)) return {};
    found.push_back(use);
  }
  return found;
}

Node scale_node(Device device, const Tensor& out, const Tensor& x, const Tensor& scale,
                const Tensor& factor) {
  Node node(NodeKind::kCall, "scale_rows", device);
  node.call = ScaleRowsCall{out, x, scale, factor};
  prepare_call(node);
  return node;
}

void scale(PatternList& list, const Use& use, const Tensor& by, const Tensor& factor) {
  Gemm gemm = std::get<Gemm>(list[use.at].call);
  const Device device = list[use.at].device;
  const auto rows_at = [&](void* data, int64_t columns) {
    return dense_over(static_cast<char*>(data), Dims{by.numel(), columns}, gemm.dtype, device);
  };
  if (use.scaled == Use::Scaled::kResult) {
    const Tensor out = rows_at(gemm.out.data, gemm.n);
    list.insert(use.at + 1, scale_node(device, out, out, by, factor));
    return;
  }
  const bool second = use.scaled == Use::Scaled::kSecond;
  GemmMatrix& other = second ? gemm.b : gemm.a;
  const Tensor x = rows_at(other.data, second ? gemm.n : gemm.m);
  const Tensor scaled = list.make(x.sizes(), gemm.dtype, device);
  other.data = scaled.data();
  list[use.at].call = gemm;
  prepare_call(list[use.at]);
  list.insert(use.at, scale_node(device, scaled, x, by, factor));
}

Range in_range(const Node& node) { return {node.in[0].data, node.in[0].end(node.space)}; }

// Does the node make all of `wide`, of float32, from bfloat16, or the other way round?
bool converts(const Node& node, const Tensor& wide, bool widens) {
  if (node.kind != NodeKind::kConvert || wide.dtype() != DType::kF32) return false;
  const Window& other = widens ? node.in[0] : node.out;
  return is_whole(widens ? node.out : node.in[0], node.space, wide) &&
         other.dtype == DType::kBF16 &&
         is_run(other, node.space, wide.numel() * static_cast<int64_t>(item_size(other.dtype)));
}

// The nodes around a loss and its gradient: the product; what widens its logits, scales their
// gradient and narrows that, or -1; and the gradient as products read it.
struct Around {
  int product, widened = -1, scaled = -1, narrowed = -1;
  Range logits;
  Tensor gradient;
};

std::optional<Around> around(PatternList& list, int i, const CrossEntropyBackwardCall& both) {
  Around found{-1, -1, -1, -1, range_of(both.logits), both.dlogits};
  int reader = i;
  found.product = list.last_writer(reader, found.logits);
  if (found.product >= 0 && converts(list[found.product], both.logits, true)) {
    if (list.only_reader(found.product, found.logits) != reader) return {};
    reader = found.widened = found.product;
    found.logits = in_range(list[reader]);
    found.product = list.last_writer(reader, found.logits);
  }
  if (found.product < 0 || list.only_reader(found.product, found.logits) != reader) return {};

  int writer = i;
  const std::vector<int> readers = list.readers(writer, range_of(both.dlogits));
  const auto* whole =
      readers.size() == 1 ? std::get_if<ScaleUnlessOneCall>(&list[readers[0]].call) : nullptr;
  if (whole && whole->x.data() == both.dlogits.data() && whole->x.numel() == both.dlogits.numel())
    writer = found.scaled = readers[0];
  if (found.widened < 0) return found;
  found.narrowed = list.only_reader(writer, range_of(both.dlogits));
  if (found.narrowed < 0 || !converts(list[found.narrowed], both.dlogits, false)) return {};
  list.place(found.narrowed);
  found.gradient = dense_over(list[found.narrowed].out.data, both.dlogits.sizes(), DType::kBF16,
                              both.dlogits.device());
  // The gradient's memory is written earlier now.
  Node target(NodeKind::kCall, "convert", list[i].device);
  target.writes = {range_of(found.gradient)};
  return list.may_move(target, found.narrowed, i) ? std::optional(found) : std::nullopt;
}

// Replaces one loss and its gradient, if all that they touch is as it must be.
bool join(PatternList& list, int i, const CrossEntropyBackwardCall& both) {
  const std::optional<Around> found = around(list, i, both);
  if (!found) return false;
  const std::optional<Gemm> product =
      product_of(list[found->product], found->logits, found->gradient);
  if (!product || item_size(both.loss.dtype()) != std::max<size_t>(4, item_size(product->dtype)))
    return false;
  LinearCrossEntropyCall joined{both.loss, {}, *product, both.grad, both.target, both.ignore_index};
  Node node(NodeKind::kCall, "linear_cross_entropy", list[i].device);
  node.call = joined;
  prepare_call(node);
  Node factors(NodeKind::kCall, "gemm", list[i].device);
  factors.reads = list[found->product].reads;
  if (overlaps(node.reads, range_of(found->gradient)) || !list.may_move(factors, found->product, i))
    return false;

  const int last = std::max({i, found->scaled, found->narrowed});
  const std::vector<Use> products = uses(list, last, found->gradient);
  Tensor factor;
  if (found->scaled >= 0) factor = std::get<ScaleUnlessOneCall>(list[found->scaled].call).factor;
  const bool by_rows = factor.defined() && factor.dtype() != both.loss.dtype();
  Node scaling(NodeKind::kCall, "scale_rows", list[i].device);
  if (by_rows) scaling.reads = {range_of(factor)};
  for (const Use& use : products)
    if (!list.may_move(scaling, std::max(i, found->scaled), use.at)) return false;
  if (products.empty()) return false;

  joined.scale = list.make(both.loss.sizes(), both.loss.dtype(), list[i].device);
  for (auto use = products.rbegin(); use != products.rend(); ++use)
    scale(list, *use, joined.scale, by_rows ? factor : Tensor());
  node.call = joined;
  prepare_call(node);
  list[i] = std::move(node);
  if (found->scaled >= 0 && !by_rows) {
    list[found->scaled].call = ScaleUnlessOneCall{joined.scale, factor};
    prepare_call(list[found->scaled]);
  } else if (by_rows) {
    list.remove(found->scaled);
  }
  for (int gone : {found->product, found->widened, found->narrowed})
    if (gone >= 0) list.remove(gone);
  return true;
}

}  // namespace

int fuse_linear_cross_entropy(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* call = std::get_if<CrossEntropyBackwardCall>(&list[i].call);
    if (list.removed(i) || !call || !call->loss.defined() || call->label_smoothing != 0) continue;
    const CrossEntropyBackwardCall both = *call;
    if (join(list, i, both)) ++found;
  }
  return found;
}

}  // namespace vt::fuse
