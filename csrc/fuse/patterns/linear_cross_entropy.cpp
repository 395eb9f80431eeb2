// The product that makes logits, their losses and their gradient, where nobody else sees either:
// the product's kernel makes exponentials and their sums, so that no pass over the logits is left.
// The gradient of the logits is those exponentials times a number a row, which the products that
// read it are scaled by: a row of their result, or of what they multiply it with. Logits are not
// rounded, the gradients as exponentials.
#include <optional>

#include "fuse/patterns/pattern.h"
#include "kernels/linear_add.h"

namespace vt::fuse {
namespace {

bool overlaps(const std::vector<Range>& ranges, const Range& range) {
  for (const Range& each : ranges)
    if (each.overlaps(range)) return true;
  return false;
}

Range range_of(const Tensor& t) { return {t.data<char>(), t.data<char>() + t.bytes()}; }

// The product that makes the logits, with its result in the gradient's place, if its kernel can
// make their exponentials there. In float16 those would leave its range.
std::optional<Gemm> product_of(const Node& node, const Tensor& logits, const Tensor& gradient) {
  const auto* gemm = std::get_if<Gemm>(&node.call);
  if (!gemm || gemm->batch != 1 || gemm->k == 0 || gemm->alpha != 1 || gemm->beta != 0 ||
      gemm->bias || gemm->addend || gemm->row_sums || gemm->epilogue != GemmEpilogue::kNone ||
      gemm->out.data != logits.data() || gemm->dtype != logits.dtype() ||
      gemm->out.row_stride != gemm->n || gemm->m != logits.sizes()[0] ||
      gemm->n != logits.sizes()[1])
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

// What reads the gradient that node `at` leaves, if all of them are such products and nobody writes
// what they are to be scaled by before them.
std::vector<Use> uses(PatternList& list, int at, const Tensor& gradient, const Tensor& factor) {
  std::vector<Use> found;
  Node reading(NodeKind::kCall, "scale_rows", list[at].device);
  if (factor.defined()) reading.reads = {range_of(factor)};
  for (int i : list.readers(at, range_of(gradient))) {
    Use use{i, {}};
    if (!is_use(list[i], gradient, use) || !list.may_move(reading, at, i)) return {};
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

}  // namespace

int fuse_linear_cross_entropy(PatternList& list) {
  int found = 0;
  for (int i = 0; i < list.size(); ++i) {
    const auto* call = std::get_if<CrossEntropyBackwardCall>(&list[i].call);
    if (list.removed(i) || !call || !call->loss.defined() || call->label_smoothing != 0) continue;
    const CrossEntropyBackwardCall both = *call;
    const Range logits = range_of(both.logits);
    const int at = list.last_writer(i, logits);
    if (at < 0 || list.only_reader(at, logits) != i) continue;
    const std::optional<Gemm> product = product_of(list[at], both.logits, both.dlogits);
    if (!product) continue;
    // The exponentials take the place of the gradient, when that would have been written.
    Node factors(NodeKind::kCall, "gemm", list[i].device);
    factors.reads = list[at].reads;
    if (overlaps(factors.reads, range_of(both.dlogits)) || !list.may_move(factors, at, i)) continue;

    const std::vector<int> readers = list.readers(i, range_of(both.dlogits));
    const auto* whole =
        readers.size() == 1 ? std::get_if<ScaleUnlessOneCall>(&list[readers[0]].call) : nullptr;
    const bool scaled =
        whole && whole->x.data() == both.dlogits.data() && whole->x.numel() == both.dlogits.numel();
    const Tensor factor = scaled ? whole->factor : Tensor();
    const std::vector<Use> products = uses(list, scaled ? readers[0] : i, both.dlogits, factor);
    if (products.empty()) continue;

    LinearCrossEntropyCall joined{both.loss, {},          *product,
                                  both.grad, both.target, both.ignore_index};
    joined.scale = list.make(both.loss.sizes(), both.loss.dtype(), list[i].device);
    for (auto use = products.rbegin(); use != products.rend(); ++use)
      scale(list, *use, joined.scale, factor);
    if (scaled) list.remove(readers[0]);
    Node node(NodeKind::kCall, "linear_cross_entropy", list[i].device);
    node.call = joined;
    prepare_call(node);
    list[i] = std::move(node);
    list.remove(at);
    ++found;
  }
  return found;
}

}  // namespace vt::fuse
