// Attention over any leading dimensions, as the pieces that its value and its derivatives share.
#pragma once
#include "tensor/tensor.h"

namespace vt {

// softmax(scale * query @ key.T + mask) over [..., queries, keys]. A bool mask is true where a
// query may look; causal lets query i see keys 0 to i. A query that sees nothing has weights of
// zero. Differentiable.
Tensor attention_weights(const Tensor& query, const Tensor& key, const Tensor& attn_mask,
                         double scale, bool causal);

// Heads (dimension -3) of a key or value repeated so that there are as many as query has.
Tensor heads_for(const Tensor& query, const Tensor& shared);

// May raw::attention run here, and its backward if that will be wanted?
bool can_attend(const Tensor& query, const Tensor& key, const Tensor& value, double scale,
                bool causal, bool backward);

}  // namespace vt
