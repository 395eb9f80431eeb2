// Matrix products. Tiny ones are plain loops; the others go to OpenBLAS, which is kept on the
// calling thread while our own loop shares out batches and tiles, so that several devices can
// compute at once. Tiles depend on the shape only.
#include <cblas.h>

#include <cstring>

#include "kernels/column_sums.h"
#include "kernels/cpu/simd/widen.h"
#include "kernels/pointwise_unary.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kTinyWork =
    4096;  // multiply-adds below which the call of a library costs more than the loop

// How a product is cut for the threads: into few tiles along its longer side, as each tile packs
// its operands anew (four tiles of a 1024-cube cost 12% more time than two on one thread). By the
// shape only: the bits do not depend on threads.
struct Tiling {
  int64_t rows, columns;

  Tiling(int64_t m, int64_t n, int64_t k) : rows(m), columns(n) {
    const int64_t work = m * n * k;
    const bool vector =
        m == 1 || n == 1;  // bound by the memory of the matrix: two threads read faster than one
    const int64_t pieces = vector                    ? (work < int64_t{1} << 19 ? 1 : 2)
                           : work < int64_t{1} << 23 ? 1
                           : work < int64_t{1} << 31 ? 2
                           : work < int64_t{1} << 34 ? 4
                                                     : 8;
    int64_t& side = 2 * m >= n ? rows : columns;
    side = std::max<int64_t>((side + pieces - 1) / pieces + 63, 64) / 64 *
           64;  // whole register blocks
  }
};

void use_one_thread() {
  static const bool done = (scipy_openblas_set_num_threads(1), true);
  static_cast<void>(done);
}

template <class C>
void blas(const Gemm& g, const C* a, CBLAS_TRANSPOSE ta, int64_t lda, const C* b,
          CBLAS_TRANSPOSE tb, int64_t ldb, C* out, int64_t ldc, int64_t rows, int64_t columns,
          double beta) {
  const auto i = [](int64_t v) { return static_cast<int>(v); };
  if (rows == 1 || columns == 1) {  // a vector: sgemm would pack the whole matrix for one use
    const bool left = rows == 1;
    const C* matrix = left ? b : a;
    const CBLAS_TRANSPOSE stored = left ? tb : ta;
    // A vector on the left multiplies the transposed matrix.
    const CBLAS_TRANSPOSE used = (stored == CblasTrans) == left ? CblasNoTrans : CblasTrans;
    const int64_t width = left ? columns : rows, ld = left ? ldb : lda;
    const int64_t height = used == CblasNoTrans ? width : g.k,
                  length = used == CblasNoTrans ? g.k : width;
    const C* vector = left ? a : b;
    const int64_t step = left ? (ta == CblasNoTrans ? 1 : lda) : (tb == CblasNoTrans ? ldb : 1),
                  out_step = left ? 1 : ldc;
    if constexpr (std::is_same_v<C, float>)
      scipy_cblas_sgemv(CblasRowMajor, used, i(height), i(length), static_cast<float>(g.alpha),
                        matrix, i(ld), vector, i(step), static_cast<float>(beta), out, i(out_step));
    else
      scipy_cblas_dgemv(CblasRowMajor, used, i(height), i(length), g.alpha, matrix, i(ld), vector,
                        i(step), beta, out, i(out_step));
    return;
  }
  if constexpr (std::is_same_v<C, float>)
    scipy_cblas_sgemm(CblasRowMajor, ta, tb, i(rows), i(columns), i(g.k),
                      static_cast<float>(g.alpha), a, i(lda), b, i(ldb), static_cast<float>(beta),
                      out, i(ldc));
  else
    scipy_cblas_dgemm(CblasRowMajor, ta, tb, i(rows), i(columns), i(g.k), g.alpha, a, i(lda), b,
                      i(ldb), beta, out, i(ldc));
}

// How BLAS is told about a rows x columns matrix.
struct Layout {
  CBLAS_TRANSPOSE transposed;
  int64_t ld;
};
Layout layout_of(const GemmMatrix& m, int64_t rows, int64_t columns) {
  if (columns == 1 || m.column_stride == 1)
    return {CblasNoTrans, rows == 1 ? std::max<int64_t>(1, columns) : m.row_stride};
  return {CblasTrans, m.column_stride};
}

