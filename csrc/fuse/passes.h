// The switches of the step compiler: one bit a pass.
#pragma once
#include <string>
#include <vector>

namespace vt::fuse {

enum Pass : unsigned {
  kPointwise = 1u << 0,            // chains of elementwise operators become one kernel
  kCasts = 1u << 1,                // conversions of type join such chains
  kFills = 1u << 2,                // tensors of one number join them
  kDeadWork = 1u << 3,             // what nobody reads again is not stored, or not computed
  kAddNorm = 1u << 4,              // a sum and its norm
  kReductions = 1u << 6,           // sums and extremes of rows join chains
  kCopies = 1u << 7,               // results that are only copied elsewhere
  kLinearGelu = 1u << 8,           // GELU in the product that it is applied to
  kGeluBackward = 1u << 9,         // and its gradient in the product before it
  kNormBackwardAdd = 1u << 5,      // a norm's gradient and the sum with another one
  kCrossEntropy = 1u << 10,        // losses of rows and their gradient
  kNormBackwardSum = 1u << 11,     // a norm's gradient and its sum over the rows
  kColumnSums = 1u << 12,          // sums of the columns that a product with GELU's gradient makes
  kLinearAdd = 1u << 13,           // the residual sum in the product in front of it
  kGeluSlope = 1u << 14,           // GELU's slope in the product that GELU is applied to
  kLinearCrossEntropy = 1u << 15,  // losses of rows in the product that makes their logits
  kAttentionSums = 1u << 16,       // sums of attention's gradients over all tokens
};
// Passes that need structured kernels in the list.
inline constexpr unsigned kCalls = kAddNorm | kNormBackwardAdd | kCopies | kLinearGelu |
                                   kGeluBackward | kCrossEntropy | kNormBackwardSum | kColumnSums |
                                   kLinearAdd | kGeluSlope | kAttentionSums | kLinearCrossEntropy;

struct PassInfo {
  Pass pass;
  const char* name;
  const char* doc;
};
const std::vector<PassInfo>& passes();

}  // namespace vt::fuse
