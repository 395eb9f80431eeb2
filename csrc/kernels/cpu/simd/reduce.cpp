// Reductions over any set of dimensions of a strided tensor. Work is cut by the shape alone, so
// results do not depend on the number of threads; float sums are carried in double (see vec.h).
#include "kernels/cpu/simd/reduce_ops.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kGrain = 32768;    // elements that are worth a thread
constexpr int64_t kPiece = 1 << 16;  // elements of one partial result of a long reduction
constexpr int64_t kColumns = 256;    // columns whose accumulators stay in the first-level cache
constexpr int64_t kScratch = 1024;

// One list of dimensions, outermost first, neighbours merged. Strides in elements.
struct Axes {
  int count = 0;
  int64_t sizes[kMaxDims], strides[kMaxDims];

  void add(int64_t size, int64_t stride) {
    if (size == 1) return;
    if (count > 0 && strides[count - 1] == stride * size) {
      sizes[count - 1] *= size;
      strides[count - 1] = stride;
      return;
    }
    sizes[count] = size;
    strides[count++] = stride;
  }
  int64_t product() const {
    int64_t n = 1;
    for (int i = 0; i < count; ++i) n *= sizes[i];
    return n;
  }
  int64_t offset(int64_t linear) const {
    int64_t elements = 0;
    for (int i = count - 1; i >= 0; --i) {
      elements += linear % sizes[i] * strides[i];
      linear /= sizes[i];
    }
    return elements;
  }
  // Takes dimension i out; size 1 and stride 0 if it is not there.
  void take(int i, int64_t* size, int64_t* stride) {
    *size = 1;
    *stride = 0;
    if (i < 0) return;
    *size = sizes[i];
    *stride = strides[i];
    for (--count; i < count; ++i) {
      sizes[i] = sizes[i + 1];
      strides[i] = strides[i + 1];
    }
  }
  int innermost() const {  // the smallest stride
    int best = -1;
    for (int i = 0; i < count; ++i)
      if (best < 0 || strides[i] <= strides[best]) best = i;
    return best;
  }
};

// Walks the rows of a reduction in order without a division a row.
struct RowWalk {
  const Axes& axes;
  int64_t index[kMaxDims], offset;

  RowWalk(const Axes& a, int64_t linear) : axes(a), offset(a.offset(linear)) {
    for (int i = a.count - 1; i >= 0; --i) {
      index[i] = linear % a.sizes[i];
      linear /= a.sizes[i];
    }
  }
  void next() {
    for (int i = axes.count - 1; i >= 0; --i) {
      offset += axes.strides[i];
      if (++index[i] < axes.sizes[i]) return;
      offset -= index[i] * axes.strides[i];
      index[i] = 0;
    }
  }
};

// The tensor to read, its type erased: `load` gives n elements from `offset` on, `stride` elements
// apart, as the type that the reduction computes with, in `scratch` or where they are. At most
// kScratch, unless they are used in place.
template <class In>
struct Source {
  const In* (*load)(const void* data, int64_t offset, int64_t stride, In* scratch, int64_t n);
  const void* data;
  bool in_place;
};
// May the elements be read where they are? Bytes stand for truth here, and a uint8 may be any
// number.
template <class In, class T>
inline constexpr bool kAsStored = std::is_same_v<In, T> && !std::is_same_v<In, uint8_t>;
template <class In, class T>
const In* load_as(const void* data, int64_t offset, int64_t stride, In* scratch, int64_t n) {
  const T* x = static_cast<const T*>(data) + offset;
  if constexpr (kAsStored<In, T>) {
    if (stride == 1) return x;
  }
  if constexpr (is_half(DTypeOf<T>::value) && std::is_same_v<In, float>) {
    if (stride == 1) return vt::cpu::VT_ISA::load(x, scratch, n);
  }
  for (int64_t i = 0; i < n; ++i) {
    const auto v = static_cast<compute_t<T>>(x[i * stride]);
    if constexpr (std::is_same_v<In, uint8_t>)
      scratch[i] = v != 0;  // only truth is reduced as bytes
    else scratch[i] = static_cast<In>(v);
  }
  return scratch;
}
template <class In, class T>
Source<In> source(const Tensor& x) {
  return {load_as<In, T>, x.data(), kAsStored<In, T>};
}

