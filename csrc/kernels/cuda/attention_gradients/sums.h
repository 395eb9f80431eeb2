// Sums of columns of gradients, of warps' rows, to be added up.
#pragma once

namespace vt::cuda::attention_gradients {

struct ColumnSums {
  const float* rows;  // [count, columns]
  void* out;          // [columns], of the gradients' type; null: not wanted
  int count, columns;
};
struct Sums {
  ColumnSums of[3];  // queries, keys, values
};

}  // namespace vt::cuda::attention_gradients
