// The driver of elementwise operators: cuts a plan into runs of plain arrays for the typed loops.
// Strided and 16-bit operands pass through small buffers that stay in the first-level cache, so no
// loop is compiled twice for them.
#include "kernels/cpu/simd/pointwise.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "device/cpu/parallel.h"
#include "kernels/cpu/simd/convert.h"
#include "kernels/cpu/simd/transpose.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // elements that are worth a thread
constexpr int64_t kChunk = 512;    // elements a buffer holds
constexpr int64_t kDirectRow =
    12;  // rows at least this long run one by one, shorter ones are packed together
constexpr int kMaxInputs = ElementwisePlan::kMaxOperands - 1;

template <class T>
inline void gather_items(char* dst, const char* src, int64_t stride, int64_t n) {
  T* d = reinterpret_cast<T*>(dst);
  if (stride == static_cast<int64_t>(sizeof(T))) {
    std::memcpy(d, src, static_cast<size_t>(n) * sizeof(T));
  } else if (stride == 0) {
    const T value = *reinterpret_cast<const T*>(src);
    for (int64_t i = 0; i < n; ++i) d[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i, src += stride) d[i] = *reinterpret_cast<const T*>(src);
  }
}
void gather(int size, char* dst, const char* src, int64_t stride, int64_t n) {
  switch (size) {
    case 1: return gather_items<uint8_t>(dst, src, stride, n);
    case 2: return gather_items<uint16_t>(dst, src, stride, n);
    case 4: return gather_items<uint32_t>(dst, src, stride, n);
    default: return gather_items<uint64_t>(dst, src, stride, n);
  }
}
template <class T>
inline void scatter_items(char* dst, int64_t stride, const char* src, int64_t n) {
  const T* s = reinterpret_cast<const T*>(src);
  for (int64_t i = 0; i < n; ++i, dst += stride) *reinterpret_cast<T*>(dst) = s[i];
}
void scatter(int size, char* dst, int64_t stride, const char* src, int64_t n) {
  switch (size) {
    case 1: return scatter_items<uint8_t>(dst, stride, src, n);
    case 2: return scatter_items<uint16_t>(dst, stride, src, n);
    case 4: return scatter_items<uint32_t>(dst, stride, src, n);
    default: return scatter_items<uint64_t>(dst, stride, src, n);
  }
}
void widen(DType half, float* dst, const char* src, int64_t n) {
  if (half == DType::kBF16) to_float(dst, reinterpret_cast<const BFloat16*>(src), n);
  else to_float(dst, reinterpret_cast<const Half*>(src), n);
}
void narrow(DType half, char* dst, const float* src, int64_t n) {
  if (half == DType::kBF16) from_float(reinterpret_cast<BFloat16*>(dst), src, n);
  else from_float(reinterpret_cast<Half*>(dst), src, n);
}

// A position in the plan's index space, and where every operand is there.
struct Cursor {
  const ElementwisePlan& plan;
  int64_t index[kMaxDims];
  char* at[ElementwisePlan::kMaxOperands];

  Cursor(const ElementwisePlan& p, int64_t linear) : plan(p) {
    std::copy_n(p.data, p.operands, at);
    for (int d = 0; d < p.ndim; ++d) {
      index[d] = linear % p.sizes[d];
      linear /= p.sizes[d];
      for (int k = 0; k < p.operands; ++k) at[k] += index[d] * p.strides[k][d];
    }
  }
  void advance(int64_t in_row) {
    move(0, in_row);
    for (int d = 0; d + 1 < plan.ndim && index[d] == plan.sizes[d]; ++d) {
      move(d, -index[d]);
      move(d + 1, 1);
    }
  }

 private:
  void move(int d, int64_t steps) {
    index[d] += steps;
    for (int k = 0; k < plan.operands; ++k) at[k] += steps * plan.strides[k][d];
  }
};

class Runner {
 public:
  Runner(const ElementwisePlan& plan, const PointwiseJob& job) : plan_(plan), job_(job) {
    for (int k = 0, operand = 1; k < job.inputs; ++k)
      operand_[k] = k == job.scalar_at ? -1 : operand++;
    if (job.scalar_at != kNoScalar && !scalar_is_last())
      gather(job.size[job.scalar_at + 1], buffer_[job.scalar_at],
             static_cast<const char*>(job.scalar), 0, kChunk);
  }

