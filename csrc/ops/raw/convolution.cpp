// Convolutions below autograd: the device's own kernel, or products with the columns of im2col.
#include "ops/raw/dense.h"

namespace vt::raw {
namespace {

// The sizes of a convolution, checked.
struct Shape {
  Dims input, weight, output, stride, padding, dilation;
  int64_t groups;

  Shape(const Dims& input, const Dims& weight, const Dims& stride, const Dims& padding,
        const Dims& dilation, int64_t groups)
      : input(input),
        weight(weight),
        stride(stride),
        padding(padding),
        dilation(dilation),
        groups(groups) {
    VT_CHECK(input.size() == 4 && weight.size() == 4 && stride.size() == 2 && padding.size() == 2 &&
                 dilation.size() == 2,
             kRuntime, "convolution: expected images [N, C, H, W], weight [O, C / groups, kh, kw] ",
             "and pairs, got ", input, " and ", weight, ", stride ", stride, ", padding ", padding,
             " and dilation ", dilation);
    VT_CHECK(groups > 0 && weight[0] % groups == 0 && input[1] == weight[1] * groups, kRuntime,
             "convolution: given groups=", groups, ", weight ", weight, " and input ", input,
             ", expected weight [O, C / groups, kh, kw] with O a multiple of groups");
    output = {input[0], weight[0], 0, 0};
    for (int i = 0; i < 2; ++i) {
      VT_CHECK(weight[2 + i] > 0 && stride[i] > 0 && dilation[i] > 0 && padding[i] >= 0, kRuntime,
               "convolution: kernel sizes in ", weight, ", stride ", stride, " and dilation ",
               dilation, " must be positive and padding ", padding, " not negative");
      const int64_t padded = input[2 + i] + 2 * padding[i],
                    reach = dilation[i] * (weight[2 + i] - 1) + 1;
      VT_CHECK(padded >= reach, kRuntime, "convolution: the kernel reaches over ", reach,
               " elements of dimension ", 2 + i, ", but the padded images ", input, " have ",
               padded);
      output[2 + i] = (padded - reach) / stride[i] + 1;
    }
  }

