// Sharding rules, by the names that the operator table gives them: from the placements of a call's
// tensors to where they have to be brought and where the results then lie. A rule never fails for
// a placement it has no better answer to: it asks for Replicate, and a collective is inserted.
#pragma once
#include <optional>

#include "sharding/plan.h"

namespace vt::sharding::rules {

// --- elementwise: the results are cut where the first cut input is ---
Plan pointwise(const Inputs& in);
// Sums of terms stay sums of terms: if all inputs are (a number beside them is none).
Plan additive(const Inputs& in);
// The same if one of two factors is.
Plan product(const Inputs& in);
// The same if the first input is, and no other tensor is a sum of terms.
Plan linear_in_first(const Inputs& in);
// The first input stays where it is, the others come to it.
Plan inplace(const Inputs& in);
// Every placement is fine, one input.
Plan same(const Inputs& in);
// The same where only the shape counts: what is made is no sum of terms.
Plan like(const Inputs& in);

// --- along dimensions ---
// `dim` must be whole: softmax, sorting.
Plan along(const Inputs& in, int64_t dim);
Plan along(const Inputs& in, const Dims& dims);
// The same, and the operator is linear: sums of terms stay.
Plan linear_along(const Inputs& in, int64_t dim);
// The last `count` dimensions must be whole, other inputs (weights) too: norms, triangles.
Plan rows(const Inputs& in, int64_t count);
// The first of `dims` dimensions may be cut, nothing else: convolutions.
Plan batch(const Inputs& in, int64_t dims);
// `dim` goes away or is made of size 1, and must be whole.
Plan reduction(const Inputs& in, const std::optional<Dims>& dims, bool keepdim);
Plan reduction(const Inputs& in, std::optional<int64_t> dim, bool keepdim);
// A sum: where a cut dimension is summed over, every rank has a term.
Plan sum(const Inputs& in, const std::optional<Dims>& dims, bool keepdim,
         std::optional<DType> dtype);

// --- views ---
Plan transpose(const Inputs& in, int64_t dim0, int64_t dim1);
Plan permute(const Inputs& in, const Dims& dims);
Plan unsqueeze(const Inputs& in, int64_t dim);
Plan squeeze(const Inputs& in, std::optional<int64_t> dim);
Plan remove(const Inputs& in, int64_t dim);  // select, unbind
Plan view(const Inputs& in, const Dims& sizes);
Plan expand(const Inputs& in, const Dims& sizes);
Plan cat(const Inputs& in, int64_t dim);

// --- products and layers ---
Plan matmul(const Inputs& in);
Plan linear(const Inputs& in);
// query, key and value [.., heads, tokens, features], and perhaps a mask.
// Copies that would drop other elements each are refused.
Plan attention(const Inputs& in, double dropout);
// index and tensors that are cut alike, but not along dim.
Plan aligned(const Inputs& in, int64_t dim);

// --- no rule ---
// Runs on replicated tensors; NotImplementedError, with what to do, for others.
Plan replicated(const Inputs& in);
// Always fails: each rank would draw other numbers.
Plan random(const Inputs& in);

}  // namespace vt::sharding::rules