// One matrix of the batch, any size.
template <class T>
void product(const Gemm& g, int64_t batch) {
  using C = compute_t<T>;
  constexpr bool kConverts = !std::is_same_v<T, C>;
  std::unique_ptr<C[]> a_owned, b_owned;
  GemmMatrix a_layout, b_layout;
  const C* a = widen<T>(g.a, batch, g.m, g.k, &a_layout, a_owned);
  const C* b = widen<T>(g.b, batch, g.k, g.n, &b_layout, b_owned);
  const Layout la = layout_of(a_layout, g.m, g.k), lb = layout_of(b_layout, g.k, g.n);
  T* out = static_cast<T*>(g.out.data) + batch * g.out.batch_stride;
  const int64_t ldc = g.m == 1 ? g.n : g.out.row_stride;
  const T* bias = static_cast<const T*>(g.bias);
  const Tiling tiling(g.m, g.n, g.k);
  const int64_t row_tiles = (g.m + tiling.rows - 1) / tiling.rows;
  const int64_t column_tiles = (g.n + tiling.columns - 1) / tiling.columns;
  const int64_t tile_work = std::min(g.m, tiling.rows) * std::min(g.n, tiling.columns) * g.k;
  parallel_for(
      row_tiles * column_tiles, std::max<int64_t>(1, 200000 / std::max<int64_t>(1, tile_work)),
      [&](int64_t begin, int64_t end) {
        std::unique_ptr<C[]> tile(kConverts ? new C[tiling.rows * tiling.columns] : nullptr);
        for (int64_t t = begin; t < end; ++t) {
          const int64_t i = t % row_tiles * tiling.rows, j = t / row_tiles * tiling.columns;
          const int64_t rows = std::min(tiling.rows, g.m - i),
                        columns = std::min(tiling.columns, g.n - j);
          C* c;
          int64_t ld = ldc;
          if constexpr (kConverts) {
            c = tile.get();
            ld = columns;
          } else {
            c = out + i * ldc + j;
          }
          // What the product is added to is put into the tile first.
          double beta = g.beta;
          if (kConverts || bias) {
            for (int64_t r = 0; r < rows; ++r) {
              C* row = c + r * ld;
              const T* old = out + (i + r) * ldc + j;
              for (int64_t x = 0; x < columns; ++x) {
                const C base = g.beta == 0 ? C(0) : static_cast<C>(g.beta) * static_cast<C>(old[x]);
                row[x] = bias ? base + static_cast<C>(bias[j + x]) : base;
              }
            }
            beta = 1;
          }
          blas(g, a + i * a_layout.row_stride, la.transposed, la.ld, b + j * b_layout.column_stride,
               lb.transposed, lb.ld, c, ld, rows, columns, beta);
          if constexpr (kConverts)
            for (int64_t r = 0; r < rows; ++r)
              from_float(out + (i + r) * ldc + j, c + r * ld, columns);
        }
      });
}

// A few hundred multiply-adds: rows of out, with b brought into rows where it is not.
template <class T>
void tiny(const Gemm& g, int64_t batch) {
  using C = compute_t<T>;
  C rows[kTinyWork];
  const T* a = static_cast<const T*>(g.a.data) + batch * g.a.batch_stride;
  const T* b = static_cast<const T*>(g.b.data) + batch * g.b.batch_stride;
  T* out = static_cast<T*>(g.out.data) + batch * g.out.batch_stride;
  const T* bias = static_cast<const T*>(g.bias);
  for (int64_t p = 0; p < g.k; ++p)
    for (int64_t j = 0; j < g.n; ++j)
      rows[p * g.n + j] = static_cast<C>(b[p * g.b.row_stride + j * g.b.column_stride]);
  constexpr int64_t kWidth = 64;
  C acc[kWidth];
  for (int64_t i = 0; i < g.m; ++i) {
    T* o = out + i * g.out.row_stride;
    for (int64_t j = 0; j < g.n; j += kWidth) {
      const int64_t width = std::min(kWidth, g.n - j);
      for (int64_t x = 0; x < width; ++x) acc[x] = 0;
      for (int64_t p = 0; p < g.k; ++p) {
        const C v = static_cast<C>(a[i * g.a.row_stride + p * g.a.column_stride]);
        const C* row = rows + p * g.n + j;
#pragma GCC ivdep
        for (int64_t x = 0; x < width; ++x) acc[x] += v * row[x];
      }
      for (int64_t x = 0; x < width; ++x) {
        C value = static_cast<C>(g.alpha) * acc[x];
        if (g.beta != 0) value += static_cast<C>(g.beta) * static_cast<C>(o[j + x]);
        if (bias) value += static_cast<C>(bias[j + x]);
        o[j + x] = static_cast<T>(value);
      }
    }
  }
}

