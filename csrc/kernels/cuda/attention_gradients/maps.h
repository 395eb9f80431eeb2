// How the tensor memory accelerator is told where the heads of a tensor lie.
#pragma once
#include <cuda.h>

#include "kernels/types.h"

namespace vt::cuda::attention_gradients {

// The tensors of a side: those of rows that are kept, those that stream by, those that are made;
// outputs of attention, of the side of queries.
struct Maps {
  CUtensorMap kept[2], streamed[2], made[2], out;
};

// Boxes of 64 tokens by 64 features of one head, swizzled by 128 bytes in shared memory; what lies
// outside of the tensor comes as zeros and is not written. `t` has whole 16-byte lines.
CUtensorMap heads_map(const HeadedTensor& t, DType dtype, int64_t batch, int64_t heads,
                      int64_t tokens, int64_t width);
// Can a map say where its heads lie?
bool has_map(const HeadedTensor& t);

}  // namespace vt::cuda::attention_gradients