template <class Op>
typename Op::Acc reduce_run(const Source<typename Op::In>& x, int64_t offset, int64_t stride,
                            int64_t n) {
  if (x.in_place && stride == 1) return Op::run(x.load(x.data, offset, 1, nullptr, n), n);
  typename Op::In scratch[kScratch];
  typename Op::Acc acc = Op::kStart;
  for (int64_t i = 0; i < n; i += kScratch) {
    const int64_t count = std::min(kScratch, n - i);
    acc =
        Op::join(acc, Op::run(x.load(x.data, offset + i * stride, stride, scratch, count), count));
  }
  return acc;
}

// acc[j] takes in rows [begin, end) of column j, for `width` neighbouring columns from `offset` on.
template <class Op>
void reduce_columns(typename Op::Acc* acc, const Source<typename Op::In>& x, int64_t offset,
                    const Axes& rows, int64_t begin, int64_t end, int64_t width) {
  using Lane = typename Op::Lane;
  Lane lanes[kColumns];
  typename Op::In scratch[kColumns];
  RowWalk walk(rows, begin);
  while (begin < end) {
    const int64_t stop = begin + std::min(Op::kRows, end - begin);
    for (int64_t j = 0; j < width; ++j) lanes[j] = static_cast<Lane>(Op::kStart);
    for (; begin < stop; ++begin, walk.next()) {
      const auto* row = x.load(x.data, offset + walk.offset, 1, scratch, width);
#pragma GCC ivdep
      for (int64_t j = 0; j < width; ++j) lanes[j] = Op::lane(lanes[j], row[j]);
    }
    for (int64_t j = 0; j < width; ++j)
      acc[j] = Op::join(acc[j], static_cast<typename Op::Acc>(lanes[j]));
  }
}

// Writes a result as the type of the output; `divisor` is the number of elements for a mean,
// else 1.
template <class Acc>
struct Sink {
  void (*put)(void* out, int64_t i, Acc value, double divisor);
  void* out;
  double divisor;
  void operator()(int64_t i, Acc value) const { put(out, i, value, divisor); }
};
template <class Acc, class O>
Sink<Acc> sink(const Tensor& out, double divisor = 1) {
  return {[](void* data, int64_t i, Acc value, double by) {
            if constexpr (is_half(DTypeOf<O>::value))
              static_cast<O*>(data)[i] = O(static_cast<float>(value / by));
            else if constexpr (std::is_floating_point_v<Acc>)
              static_cast<O*>(data)[i] = static_cast<O>(value / by);
            else static_cast<O*>(data)[i] = static_cast<O>(value);
          },
          out.data(), divisor};
}

