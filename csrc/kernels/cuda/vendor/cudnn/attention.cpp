// Plans for cuDNN's fused attention, forward and backward, kept by shape and strides.
#include <algorithm>

#include "base/error.h"
#include "device/cuda/graph_memsets.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vendor/cudnn.h"
#include "kernels/cuda/vendor/cudnn/library.h"
#include "kernels/cuda/vendor/cudnn/plans.h"
#include "kernels/settings.h"

namespace vt::cuda {
namespace {

namespace fe = cudnn_frontend;
using cudnn::Plan;
using cudnn::plan_for;
using cudnn::TensorHandle;

enum Uid : int64_t { kQ = 1, kK, kV, kOut, kStats, kDout, kDq, kDk, kDv };

// Everything that a plan depends on.
struct Key {
  int64_t dtype, batch, heads, kv_heads, queries, keys, width, causal, backward, deterministic;
  int64_t q[3], k[3], v[3], out[3], dq[3], dk[3], dv[3];
  double scale;
};

void set_strides(int64_t (&to)[3], const HeadedTensor& t) {
  to[0] = t.batch_stride;
  to[1] = t.head_stride;
  to[2] = t.token_stride;
}

// With at most this many keys one or two blocks add to a query's gradient, and a sum of two does
// not depend on the order.
constexpr int64_t kKeysInAnyOrder = 128;

Key make_key(const Attention& a, bool backward) {
  Key key{};
  key.dtype = static_cast<int64_t>(a.dtype);
  key.batch = a.batch;
  key.heads = a.heads;
  key.kv_heads = a.kv_heads;
  key.queries = a.queries;
  key.keys = a.keys;
  key.width = a.width;
  key.causal = a.causal;
  key.backward = backward;
  key.deterministic = backward && kernel_settings().cudnn_deterministic && a.keys > kKeysInAnyOrder;
  set_strides(key.q, a.q);
  set_strides(key.k, a.k);
  set_strides(key.v, a.v);
  set_strides(key.out, a.out);
  if (backward) {
    set_strides(key.dq, a.dq);
    set_strides(key.dk, a.dk);
    set_strides(key.dv, a.dv);
  }
  key.scale = a.scale;
  return key;
}

class Builder {
 public:
  explicit Builder(const Key& key, fe::graph::Graph& graph) : key_(key), graph_(graph) {
    const auto type = key.dtype == static_cast<int64_t>(DType::kF16) ? fe::DataType_t::HALF
                                                                     : fe::DataType_t::BFLOAT16;
    graph.set_io_data_type(type)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }

  void forward() {
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention")
                       .set_generate_stats(true)
                       .set_causal_mask(key_.causal != 0)
                       .set_attn_scale(static_cast<float>(key_.scale));
    auto [out, stats] = graph_.sdpa(q(), k(), v(), options);
    result(out, kOut, key_.heads, key_.queries, key_.out);
    stats->set_output(true)
        .set_uid(kStats)
        .set_data_type(fe::DataType_t::FLOAT)
        .set_dim({key_.batch, key_.heads, key_.queries, 1})
        .set_stride({key_.heads * key_.queries, key_.queries, 1, 1});
  }

  void backward() {
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("attention_backward")
                       .set_causal_mask(key_.causal != 0)
                       .set_attn_scale(static_cast<float>(key_.scale))
                       .set_deterministic_algorithm(key_.deterministic != 0);
    const TensorHandle stats =
        graph_.tensor(fe::graph::Tensor_attributes()
                          .set_name("stats")
                          .set_uid(kStats)
                          .set_data_type(fe::DataType_t::FLOAT)
                          .set_dim({key_.batch, key_.heads, key_.queries, 1})
                          .set_stride({key_.heads * key_.queries, key_.queries, 1, 1}));
    const TensorHandle out = input("out", kOut, key_.heads, key_.queries, key_.out),
                       dout = input("dout", kDout, key_.heads, key_.queries, key_.out);
    auto [dq, dk, dv] = graph_.sdpa_backward(q(), k(), v(), out, dout, stats, options);
    result(dq, kDq, key_.heads, key_.queries, key_.dq);
    result(dk, kDk, key_.kv_heads, key_.keys, key_.dk);
    result(dv, kDv, key_.kv_heads, key_.keys, key_.dv);
  }

 private:
  TensorHandle input(const char* name, Uid uid, int64_t heads, int64_t tokens,
                     const int64_t (&strides)[3]) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_name(name)
                             .set_uid(uid)
                             .set_dim({key_.batch, heads, tokens, key_.width})
                             .set_stride({strides[0], strides[1], strides[2], 1}));
  }
  TensorHandle q() { return input("q", kQ, key_.heads, key_.queries, key_.q); }
  TensorHandle k() { return input("k", kK, key_.kv_heads, key_.keys, key_.k); }
  TensorHandle v() { return input("v", kV, key_.kv_heads, key_.keys, key_.v); }