  Dims kernel() const { return {weight[2], weight[3]}; }
  int64_t seen() const { return weight[1] * weight[2] * weight[3]; }
  int64_t positions() const { return output[0] * output[2] * output[3]; }
};

void check_pair(const Tensor& a, const Tensor& b) {
  check_same_device("convolution", a, b);
  check_float("convolution", a);
  VT_CHECK(a.dtype() == b.dtype(), kRuntime,
           "convolution: expected both operands to have the same dtype, but got ", a, " and ", b,
           "; convert one with .to(dtype)");
}

constexpr int kRows[] = {0, 2, 3, 1};  // [N, C, H, W] as it lies channels last
constexpr int kBack[] = {0, 3, 1, 2};
Dims permuted(const Dims& sizes, const int (&order)[4]) {
  return {sizes[order[0]], sizes[order[1]], sizes[order[2]], sizes[order[3]]};
}
Dims strides_of(const Dims& sizes, bool channels_last) {
  if (!channels_last) return row_major_strides(sizes);
  return permuted(row_major_strides(permuted(sizes, kRows)), kBack);
}

bool lies_in(const Tensor& t, bool channels_last) {
  const Dims strides = strides_of(t.sizes(), channels_last);
  for (int i = 0; i < 4; ++i)
    if (t.sizes()[i] != 1 && t.strides()[i] != strides[i]) return false;
  return true;
}
// The order of results follows that of the images.
bool channels_last(const Tensor& images) {
  return !images.device().is_cpu() && images.numel() > 0 && lies_in(images, true) &&
         !lies_in(images, false);
}

Tensor empty_in(const Dims& sizes, const Tensor& like, bool channels_last) {
  return view_of(empty(Dims{sizes.product()}, like.dtype(), like.device()), sizes,
                 strides_of(sizes, channels_last), 0);
}

// t, or a copy of it, without gaps in the order asked for. cuDNN reads 16 bytes at once.
Tensor in(const Tensor& t, bool channels_last) {
  if (lies_in(t, channels_last) &&
      (t.device().is_cpu() || reinterpret_cast<uintptr_t>(t.data()) % 16 == 0))
    return t;
  return raw::copy_(empty_in(t.sizes(), t, channels_last), t, false);
}

void check_sizes(const Shape& s, const Tensor& grad_output) {
  VT_CHECK(grad_output.sizes() == s.output, kRuntime, "convolution: expected a gradient of sizes ",
           s.output, ", got ", grad_output);
}

bool has_elements(const Shape& s) {
  return s.input.product() > 0 && s.weight.product() > 0 && s.output.product() > 0;
}

// Has the device computed it? All three lie in the same order.
bool computed(const Shape& s, ConvolutionPass pass, bool channels_last, const Tensor& input,
              const Tensor& weight, const Tensor& output) {
  Convolution c{};
  c.device = input.device();
  c.dtype = input.dtype();
  c.pass = pass;
  c.channels_last = channels_last;
  c.n = s.input[0];
  c.channels = s.input[1];
  c.outputs = s.weight[0];
  c.groups = s.groups;
  for (int i = 0; i < 2; ++i) {
    c.size[i] = s.input[2 + i];
    c.kernel[i] = s.weight[2 + i];
    c.out_size[i] = s.output[2 + i];
    c.stride[i] = s.stride[i];
    c.padding[i] = s.padding[i];
    c.dilation[i] = s.dilation[i];
  }
  c.input = input.data();
  c.weight = weight.data();
  c.output = output.data();
  bool done = false;
  kernels(c.device).convolution(c, &done);
  return done;
}

// A product a group, of weight [G, O / G, C kh kw], the columns [G, C kh kw, N h w] that it sees
// and output rows [G, O / G, N h w].
Tensor weight_rows(const Shape& s, const Tensor& weight) {
  return raw::view(dense(weight), Dims{s.groups, s.weight[0] / s.groups, s.seen()});
}
Tensor columns_of(const Shape& s, const Tensor& input) {
  return raw::view(raw::im2col(input, s.kernel(), s.stride, s.padding, s.dilation, 0.0),
                   Dims{s.groups, s.seen(), s.positions()});
}
Tensor output_rows(const Shape& s, const Tensor& output) {
  return raw::view(dense(raw::permute(output, Dims{1, 0, 2, 3})),
                   Dims{s.groups, s.weight[0] / s.groups, s.positions()});
}
Tensor transposed(const Tensor& t) { return raw::permute(t, Dims{0, 2, 1}); }

}  // namespace

Tensor convolution(const Tensor& input, const Tensor& weight, const Dims& stride,
                   const Dims& padding, const Dims& dilation, int64_t groups) {
  check_pair(input, weight);
  const Shape s(input.sizes(), weight.sizes(), stride, padding, dilation, groups);
  if (has_elements(s)) {
    const bool last = channels_last(input);
    const Tensor output = empty_in(s.output, input, last);
    if (computed(s, ConvolutionPass::kOutput, last, in(input, last), in(weight, last), output))
      return output;
  }
  const Tensor rows = raw::matmul(weight_rows(s, weight), columns_of(s, input));
  return dense(raw::permute(
      raw::view(rows, Dims{s.output[1], s.output[0], s.output[2], s.output[3]}), Dims{1, 0, 2, 3}));
}

Tensor convolution_input(const Tensor& grad_output, const Tensor& weight, const Dims& size,
                         const Dims& stride, const Dims& padding, const Dims& dilation,
                         int64_t groups) {
  check_pair(grad_output, weight);
  const Shape s(size, weight.sizes(), stride, padding, dilation, groups);
  check_sizes(s, grad_output);
  if (has_elements(s)) {
    const bool last = channels_last(grad_output);
    const Tensor input = empty_in(s.input, grad_output, last);
    if (computed(s, ConvolutionPass::kInput, last, input, in(weight, last), in(grad_output, last)))
      return input;
  }
  const Tensor columns =
      raw::matmul(transposed(weight_rows(s, weight)), output_rows(s, grad_output));
  return raw::col2im(raw::view(columns, Dims{s.groups * s.seen(), s.positions()}), size, s.kernel(),
                     stride, padding, dilation);
}

Tensor convolution_weight(const Tensor& grad_output, const Tensor& input, const Dims& size,
                          const Dims& stride, const Dims& padding, const Dims& dilation,
                          int64_t groups) {
  check_pair(grad_output, input);
  const Shape s(input.sizes(), size, stride, padding, dilation, groups);
  check_sizes(s, grad_output);
  if (has_elements(s)) {
    const bool last = channels_last(input);
    const Tensor weight = empty_in(s.weight, input, last);
    if (computed(s, ConvolutionPass::kWeight, last, in(input, last), weight, in(grad_output, last)))
      return dense(weight);
  }
  return raw::view(raw::matmul(output_rows(s, grad_output), transposed(columns_of(s, input))),
                   s.weight);
}

}  // namespace vt::raw
