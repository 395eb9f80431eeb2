// How the tensor memory accelerator is told where the operands of a product lie.
#pragma once
#include <cuda.h>

#include "kernels/types.h"

namespace vt::cuda::direct {

// Boxes of kRows rows by kDepth along k, swizzled by 128 bytes in shared memory.
CUtensorMap left_map(const GemmMatrix& a, int64_t m, int64_t k);
// Half a tile of the right operand: its columns by kDepth, which lie along k in memory and come in
// the order of Note [Columns of a thread]; or kDepth / 2 rows of neighbouring columns.
CUtensorMap right_map(const GemmMatrix& b, int64_t n, int64_t k);
CUtensorMap right_map_along_columns(const void* b, int64_t n, int64_t k);

}  // namespace vt::cuda::direct