  void result(const TensorHandle& t, Uid uid, int64_t heads, int64_t tokens,
              const int64_t (&strides)[3]) {
    t->set_output(true)
        .set_uid(uid)
        .set_dim({key_.batch, heads, tokens, key_.width})
        .set_stride({strides[0], strides[1], strides[2], 1});
  }

  const Key& key_;
  fe::graph::Graph& graph_;
};

std::unique_ptr<Plan> build(const Key& key, cudnnHandle_t handle) {
  auto plan = std::make_unique<Plan>();
  Builder builder(key, plan->graph);
  if (key.backward) builder.backward();
  else builder.forward();
  cudnn::finish(*plan, handle, {fe::HeurMode_t::A});
  return plan;
}

// Note [Backward in pieces]
// Deterministic backward keeps the gradients of all scores, 2 bytes each, in its workspace. Pieces
// of the batch bound that memory. They cost time (8x16x4096x64 in pieces of 1 GiB took 1.29 times
// what PyTorch's deterministic backward takes for all of it), so the bound is wide.
int64_t most_score_bytes(int index) {
  return static_cast<int64_t>(properties(index).total_memory / 16);
}

// How many sequences one launch takes.
int64_t piece_of(const Attention& a, bool backward) {
  if (!make_key(a, backward).deterministic) return a.batch;
  const auto padded = [](int64_t n) { return (n + 63) / 64 * 64; };
  const int64_t each = 2 * a.heads * padded(a.queries) * padded(a.keys);
  const int64_t most = std::max<int64_t>(1, most_score_bytes(a.device.index) / each);
  const int64_t pieces = (a.batch + most - 1) / most;
  return (a.batch + pieces - 1) / pieces;
}

// Sequences [first, first + count).
Attention piece(const Attention& a, int64_t first, int64_t count) {
  Attention part = a;
  part.batch = count;
  const auto element = static_cast<int64_t>(item_size(a.dtype));
  for (HeadedTensor* t : {&part.q, &part.k, &part.v, &part.out, &part.dq, &part.dk, &part.dv})
    if (t->data) t->data = static_cast<char*>(t->data) + first * t->batch_stride * element;
  part.stats = static_cast<float*>(a.stats) + first * a.heads * a.queries;
  if (a.dout) part.dout = static_cast<const char*>(a.dout) + first * a.out.batch_stride * element;
  return part;
}

void run_piece(const Queue& queue, const cudnn::Handle& handle, const Attention& a, bool backward) {
  std::unordered_map<int64_t, void*> pack{
      {kQ, a.q.data}, {kK, a.k.data}, {kV, a.v.data}, {kOut, a.out.data}, {kStats, a.stats}};
  if (backward)
    pack.insert(
        {{kDout, const_cast<void*>(a.dout)}, {kDq, a.dq.data}, {kDk, a.dk.data}, {kDv, a.dv.data}});
  Plan& plan = plan_for(a.device.index, make_key(a, backward), handle.get(), &build);
  VT_CHECK(plan.refusal.empty(), kRuntime, "attention: cuDNN refuses ", a.batch, 'x', a.heads,
           " heads of ", a.queries, " queries, ", a.keys, " keys and width ", a.width, " of ",
           name(a.dtype), " on ", a.device, ": ", plan.refusal);
  void* const kept =
      workspace_in_graph({a.device, queue.stream()}, static_cast<size_t>(plan.workspace));
  const Scratch<char> workspace(queue, kept ? 0 : plan.workspace);
  fe::error_t error = plan.graph.execute(handle.get(), pack, kept ? kept : workspace.get());
  VT_CHECK(error.is_good(), kRuntime, "attention: cuDNN failed for ", a.batch, 'x', a.heads,
           " heads of ", a.queries, " queries, ", a.keys, " keys and width ", a.width, " of ",
           name(a.dtype), " on ", a.device, ": ", error.get_message());
}

void run(const Attention& a, bool backward) {
  const Queue queue("attention", a.device);
  const cudnn::Handle handle(a.device.index);
  const int64_t step = piece_of(a, backward);
  for (int64_t first = 0; first < a.batch; first += step)
    run_piece(queue, handle, piece(a, first, std::min(step, a.batch - first)), backward);
}

}  // namespace

bool cudnn_can_attend(const Attention& a, bool backward) {
  if ((a.dtype != DType::kF16 && a.dtype != DType::kBF16) || a.width % 8 != 0 || a.width > 128)
    return false;
  if (!cudnn::unavailable_reason().empty()) return false;
  const DeviceGuard guard(a.device.index);
  const cudnn::Handle handle(a.device.index);
  Attention part = a;
  part.batch = piece_of(a, backward);
  return plan_for(a.device.index, make_key(part, backward), handle.get(), &build).refusal.empty();
}

void cudnn_attention(const Attention& a) { run(a, false); }
void cudnn_attention_backward(const Attention& a) { run(a, true); }

}  // namespace vt::cuda
