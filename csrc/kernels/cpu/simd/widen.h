// A 16-bit matrix of a product as one of float, for BLAS. Included by the sources of simd/ only.
#pragma once
#include <memory>

#include "kernels/cpu/simd/rows.h"
#include "kernels/types.h"

namespace vt::cpu::VT_ISA {

// A dense row-major float copy of a 16-bit matrix, or the matrix itself.
template <class T>
const compute_t<T>* widen(const GemmMatrix& m, int64_t batch, int64_t rows, int64_t columns,
                          GemmMatrix* result, std::unique_ptr<compute_t<T>[]>& owned) {
  const T* data = static_cast<const T*>(m.data) + batch * m.batch_stride;
  *result = m;
  if constexpr (std::is_same_v<T, compute_t<T>>) {
    return data;
  } else {
    // Along the contiguous dimension, whichever it is.
    const bool by_rows = columns == 1 || m.column_stride == 1;
    const int64_t lines = by_rows ? rows : columns, length = by_rows ? columns : rows;
    const int64_t step = by_rows ? m.row_stride : m.column_stride;
    owned.reset(new compute_t<T>[static_cast<size_t>(lines * length)]);
    parallel_for(lines, row_grain(length), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        to_float(owned.get() + i * length, data + i * step, length);
    });
    result->row_stride = by_rows ? length : 1;
    result->column_stride = by_rows ? 1 : length;
    return owned.get();
  }
}

}  // namespace vt::cpu::VT_ISA
