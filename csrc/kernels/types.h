// The arguments that structured kernels take beside tensors. Plain data, shared by the CPU and CUDA
// implementations.
#pragma once
#include <cstdint>

#include "base/scalar.h"
#include "device/generator.h"
#include "iter/elementwise.h"
#include "tensor/tensor.h"

namespace vt {

// One elementwise operator on one kind of device. All inputs have type `dtype`, but for the
// functor's bool inputs. `params` are the operator's scalars, constructed into the functor. If
// scalar_at is not kNoScalar, the input at that position is not in the plan: it is the Scalar after
// the operator's own parameters.
inline constexpr int kNoScalar = -1;
using PointwiseFn = void (*)(const ElementwisePlan& plan, DType dtype, const Scalar* params,
                             int scalar_at);

enum class ReduceKind : uint8_t { kSum, kMean, kProd, kMax, kMin, kAny, kAll };

// out[i] = alpha * a[i] @ b[i] + beta * out[i] + bias for i in [0, batch): a is m x k, b is k x n,
// out is m x n. Element (r, c) of a matrix is at data[r * row_stride + c * column_stride] with one
// of the two strides 1 (any value where that dimension has size 1). out has column_stride 1.
// Strides in elements.
struct GemmMatrix {
  void* data;
  int64_t row_stride, column_stride, batch_stride;
};
// What happens to the product before it is stored. GELU is its tanh form.
enum class GemmEpilogue : uint8_t { kNone, kGelu, kGeluBackward, kGeluSlope, kTimes };
struct Gemm {
  Device device;
  DType dtype;
  int64_t m, n, k, batch;
  GemmMatrix a, b, out;
  double alpha = 1, beta = 0;
  const void* bias = nullptr;  // n elements added to each row, or null
  // For one matrix (batch 1), beta 0 and no epilogue: m x n elements that lie as out's do, or out's
  // own, and are added before anything is rounded. Or null.
  const void* addend = nullptr;
  // For one matrix (batch 1). kGelu: out = gelu(product + bias), and what gelu is applied to goes
  // to aux where that is not null. kGeluBackward: out = product * gelu'(aux). kGeluSlope: as kGelu,
  // but gelu' of that goes to aux, and kTimes: out = product * aux. aux is m x n like out, but of
  // float16 where it holds gelu' and out is of bfloat16.
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  GemmMatrix aux{};
  // With kGeluBackward or kTimes and no size 0: becomes the n sums of out's columns. Or null.
  void* column_sums = nullptr;
  // For one matrix, with no size 0: becomes the m sums of a's rows, as of a gradient whose product
  // with what it came from this is. Or null.
  void* row_sums = nullptr;
};

// Attention of `heads` query heads in `batch` sequences; heads / kv_heads neighbouring query heads
// share a key and a value head. Element (b, h, t, d) of a tensor is at data[b * batch_stride +
// h * head_stride + t * token_stride + d]. Strides in elements. Causal: query i sees keys 0 to i.
struct HeadedTensor {
  void* data;
  int64_t batch_stride, head_stride, token_stride;
};
struct Attention {
  Device device;
  DType dtype;
  int64_t batch, heads, kv_heads, queries, keys, width;
  double scale;
  bool causal;
  HeadedTensor q, k, v, out;
  // [batch, heads, queries] log of the sum of exp of scaled scores, float or double. A query whose
  // scores are all minus infinity sees nothing: its output is zeros, its stats plus infinity, which
  // makes its weights zero in backward.
  void* stats;
  // Backward reads all of the above and dout, which has the strides of out, and writes the rest.
  const void* dout = nullptr;
  HeadedTensor dq{}, dk{}, dv{};
  // [heads, width] and twice [kv_heads, width]: the sums of dq, dk and dv over all tokens of all
  // sequences, where makes_sums_in_kernel says so (kernels/attention_sums.h). Or null.
  void *dq_sums = nullptr, *dk_sums = nullptr, *dv_sums = nullptr;
};

// Convolution of images [n, channels, size] with `outputs` kernels [channels / groups, kernel]: the
// images that come out, [n, outputs, out_size], or the gradient of one of the two from that of the
// images and the other one. All three lie without gaps, channels right before the two spatial
// dimensions or, `channels_last`, behind them.
enum class ConvolutionPass : uint8_t { kOutput, kInput, kWeight };
struct Convolution {
  Device device;
  DType dtype;
  ConvolutionPass pass;
  bool channels_last;
  int64_t n, channels, outputs, groups;
  int64_t size[2], kernel[2], out_size[2], stride[2], padding[2], dilation[2];
  void *input, *weight, *output;
};

// Whether an update happens, as the device knows it. Where *found is not 0, nothing is changed, and
// skipped[0 .. count) go up by 1; with such a guard, `step` of the options counts attempts, and the
// update is number step - skipped[0].
struct UpdateGuard {
  const float* found = nullptr;
  int32_t* skipped = nullptr;
  int64_t count = 0;
};

// `live`, if not null, points to what counts in place of the options, in device memory: the
// constants (optim_constants.h), or, with a guard, other options. Note [Live values].
struct AdamWOptions {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;  // counts from 1
};
struct AdamWConfig : AdamWOptions {
  const void* live = nullptr;
  UpdateGuard guard = {};
};

struct SgdOptions {
  double lr, momentum, dampening, weight_decay;
  int64_t step;  // the first, 1, starts the momentum buffer as the gradient
  bool nesterov;
};
struct SgdConfig : SgdOptions {
  const void* live = nullptr;
  UpdateGuard guard = {};
};

// How a loss scale follows what becomes of the gradients: times `backoff` where they overflowed,
// times `growth` after `interval` steps without that, between lowest and highest.
struct LossScaleConfig {
  double clip;  // the largest norm of the gradients, or infinity
  double growth, backoff, lowest, highest;
  int64_t interval;
};

// The part of a dimension of `size` that is at hand. Indices lie in [0, size); with classes they
// are targets of a cross-entropy, and may also be `ignored`: that one does not count.
struct IndexWindow {
  int64_t start, length, size;
  bool classes;
  int64_t ignored;
};

// The activation of a gated unit.
enum class GateKind : uint8_t { kSilu, kGelu, kGeluTanh };

// Rotary position embedding: pair i of a token's features turns by position * base^(-2i / features)
// radians.
struct RopeConfig {
  int token_dim;   // the dimension of positions
  int64_t offset;  // the first position
  double base;
  bool interleaved;  // pairs (2i, 2i + 1) instead of (i, i + features / 2)
  bool inverse;      // turns back
};

}  // namespace vt
