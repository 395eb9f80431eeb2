// Derivatives of attention: the fused kernel, or a graph of public operators where the gradient
// itself will be differentiated.
#include "ops/composite/attention.h"

#include "autograd/formulas.h"
#include "autograd/grad_mode.h"
#include "ops/ops.h"

namespace vt {

std::array<Tensor, 3> attention_gradients(const Tensor& grad, const Tensor& query,
                                          const Tensor& key, const Tensor& value,
                                          const Tensor& output, const Tensor& stats, double scale,
                                          bool causal) {
  if (!grad_enabled()) {
    auto [dq, dk, dv] =
        raw::attention_backward(grad, query, key, value, output, stats, scale, causal);
    return {std::move(dq), std::move(dk), std::move(dv)};
  }
  const Tensor keys = heads_for(query, key), values = heads_for(query, value);
  const Tensor weights = attention_weights(query, keys, Tensor(), scale, causal);
  const Tensor dweights = matmul(grad, transpose(values, -2, -1));
  const Tensor dscores =
      mul(mul(weights, sub(dweights, sum(mul(dweights, weights), Dims{-1}, true, {}), 1)), scale);
  // Query heads that share a key head are neighbours: [batch, kv_heads, group, tokens, width].
  const auto shared = [&](const Tensor& t) {
    if (t.size(1) == key.size(1)) return t;
    Dims sizes = key.sizes();
    sizes.insert(2, t.size(1) / key.size(1));
    return sum(reshape(t, sizes), Dims{2}, false, {});
  };
  return {matmul(dscores, keys), shared(matmul(transpose(dscores, -2, -1), query)),
          shared(matmul(transpose(weights, -2, -1), grad))};
}

}  // namespace vt
