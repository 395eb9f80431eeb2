// Convolutions of images and rows, and pooling over the columns that im2col makes.
#include <limits>

#include "ops/ops.h"

namespace vt {
namespace {

Dims pair(const char* op, const char* name, const std::optional<Dims>& given, int64_t otherwise) {
  if (!given) return {otherwise, otherwise};
  VT_CHECK(given->size() == 1 || given->size() == 2, kRuntime, op, ": expected ", name,
           " to be one number or two, got ", *given);
  return {(*given)[0], given->back()};
}

// One number for rows: {1, n} for images of height 1.
Dims flat_pair(const char* name, const std::optional<Dims>& given, int64_t of_height,
               int64_t otherwise) {
  VT_CHECK(!given || given->size() == 1, kRuntime, "conv1d: expected ", name,
           " to be one number, got ", *given);
  return {of_height, given ? (*given)[0] : otherwise};
}

Tensor batched(const char* op, const Tensor& input) {
  VT_CHECK(input.dim() == 3 || input.dim() == 4, kRuntime, op,
           ": expected images [N, C, H, W] or [C, H, W], got ", input);
  return input.dim() == 4 ? input : unsqueeze(input, 0);
}

int64_t positions(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

struct Pool {
  Dims kernel, stride, padding, dilation, sizes;
  Tensor columns;  // [kernel, N * C * positions]

  Pool(const char* op, const Tensor& input, const Dims& kernel_size,
       const std::optional<Dims>& stride_in, const std::optional<Dims>& padding_in,
       const std::optional<Dims>& dilation_in, double fill)
      : kernel(pair(op, "kernel_size", kernel_size, 1)),
        stride(stride_in && !stride_in->empty() ? pair(op, "stride", stride_in, 1) : kernel),
        padding(pair(op, "padding", padding_in, 0)),
        dilation(pair(op, "dilation", dilation_in, 1)) {
    for (int i = 0; i < 2; ++i)
      VT_CHECK(2 * padding[i] <= kernel[i], kRuntime, op,
               ": pad should be at most half of kernel size, but got ", padding, " and ", kernel);
    const Tensor images = batched(op, input);
    const int64_t n = images.sizes()[0], c = images.sizes()[1], h = images.sizes()[2],
                  w = images.sizes()[3];
    columns =
        im2col(reshape(images, Dims{n * c, 1, h, w}), kernel, stride, padding, dilation, fill);
    sizes = input.sizes();
    sizes[sizes.size() - 2] = positions(h, kernel[0], stride[0], padding[0], dilation[0]);
    sizes.back() = positions(w, kernel[1], stride[1], padding[1], dilation[1]);
  }
};

}  // namespace

Tensor conv2d(const Tensor& input, const Tensor& weight, const Tensor& bias,
              const std::optional<Dims>& stride_in, const std::optional<Dims>& padding_in,
              const std::optional<Dims>& dilation_in, int64_t groups) {
  const char* op = "conv2d";
  const Dims stride = pair(op, "stride", stride_in, 1),
             padding = pair(op, "padding", padding_in, 0),
             dilation = pair(op, "dilation", dilation_in, 1);
  const Tensor images = batched(op, input);
  VT_CHECK(weight.dim() == 4 && groups > 0 && weight.sizes()[0] % groups == 0 &&
               images.sizes()[1] == weight.sizes()[1] * groups,
           kRuntime, op, ": given groups=", groups, ", weight ", weight, " and input ", input,
           ", expected weight [O, C / groups, kh, kw] with O a multiple of groups");
  VT_CHECK(!bias.defined() || (bias.dim() == 1 && bias.sizes()[0] == weight.sizes()[0]), kRuntime,
           op, ": bias ", bias, " does not match weight ", weight);
  Tensor out = convolution(images, weight, stride, padding, dilation, groups);
  if (bias.defined()) out = add(out, view(bias, Dims{weight.sizes()[0], 1, 1}), 1);
  return input.dim() == 4 ? out : squeeze_dim(out, 0);
}

Tensor conv1d(const Tensor& input, const Tensor& weight, const Tensor& bias,
              const std::optional<Dims>& stride, const std::optional<Dims>& padding,
              const std::optional<Dims>& dilation, int64_t groups) {
  VT_CHECK((input.dim() == 2 || input.dim() == 3) && weight.dim() == 3, kRuntime,
           "conv1d: expected rows [N, C, L] or [C, L] and weight [O, C / groups, k], got ", input,
           " and ", weight);
  return squeeze_dim(
      conv2d(unsqueeze(input, -2), unsqueeze(weight, -2), bias, flat_pair("stride", stride, 1, 1),
             flat_pair("padding", padding, 0, 0), flat_pair("dilation", dilation, 1, 1), groups),
      -2);
}

Tensor max_pool2d(const Tensor& input, const Dims& kernel_size, const std::optional<Dims>& stride,
                  const std::optional<Dims>& padding, const std::optional<Dims>& dilation) {
  VT_CHECK(is_float(input.dtype()), kRuntime, "max_pool2d: expected a floating point tensor, got ",
           input, "; convert with .float() first");
  const Pool pool("max_pool2d", input, kernel_size, stride, padding, dilation,
                  -std::numeric_limits<double>::infinity());
  return view(std::get<0>(max_dim(pool.columns, 0, false)), pool.sizes);
}

Tensor avg_pool2d(const Tensor& input, const Dims& kernel_size, const std::optional<Dims>& stride,
                  const std::optional<Dims>& padding) {
  const Pool pool("avg_pool2d", input, kernel_size, stride, padding, {}, 0.0);
  return view(mean(pool.columns, Dims{0}, false, {}), pool.sizes);
}

}  // namespace vt