  // Every operand is one run of memory.
  void dense(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kChunk) {
      const int64_t n = std::min(kChunk, end - i);
      const char* in[kMaxInputs];
      bool scalar = false;
      for (int k = 0; k < job_.inputs; ++k) {
        if (operand_[k] < 0) in[k] = number(k, &scalar);
        else in[k] = widened(k, plan_.data[operand_[k]] + i * memory_size(k + 1), n);
      }
      emit(scalar, plan_.data[0] + i * memory_size(0), memory_size(0), in, n);
    }
  }

  // Rows of the innermost dimension, each run on its own; operands that are contiguous there are
  // used in place.
  void rows(int64_t begin, int64_t end) {
    const bool in_place = all_in_place();
    Cursor cursor(plan_, begin);
    while (begin < end) {
      const int64_t left = std::min(plan_.sizes[0] - cursor.index[0], end - begin);
      const int64_t step = in_place ? left : kChunk;
      for (int64_t done = 0; done < left; done += step) {
        const int64_t n = std::min(step, left - done);
        const char* in[kMaxInputs];
        bool scalar = false;
        for (int k = 0; k < job_.inputs; ++k) {
          if (operand_[k] < 0) {
            in[k] = number(k, &scalar);
            continue;
          }
          const int64_t stride = plan_.strides[operand_[k]][0];
          const char* src = cursor.at[operand_[k]] + done * stride;
          if (stride == memory_size(k + 1)) {
            in[k] = widened(k, src, n);
          } else if (stride == 0 && k == job_.inputs - 1 && job_.scalar_loop) {
            scalar = true;
            in[k] = widened(k, src, 1);
          } else {
            in[k] = packed(k, src, stride, n);
          }
        }
        emit(scalar, cursor.at[0] + done * plan_.strides[0][0], plan_.strides[0][0], in, n);
      }
      cursor.advance(left);
      begin += left;
    }
  }

  // Many short rows at a time, copied together.
  void short_rows(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kChunk) {
      const int64_t n = std::min(kChunk, end - i);
      const char* in[kMaxInputs];
      bool scalar = false;
      for (int k = 0; k < job_.inputs; ++k) {
        if (operand_[k] < 0) {
          in[k] = number(k, &scalar);
          continue;
        }
        const int size = memory_size(k + 1);
        char* dst = converted(k + 1) ? half_ : buffer_[k];
        walk(operand_[k], i, n, [&](char* src, int64_t stride, int64_t count) {
          gather(size, dst, src, stride, count);
          dst += count * size;
        });
        in[k] = converted(k + 1) ? widened(k, half_, n) : buffer_[k];
      }
      const int size = memory_size(0);
      emit(scalar, out_, size, in, n);
      const char* src = out_;
      walk(0, i, n, [&](char* dst, int64_t stride, int64_t count) {
        scatter(size, dst, stride, src, count);
        src += count * size;
      });
    }
  }

 private:
  bool scalar_is_last() const { return job_.scalar_at == job_.inputs - 1 && job_.scalar_loop; }
  bool converted(int operand) const { return (job_.converted >> operand) & 1; }
  int memory_size(int operand) const { return converted(operand) ? 2 : job_.size[operand]; }

  // Is each row one call of the loop, without any buffer?
  bool all_in_place() const {
    if (job_.converted || plan_.strides[0][0] != job_.size[0]) return false;
    for (int k = 0; k < job_.inputs; ++k) {
      const bool last = k == job_.inputs - 1 && job_.scalar_loop;
      if (operand_[k] < 0 ? !last
                          : plan_.strides[operand_[k]][0] != job_.size[k + 1] &&
                                !(last && plan_.strides[operand_[k]][0] == 0))
        return false;
    }
    return true;
  }

  const char* number(int k, bool* scalar) {
    *scalar = scalar_is_last();
    return *scalar ? static_cast<const char*>(job_.scalar) : buffer_[k];
  }
  const char* widened(int k, const char* src, int64_t n) {
    if (!converted(k + 1)) return src;
    widen(job_.half, reinterpret_cast<float*>(buffer_[k]), src, n);
    return buffer_[k];
  }
  const char* packed(int k, const char* src, int64_t stride, int64_t n) {
    char* dst = converted(k + 1) ? half_ : buffer_[k];
    gather(memory_size(k + 1), dst, src, stride, n);
    return converted(k + 1) ? widened(k, half_, n) : dst;
  }

  // Runs the loop on n elements and puts the results at `out` with this stride.
  void emit(bool scalar, char* out, int64_t stride, const char* const* in, int64_t n) {
    const PointwiseLoop loop = scalar ? job_.scalar_loop : job_.loop;
    const bool spread = stride != memory_size(0);
    char* packed = spread ? out_ : out;
    if (converted(0)) {
      loop(job_.functor, wide_, in, n);
      narrow(job_.half, packed, reinterpret_cast<const float*>(wide_), n);
    } else {
      loop(job_.functor, packed, in, n);
    }
    if (spread) scatter(memory_size(0), out, stride, out_, n);
  }

  // Calls f(address, stride, count) for the pieces of rows that make up elements [begin, begin + n)
  // of an operand.
  template <class F>
  void walk(int operand, int64_t begin, int64_t n, F&& f) {
    Cursor cursor(plan_, begin);
    while (n > 0) {
      const int64_t count = std::min(plan_.sizes[0] - cursor.index[0], n);
      f(cursor.at[operand], plan_.strides[operand][0], count);
      cursor.advance(count);
      n -= count;
    }
  }

  const ElementwisePlan& plan_;
  const PointwiseJob& job_;
  int operand_[kMaxInputs];  // of the plan, -1 for the number
  alignas(64) char buffer_[kMaxInputs][kChunk * 8];
  alignas(64) char out_[kChunk * 8], wide_[kChunk * 4], half_[kChunk * 2];
};

}  // namespace

