// Recording of the structured kernels that patterns know; the others run as they come.
#include "fuse/record_calls.h"

#include "device/deferred.h"
#include "fuse/group.h"
#include "fuse/recorder.h"

namespace vt::fuse {
namespace {

void add_range(std::vector<Range>& ranges, const Tensor& t) {
  if (!t.defined() || t.numel() == 0) return;
  const char* begin = t.data<char>();
  int64_t last = 0;
  for (int d = 0; d < t.dim(); ++d) last += (t.sizes()[d] - 1) * t.strides()[d];
  ranges.push_back({begin, begin + (last + 1) * static_cast<int64_t>(t.item_size())});
}

void add_range(std::vector<Range>& ranges, const GemmMatrix& m, int64_t rows, int64_t columns,
               int64_t batch, DType dtype) {
  const char* begin = static_cast<const char*>(m.data);
  const int64_t last =
      (rows - 1) * m.row_stride + (columns - 1) * m.column_stride + (batch - 1) * m.batch_stride;
  ranges.push_back({begin, begin + (last + 1) * static_cast<int64_t>(item_size(dtype))});
}

void add_range(std::vector<Range>& ranges, const void* data, int64_t count, DType dtype) {
  if (const char* begin = static_cast<const char*>(data))
    ranges.push_back({begin, begin + count * static_cast<int64_t>(item_size(dtype))});
}

// What an epilogue reads and writes beside the product.
void add_epilogue(Node& node, const Gemm& gemm) {
  if (gemm.aux.data)
    add_range(gemm.epilogue == GemmEpilogue::kGelu || gemm.epilogue == GemmEpilogue::kGeluSlope
                  ? node.writes
                  : node.reads,
              gemm.aux, gemm.m, gemm.n, 1, gemm.dtype);
  if (gemm.addend)
    add_range(node.reads, {const_cast<void*>(gemm.addend), gemm.out.row_stride, 1, 0}, gemm.m,
              gemm.n, 1, gemm.dtype);
  add_range(node.writes, gemm.column_sums, gemm.n, gemm.dtype);
  add_range(node.writes, gemm.row_sums, gemm.m, gemm.dtype);
}

void add_gradients(Node& node, const Attention& a) {
  const auto add = [&](std::vector<Range>& ranges, const HeadedTensor& t, int64_t heads,
                       int64_t tokens) {
    const int64_t last = (a.batch - 1) * t.batch_stride + (heads - 1) * t.head_stride +
                         (tokens - 1) * t.token_stride + a.width;
    add_range(ranges, t.data, last, a.dtype);
  };
  HeadedTensor dout = a.out;
  dout.data = const_cast<void*>(a.dout);
  for (const HeadedTensor& t : {a.q, a.out, dout}) add(node.reads, t, a.heads, a.queries);
  for (const HeadedTensor& t : {a.k, a.v}) add(node.reads, t, a.kv_heads, a.keys);
  add_range(node.reads, a.stats, a.batch * a.heads * a.queries,
            a.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  add(node.writes, a.dq, a.heads, a.queries);
  for (const HeadedTensor& t : {a.dk, a.dv}) add(node.writes, t, a.kv_heads, a.keys);
  add_range(node.writes, a.dq_sums, a.heads * a.width, a.dtype);
  for (void* sums : {a.dk_sums, a.dv_sums})
    add_range(node.writes, sums, a.kv_heads * a.width, a.dtype);
}

Node call_node(const char* name, Device device, Call call) {
  Node node(NodeKind::kCall, name, device);
  node.call = std::move(call);
  prepare_call(node);
  return node;
}

// Runs what is pending, and counts the call; false where the call is to be put off instead.
bool runs_now(const char* name) {
  if (recorder().here() && recorder().enabled(kCalls)) return false;
  run_deferred();
  recorder().pass_by(name);
  return true;
}

void record_gemm(const Gemm& gemm) {
  if (runs_now("gemm")) return actual(gemm.device).gemm(gemm);
  recorder().add(call_node("gemm", gemm.device, gemm));
}

// Runs what is pending in any case, so that lists are no longer than without it: what follows, up
// to the sums of the gradients, is soon there.
void record_attention_backward(const Attention& attention) {
  run_deferred();
  if (!recorder().here() || !recorder().enabled(kAttentionSums)) {
    recorder().pass_by("attention_backward");
    return actual(attention.device).attention_backward(attention);
  }
  recorder().add(call_node("attention_backward", attention.device, attention));
}

void record_norm(const Tensor& out, const Tensor& sum, const Tensor& mean, const Tensor& rstd,
                 const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
                 double eps) {
  if (runs_now("norm"))
    return actual(x.device()).norm(out, sum, mean, rstd, x, residual, weight, bias, eps);
  recorder().add(
      call_node("norm", x.device(),
                NormCall{unowned(out), unowned(sum), unowned(mean), unowned(rstd), unowned(x),
                         unowned(residual), unowned(weight), unowned(bias), eps}));
}

void record_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                          const Tensor& dx_sum, const Tensor& grad, const Tensor& extra,
                          const Tensor& x, const Tensor& mean, const Tensor& rstd,
                          const Tensor& weight) {
  if (runs_now("norm_backward"))
    return actual(x.device())
        .norm_backward(dx, dweight, dbias, dx_sum, grad, extra, x, mean, rstd, weight);
  recorder().add(
      call_node("norm_backward", x.device(),
                NormBackwardCall{unowned(dx), unowned(dweight), unowned(dbias), unowned(dx_sum),
                                 unowned(grad), unowned(extra), unowned(x), unowned(mean),
                                 unowned(rstd), unowned(weight)}));
}

// Are the last dimensions of a dense float tensor reduced, as rows that a block can hold?
bool is_of_rows(const Tensor& x, ReduceKind kind, uint32_t dims) {
  const bool known = kind == ReduceKind::kSum || kind == ReduceKind::kMean ||
                     kind == ReduceKind::kMax || kind == ReduceKind::kMin;
  if (!known || !is_float(x.dtype()) || !x.is_dense() || dims == 0) return false;
  int kept = 0;
  while (kept < x.dim() && !(dims >> kept & 1)) ++kept;
  if (dims != ((1u << x.dim()) - 1) >> kept << kept) return false;
  int64_t row = 1;
  for (int d = kept; d < x.dim(); ++d) row *= x.sizes()[d];
  const int64_t rows = row == 0 ? 0 : x.numel() / row;
  // Few long rows would leave most of a GPU idle.
  return row >= 2 && row <= kMaxRow && rows >= 2 && (rows >= 64 || row <= 1024);
}

Node row_node(const Tensor& out, const Tensor& x, ReduceKind kind) {
  static constexpr const char* kNames[] = {"sum", "mean", "prod", "amax", "amin", "any", "all"};
  Node node(NodeKind::kReduce, kNames[static_cast<int>(kind)], x.device());
  const int64_t rows = out.numel();
  node.dtype = x.dtype();
  node.row = x.numel() / rows;
  node.reduce = kind;
  node.space.ndim = 2;
  node.space.sizes[0] = node.row;
  node.space.sizes[1] = rows;
  const auto size = static_cast<int64_t>(x.item_size());
  node.in[0] = Window{x.data<char>(), x.dtype(), {size, size * node.row}};
  node.inputs = 1;
  node.out = Window{out.data<char>(), out.dtype(), {0, size}};
  return node;
}

void record_reduce(const Tensor& out, const Tensor& x, ReduceKind kind, uint32_t dims) {
  if (recorder().here() && recorder().enabled(kReductions) && is_of_rows(x, kind, dims))
    return recorder().add(row_node(out, x, kind));
  if (runs_now("reduce")) return actual(x.device()).reduce(out, x, kind, dims);
  recorder().add(call_node("reduce", x.device(), ReduceCall{unowned(out), unowned(x), kind, dims}));
}

void record_cross_entropy(const Tensor& loss, const Tensor& logsumexp, const Tensor& logits,
                          const Tensor& target, int64_t ignore_index, double label_smoothing) {
  if (runs_now("cross_entropy"))
    return actual(logits.device())
        .cross_entropy(loss, logsumexp, logits, target, ignore_index, label_smoothing);
  recorder().add(call_node("cross_entropy", logits.device(),
                           CrossEntropyCall{unowned(loss), unowned(logsumexp), unowned(logits),
                                            unowned(target), ignore_index, label_smoothing}));
}

void record_cross_entropy_backward(const Tensor& dlogits, const Tensor& grad, const Tensor& logits,
                                   const Tensor& target, const Tensor& logsumexp,
                                   int64_t ignore_index, double label_smoothing) {
  if (runs_now("cross_entropy_backward"))
    return actual(logits.device())
        .cross_entropy_backward(dlogits, grad, logits, target, logsumexp, ignore_index,
                                label_smoothing);
  recorder().add(
      call_node("cross_entropy_backward", logits.device(),
                CrossEntropyBackwardCall{Tensor(), unowned(dlogits), unowned(grad), unowned(logits),
                                         unowned(target), unowned(logsumexp), ignore_index,
                                         label_smoothing}));
}

void record_cross_entropy_both(const Tensor& loss, const Tensor& dlogits, const Tensor& grad,
                               const Tensor& logits, const Tensor& target, int64_t ignore_index,
                               double label_smoothing) {
  if (runs_now("cross_entropy_both"))
    return actual(logits.device())
        .cross_entropy_both(loss, dlogits, grad, logits, target, ignore_index, label_smoothing);
  recorder().add(call_node(
      "cross_entropy_both", logits.device(),
      CrossEntropyBackwardCall{unowned(loss), unowned(dlogits), unowned(grad), unowned(logits),
                               unowned(target), Tensor(), ignore_index, label_smoothing}));
}

void record_cross_entropy_rate(const Tensor& rate, const Tensor& target, int64_t ignore_index) {
  if (runs_now("cross_entropy_rate"))
    return actual(rate.device()).cross_entropy_rate(rate, target, ignore_index);
  recorder().add(call_node("cross_entropy_rate", rate.device(),
                           CrossEntropyRateCall{unowned(rate), unowned(target), ignore_index}));
}

void record_cross_entropy_total(const Tensor& out, const Tensor& loss, const Tensor& rate) {
  if (runs_now("cross_entropy_total"))
    return actual(out.device()).cross_entropy_total(out, loss, rate);
  recorder().add(call_node("cross_entropy_total", out.device(),
                           CrossEntropyTotalCall{unowned(out), unowned(loss), unowned(rate)}));
}

void record_scale_unless_one(const Tensor& x, const Tensor& factor) {
  if (runs_now("scale_unless_one")) return actual(x.device()).scale_unless_one(x, factor);
  recorder().add(
      call_node("scale_unless_one", x.device(), ScaleUnlessOneCall{unowned(x), unowned(factor)}));
}

}  // namespace

void prepare_call(Node& node) {
  node.reads.clear();
  node.writes.clear();
  auto reads = [&](auto&... tensors) { (add_range(node.reads, tensors), ...); };
  auto writes = [&](auto&... tensors) { (add_range(node.writes, tensors), ...); };
  const Device device = node.device;
  if (const auto* gemm = std::get_if<Gemm>(&node.call)) {
    add_range(node.reads, gemm->a, gemm->m, gemm->k, gemm->batch, gemm->dtype);
    add_range(node.reads, gemm->b, gemm->k, gemm->n, gemm->batch, gemm->dtype);
    add_range(node.writes, gemm->out, gemm->m, gemm->n, gemm->batch, gemm->dtype);
    if (gemm->beta != 0) node.reads.push_back(node.writes[0]);
    if (gemm->bias) {
      const char* begin = static_cast<const char*>(gemm->bias);
      node.reads.push_back({begin, begin + gemm->n * static_cast<int64_t>(item_size(gemm->dtype))});
    }
    add_epilogue(node, *gemm);
    node.run = [device, call = *gemm] { actual(device).gemm(call); };
  } else if (const auto* attention = std::get_if<Attention>(&node.call)) {
    add_gradients(node, *attention);
    node.run = [device, call = *attention] { actual(device).attention_backward(call); };
  } else if (const auto* norm = std::get_if<NormCall>(&node.call)) {
    reads(norm->x, norm->residual, norm->weight, norm->bias);
    writes(norm->out, norm->sum, norm->mean, norm->rstd);
    node.run = [device, c = *norm] {
      actual(device).norm(c.out, c.sum, c.mean, c.rstd, c.x, c.residual, c.weight, c.bias, c.eps);
    };
  } else if (const auto* back = std::get_if<NormBackwardCall>(&node.call)) {
    reads(back->grad, back->extra, back->x, back->mean, back->rstd, back->weight);
    writes(back->dx, back->dweight, back->dbias, back->dx_sum);
    node.run = [device, c = *back] {
      actual(device).norm_backward(c.dx, c.dweight, c.dbias, c.dx_sum, c.grad, c.extra, c.x, c.mean,
                                   c.rstd, c.weight);
    };
  } else if (const auto* entropy = std::get_if<CrossEntropyCall>(&node.call)) {
    reads(entropy->logits, entropy->target);
    writes(entropy->loss, entropy->logsumexp);
    node.run = [device, c = *entropy] {
      actual(device).cross_entropy(c.loss, c.logsumexp, c.logits, c.target, c.ignore_index,
                                   c.label_smoothing);
    };
  } else if (const auto* slope = std::get_if<CrossEntropyBackwardCall>(&node.call)) {
    reads(slope->grad, slope->logits, slope->target);
    writes(slope->dlogits, slope->loss);
    if (!slope->loss.defined()) reads(slope->logsumexp);
    node.run = [device, c = *slope] {
      const Kernels& kernels = actual(device);
      if (c.loss.defined())
        kernels.cross_entropy_both(c.loss, c.dlogits, c.grad, c.logits, c.target, c.ignore_index,
                                   c.label_smoothing);
      else
        kernels.cross_entropy_backward(c.dlogits, c.grad, c.logits, c.target, c.logsumexp,
                                       c.ignore_index, c.label_smoothing);
    };
  } else if (const auto* reduce = std::get_if<ReduceCall>(&node.call)) {
    reads(reduce->x);
    writes(reduce->out);
    node.run = [device, c = *reduce] { actual(device).reduce(c.out, c.x, c.kind, c.dims); };
  } else if (const auto* rate = std::get_if<CrossEntropyRateCall>(&node.call)) {
    reads(rate->target);
    writes(rate->rate);
    node.run = [device, c = *rate] {
      actual(device).cross_entropy_rate(c.rate, c.target, c.ignore_index);
    };
  } else if (const auto* total = std::get_if<CrossEntropyTotalCall>(&node.call)) {
    reads(total->loss, total->rate);
    writes(total->out);
    node.run = [device, c = *total] { actual(device).cross_entropy_total(c.out, c.loss, c.rate); };
  } else if (const auto* unless = std::get_if<ScaleUnlessOneCall>(&node.call)) {
    reads(unless->x, unless->factor);
    writes(unless->x);
    node.run = [device, c = *unless] { actual(device).scale_unless_one(c.x, c.factor); };
  } else if (const auto* joined = std::get_if<LinearCrossEntropyCall>(&node.call)) {
    const Gemm& product = joined->product;
    add_range(node.reads, product.a, product.m, product.k, 1, product.dtype);
    add_range(node.reads, product.b, product.k, product.n, 1, product.dtype);
    reads(joined->grad, joined->target);
    add_range(node.writes, product.out, product.m, product.n, 1, product.dtype);
    writes(joined->loss, joined->scale);
    node.run = [device, c = *joined] {
      actual(device).linear_cross_entropy(c.loss, c.scale, c.product, c.grad, c.target,
                                          c.ignore_index);
    };
  } else if (const auto* rows = std::get_if<ScaleRowsCall>(&node.call)) {
    reads(rows->x, rows->scale, rows->factor);
    writes(rows->out);
    node.run = [device, c = *rows] { actual(device).scale_rows(c.out, c.x, c.scale, c.factor); };
  }
}

void fill_calls(Kernels& table) {
  table.gemm = &record_gemm;
  table.attention_backward = &record_attention_backward;
  table.norm = &record_norm;
  table.norm_backward = &record_norm_backward;
  table.reduce = &record_reduce;
  table.cross_entropy = &record_cross_entropy;
  table.cross_entropy_backward = &record_cross_entropy_backward;
  table.cross_entropy_both = &record_cross_entropy_both;
  table.cross_entropy_rate = &record_cross_entropy_rate;
  table.cross_entropy_total = &record_cross_entropy_total;
  table.scale_unless_one = &record_scale_unless_one;
}

}  // namespace vt::fuse