template <class Op>
void reduce_over(const Sink<typename Op::Acc>& out, const Source<typename Op::In>& x, Axes kept,
                 Axes reduced) {
  using Acc = typename Op::Acc;
  const int64_t outputs = kept.product(), n = reduced.product();
  if (n == 0) {  // nothing to walk over: each output is the value that an empty reduction has
    for (int64_t o = 0; o < outputs; ++o) out(o, Op::kStart);
    return;
  }
  if (outputs == 0) return;
  const int inner_kept = kept.innermost(), inner = reduced.innermost();
  const bool columns = kept.count > 0 && inner_kept == kept.count - 1 &&
                       kept.strides[inner_kept] == 1 && kept.sizes[inner_kept] >= 4 &&
                       !(inner >= 0 && reduced.strides[inner] == 1);
  if (columns) {
    int64_t width, one;
    kept.take(inner_kept, &width, &one);
    const int64_t blocks = (width + kColumns - 1) / kColumns, outer = outputs / width;
    // Enough pieces of rows to share out where there are few columns; how many depends on the shape
    // only.
    const int64_t pieces =
        std::max<int64_t>(1, std::min(std::min<int64_t>(n / 64, 16), 64 / (outer * blocks)));
    const int64_t piece = (n + pieces - 1) / pieces;
    std::unique_ptr<Acc[]> partial(pieces > 1 ? new Acc[static_cast<size_t>(pieces * outputs)]
                                              : nullptr);
    const int64_t grain =
        std::max<int64_t>(1, kGrain / std::max<int64_t>(1, piece * std::min(width, kColumns)));
    parallel_for(outer * blocks * pieces, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t j = t % blocks * kColumns, p = t / blocks % pieces, o = t / blocks / pieces;
        const int64_t count = std::min(kColumns, width - j);
        Acc acc[kColumns];
        std::fill_n(acc, count, Op::kStart);
        reduce_columns<Op>(acc, x, kept.offset(o) + j, reduced, std::min(n, p * piece),
                           std::min(n, (p + 1) * piece), count);
        if (partial) std::copy_n(acc, count, partial.get() + p * outputs + o * width + j);
        else
          for (int64_t i = 0; i < count; ++i) out(o * width + j + i, acc[i]);
      }
    });
    for (int64_t i = 0; partial && i < outputs; ++i) {
      Acc acc = partial[i];
      for (int64_t p = 1; p < pieces; ++p) acc = Op::join(acc, partial[p * outputs + i]);
      out(i, acc);
    }
    return;
  }

  int64_t run, stride;
  reduced.take(inner, &run, &stride);
  const int64_t rows = reduced.product();
  if (outputs < 8 && n >= 2 * kPiece) {  // few long reductions: pieces of each, joined in order
    const bool cut_run = run >= kPiece;
    const int64_t units = cut_run ? run : rows, unit = cut_run ? 1 : run;
    const int64_t piece = std::max<int64_t>(1, kPiece / unit),
                  per_row = (units + piece - 1) / piece;
    const int64_t pieces = cut_run ? per_row * rows : per_row;
    std::unique_ptr<Acc[]> partial(new Acc[static_cast<size_t>(pieces)]);
    for (int64_t o = 0; o < outputs; ++o) {
      const int64_t from = kept.offset(o);
      parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
          const int64_t first = p % per_row * piece, count = std::min(piece, units - first);
          if (cut_run) {
            partial[p] = reduce_run<Op>(x, from + reduced.offset(p / per_row) + first * stride,
                                        stride, count);
          } else {
            RowWalk walk(reduced, first);
            Acc acc = Op::kStart;
            for (int64_t r = 0; r < count; ++r, walk.next())
              acc = Op::join(acc, reduce_run<Op>(x, from + walk.offset, stride, run));
            partial[p] = acc;
          }
        }
      });
      Acc acc = partial[0];
      for (int64_t p = 1; p < pieces; ++p) acc = Op::join(acc, partial[p]);
      out(o, acc);
    }
    return;
  }
  parallel_for(outputs, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n)),
               [&](int64_t begin, int64_t end) {
                 RowWalk at(kept, begin);
                 for (int64_t o = begin; o < end; ++o, at.next()) {
                   RowWalk walk(reduced, 0);
                   Acc acc = Op::kStart;
                   for (int64_t r = 0; r < rows; ++r, walk.next())
                     acc = Op::join(acc, reduce_run<Op>(x, at.offset + walk.offset, stride, run));
                   out(o, acc);
                 }
               });
}

}  // namespace

void reduce(const Tensor& out, const Tensor& x, ReduceKind kind, uint32_t dims) {
  Axes kept, reduced;
  for (int i = 0; i < x.dim(); ++i)
    ((dims >> i) & 1 ? reduced : kept).add(x.sizes()[i], x.strides()[i]);
  const double count = kind == ReduceKind::kMean ? static_cast<double>(reduced.product()) : 1;
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using In = std::conditional_t<is_float(DTypeOf<T>::value), compute_t<T>, int64_t>;
    using Wide = std::conditional_t<is_float(DTypeOf<T>::value), double, int64_t>;
    using Total = std::conditional_t<is_float(DTypeOf<T>::value), T, int64_t>;
    switch (kind) {
      case ReduceKind::kAny:
        return reduce_over<TruthReduce<true>>(sink<uint8_t, bool>(out), source<uint8_t, T>(x), kept,
                                              reduced);
      case ReduceKind::kAll:
        return reduce_over<TruthReduce<false>>(sink<uint8_t, bool>(out), source<uint8_t, T>(x),
                                               kept, reduced);
      case ReduceKind::kMax:
        return reduce_over<ExtremeReduce<In, true>>(sink<In, T>(out), source<In, T>(x), kept,
                                                    reduced);
      case ReduceKind::kMin:
        return reduce_over<ExtremeReduce<In, false>>(sink<In, T>(out), source<In, T>(x), kept,
                                                     reduced);
      case ReduceKind::kProd:
        return reduce_over<ProdReduce<Wide>>(sink<Wide, Total>(out), source<Wide, T>(x), kept,
                                             reduced);
      default:
        return reduce_over<SumReduce<In>>(sink<Wide, Total>(out, count), source<In, T>(x), kept,
                                          reduced);
    }
  });
}

void sum_of_squares(const Tensor& out, const Tensor& x) {
  visit_float("sum_of_squares", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = x.data<T>();
    const double total = sum_in_pieces(x.numel(), [data](int64_t first, int64_t count) {
      return sum_squares_any(data + first, count, compute_t<T>(0));
    });
    if (out.dtype() == DType::kF64) *out.data<double>() = total;
    else *out.data<float>() = static_cast<float>(total);
  });
}

}  // namespace vt::cpu::VT_ISA