// The epilogue on the product that lies in out.
template <class T>
void finish(const Gemm& g) {
  using C = compute_t<T>;
  using Slope = std::conditional_t<std::is_same_v<T, BFloat16>, Half, T>;
  parallel_for(g.m, row_grain(g.n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* out = static_cast<T*>(g.out.data) + i * g.out.row_stride;
      T* aux = g.aux.data ? static_cast<T*>(g.aux.data) + i * g.aux.row_stride : nullptr;
      Slope* slope = g.aux.data ? static_cast<Slope*>(g.aux.data) + i * g.aux.row_stride : nullptr;
      if (g.epilogue == GemmEpilogue::kGelu) {
        if (aux) std::copy_n(out, g.n, aux);
#pragma GCC ivdep
        for (int64_t j = 0; j < g.n; ++j)
          out[j] = static_cast<T>(functor::GeluTanh<C>{}(static_cast<C>(out[j])));
      } else if (g.epilogue == GemmEpilogue::kGeluSlope) {
#pragma GCC ivdep
        for (int64_t j = 0; j < g.n; ++j) {
          const C x = static_cast<C>(out[j]);
          slope[j] = static_cast<Slope>(functor::GeluSlope<C>{}(x));
          out[j] = static_cast<T>(functor::GeluTanh<C>{}(x));
        }
      } else if (g.epilogue == GemmEpilogue::kTimes) {
#pragma GCC ivdep
        for (int64_t j = 0; j < g.n; ++j)
          out[j] = static_cast<T>(static_cast<C>(out[j]) * static_cast<C>(slope[j]));
      } else {
#pragma GCC ivdep
        for (int64_t j = 0; j < g.n; ++j)
          out[j] = static_cast<T>(
              functor::GeluTanhBackward<C>{}(static_cast<C>(out[j]), static_cast<C>(aux[j])));
      }
    }
  });
}

template <class T>
void multiply(const Gemm& g) {
  const int64_t work = g.m * g.n * g.k;
  if (work <= kTinyWork && g.n * g.k <= kTinyWork) {
    parallel_for(g.batch, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, work)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) tiny<T>(g, i);
                 });
    return;
  }
  constexpr int64_t kLimit = 0x7fffffff;
  VT_CHECK(g.m <= kLimit && g.n <= kLimit && g.k <= kLimit, kRuntime,
           "matmul: a matrix of the product ", g.m, " x ", g.k, " x ", g.n,
           " is larger than 2^31 - 1 in one dimension");
  use_one_thread();
  // Small matrices side by side, large ones one after the other with all threads on each.
  constexpr int64_t kSideBySide = int64_t{1} << 26;
  if (work < kSideBySide)
    parallel_for(g.batch, std::max<int64_t>(1, 200000 / work), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) product<T>(g, i);
    });
  else
    for (int64_t i = 0; i < g.batch; ++i) product<T>(g, i);
}

// out = what the product is to be added to; the product with beta 1 does the rest.
Gemm started(const Gemm& g) {
  Gemm rest = g;
  rest.addend = nullptr;
  rest.beta = 1;
  if (g.addend == g.out.data) return rest;
  const auto item = static_cast<int64_t>(item_size(g.dtype));
  const int64_t step = (g.m == 1 ? g.n : g.out.row_stride) * item;
  parallel_for(g.m, row_grain(g.n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(static_cast<char*>(g.out.data) + i * step,
                  static_cast<const char*>(g.addend) + i * step, static_cast<size_t>(g.n * item));
  });
  return rest;
}

}  // namespace

void gemm(const Gemm& g) {
  if (g.addend) return gemm(started(g));
  visit_float("matmul", g.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    multiply<T>(g);
    if (g.epilogue != GemmEpilogue::kNone) finish<T>(g);
  });
  if (g.column_sums)
    column_sums_of(g, [](const Tensor& sums, const Tensor& rows) {
      reduce(sums, rows, ReduceKind::kSum, 1u);
    });
  if (g.row_sums)
    row_sums_of(g, [](const Tensor& sums, const Tensor& rows) {
      reduce(sums, rows, ReduceKind::kSum, 1u);
    });
}

}  // namespace vt::cpu::VT_ISA