namespace {

// Operands that are contiguous in another dimension than the output, copied into the output's
// order: reading them as they are would touch a cache line for each element.
class Transposed {
 public:
  Transposed(const ElementwisePlan& plan, const PointwiseJob& job) : plan_(plan) {
    if (plan.numel < kWorthACopy) return;
    for (int k = 0, operand = 1; k < job.inputs; ++k) {
      if (k == job.scalar_at) continue;
      const int64_t size = (job.converted >> (k + 1)) & 1 ? 2 : job.size[k + 1];
      bring(operand++, size);
    }
  }
  const ElementwisePlan& plan() const { return plan_; }

 private:
  static constexpr int64_t kWorthACopy = 1024;

  void bring(int operand, int64_t size) {
    if (plan_.strides[operand][0] <= size) return;
    ElementwisePlan copy = plan_;
    copy.operands = 2;
    std::copy_n(plan_.strides[operand], plan_.ndim, copy.strides[1]);
    copy.data[1] = plan_.data[operand];
    int64_t step = size;
    for (int d = 0; d < plan_.ndim; ++d) {
      if (copy.strides[1][d] == 0)
        return;  // broadcast: the copy would be larger than what it copies
      copy.strides[0][d] = step;
      step *= plan_.sizes[d];
    }
    std::unique_ptr<char[]> room(new char[static_cast<size_t>(step)]);
    copy.data[0] = room.get();
    if (!transpose_copy(copy, size)) return;
    std::copy_n(copy.strides[0], plan_.ndim, plan_.strides[operand]);
    plan_.data[operand] = room.get();
    rooms_[operand] = std::move(room);
  }

  ElementwisePlan plan_;
  std::unique_ptr<char[]> rooms_[ElementwisePlan::kMaxOperands];
};

void run_strided(const ElementwisePlan& plan, const PointwiseJob& job) {
  parallel_for(plan.numel, kGrain, [&](int64_t begin, int64_t end) {
    Runner runner(plan, job);
    if (plan.dense) runner.dense(begin, end);
    else if (plan.sizes[0] >= kDirectRow || plan.ndim == 1) runner.rows(begin, end);
    else runner.short_rows(begin, end);
  });
}

}  // namespace

void run_job(const ElementwisePlan& plan, const PointwiseJob& job) {
  const bool scalar = job.scalar_at != kNoScalar;
  if (plan.dense && job.converted == 0 &&
      (!scalar || (job.scalar_loop && job.scalar_at == job.inputs - 1))) {
    const char* in[kMaxInputs];
    for (int k = 0; k < job.inputs; ++k) in[k] = plan.data[k + 1];
    if (scalar) in[job.inputs - 1] = static_cast<const char*>(job.scalar);
    const PointwiseLoop loop = scalar ? job.scalar_loop : job.loop;
    if (VT_LIKELY(plan.numel <= kGrain)) return loop(job.functor, plan.data[0], in, plan.numel);
    parallel_for(plan.numel, kGrain, [&](int64_t begin, int64_t end) {
      const char* from[kMaxInputs];
      for (int k = 0; k < job.inputs; ++k) from[k] = in[k] + begin * job.size[k + 1];
      if (scalar) from[job.inputs - 1] = in[job.inputs - 1];
      loop(job.functor, plan.data[0] + begin * job.size[0], from, end - begin);
    });
    return;
  }
  if (!plan.dense && plan.ndim > 1) {
    const Transposed brought(plan, job);
    run_strided(brought.plan(), job);
  } else {
    run_strided(plan, job);
  }
}

void fail_pointwise_type(DType dtype) {
  fail(ErrorKind::kRuntime, "elementwise operator: not implemented for ", name(dtype),
       "; convert the operands to another type first");
}
void fail_zero_divisor() {
  fail(ErrorKind::kRuntime, "integer division or modulo by zero: an element of the divisor is 0");
}

}  // namespace vt::cpu::VT_ISA
