// Scaled dot-product attention: the fused operator where the device has one, else its pieces.
#include "ops/composite/attention.h"

#include <cmath>
#include <limits>

#include "ops/ops.h"

namespace vt {

Tensor attention_weights(const Tensor& query, const Tensor& key, const Tensor& attn_mask,
                         double scale, bool causal) {
  Tensor scores = matmul(query, transpose(key, -2, -1));  // [..., queries, keys]
  Tensor mask = attn_mask;
  if (causal && query.size(-2) != key.size(-2))
    mask = raw::tril(ones(Dims{query.size(-2), key.size(-2)}, DType::kBool, query.device()), 0);
  if (!mask.defined()) return scaled_softmax(scores, scale, causal);
  scores = mul(scores, scale);
  scores = mask.dtype() == DType::kBool
               ? masked_fill(scores, raw::logical_not(mask),
                             Scalar(-std::numeric_limits<double>::infinity()))
               : add(scores, mask, 1);
  return scaled_softmax(scores, 1, false);
}

Tensor heads_for(const Tensor& query, const Tensor& shared) {
  if (query.dim() < 3 || shared.dim() < 3 || query.size(-3) == shared.size(-3)) return shared;
  const int at = shared.dim() - 2;
  Dims wide = shared.sizes(), joined = shared.sizes();
  wide.insert(at, query.size(-3) / shared.size(-3));
  joined[at - 1] = query.size(-3);
  return reshape(expand(unsqueeze(shared, at), wide), joined);
}

Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const Tensor& attn_mask, double dropout_p, bool is_causal,
                                    std::optional<double> scale, bool enable_gqa) {
  const char* op = "scaled_dot_product_attention";
  VT_CHECK(query.dim() >= 2 && key.dim() >= 2 && value.dim() >= 2, kRuntime, op,
           ": expected [..., tokens, features], got ", query, ", ", key, " and ", value);
  VT_CHECK(!(attn_mask.defined() && is_causal), kRuntime, op,
           ": explicit attn_mask should not be set when is_causal=True");
  if (enable_gqa) {
    VT_CHECK(query.dim() >= 3 && key.dim() >= 3 && value.dim() >= 3, kRuntime, op,
             ": enable_gqa needs a dimension of heads, got ", query, ", ", key, " and ", value);
    for (const Tensor& shared : {key, value})
      VT_CHECK(shared.size(-3) > 0 && query.size(-3) % shared.size(-3) == 0, kRuntime, op,
               ": enable_gqa: the heads of the query have to be a multiple of those of the key and "
               "the value, got ",
               query, " and ", shared);
  }
  const double factor = scale.value_or(1.0 / std::sqrt(static_cast<double>(query.sizes().back())));
  const bool wanted = query.requires_grad() || key.requires_grad() || value.requires_grad();
  if (!attn_mask.defined() && dropout_p == 0 &&
      (enable_gqa || query.dim() < 3 || query.size(-3) == key.size(-3)) &&
      can_attend(query, key, value, factor, is_causal, wanted)) {
    if (query.dim() == 4) return attention(query, key, value, factor, is_causal);
    const auto four = [](const Tensor& t) { return unsqueeze(t, 0); };  // [1, heads, tokens, width]
    return squeeze_dim(attention(four(query), four(key), four(value), factor, is_causal), 0);
  }
  const Tensor keys = enable_gqa ? heads_for(query, key) : key,
               values = enable_gqa ? heads_for(query, value) : value;
  const Tensor weights = attention_weights(query, keys, attn_mask, factor, is_causal);
  return matmul(dropout(weights, dropout_p, true), values);
}

}  // namespace vt
