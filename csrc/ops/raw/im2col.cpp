// The windows that a kernel sees of images, as columns of a matrix, and the way back.
#include "ops/raw/dense.h"

namespace vt::raw {
namespace {

struct Windows {
  int64_t n, c, h, w, kh, kw, out_h, out_w, padded_h, padded_w;

  Windows(const Dims& size, const Dims& kernel, const Dims& stride, const Dims& padding,
          const Dims& dilation) {
    VT_CHECK(size.size() == 4 && kernel.size() == 2 && stride.size() == 2 && padding.size() == 2 &&
                 dilation.size() == 2,
             kRuntime, "im2col: expected images [N, C, H, W] and pairs, got ", size, ", kernel ",
             kernel, ", stride ", stride, ", padding ", padding, " and dilation ", dilation);
    for (int i = 0; i < 2; ++i)
      VT_CHECK(kernel[i] > 0 && stride[i] > 0 && dilation[i] > 0 && padding[i] >= 0, kRuntime,
               "im2col: kernel ", kernel, ", stride ", stride, " and dilation ", dilation,
               " must be positive and padding ", padding, " not negative");
    n = size[0];
    c = size[1];
    h = size[2];
    w = size[3];
    kh = kernel[0];
    kw = kernel[1];
    padded_h = h + 2 * padding[0];
    padded_w = w + 2 * padding[1];
    const int64_t reach_h = dilation[0] * (kh - 1) + 1, reach_w = dilation[1] * (kw - 1) + 1;
    VT_CHECK(padded_h >= reach_h && padded_w >= reach_w, kRuntime,
             "im2col: the kernel reaches over ", reach_h, 'x', reach_w,
             " elements, but the padded images are ", padded_h, 'x', padded_w);
    out_h = (padded_h - reach_h) / stride[0] + 1;
    out_w = (padded_w - reach_w) / stride[1] + 1;
  }
  Dims columns() const { return {c * kh * kw, n * out_h * out_w}; }
};

Tensor inner(const Tensor& padded, const Windows& s, const Dims& padding) {
  return view_of(
      padded, Dims{s.n, s.c, s.h, s.w}, padded.strides(),
      padded.offset() + padding[0] * padded.strides()[2] + padding[1] * padded.strides()[3]);
}

}  // namespace

Tensor im2col(const Tensor& input, const Dims& kernel, const Dims& stride, const Dims& padding,
              const Dims& dilation, double fill) {
  const Windows s(input.sizes(), kernel, stride, padding, dilation);
  Tensor padded = input;
  if (padding[0] > 0 || padding[1] > 0) {
    padded = empty(Dims{s.n, s.c, s.padded_h, s.padded_w}, input.dtype(), input.device());
    raw::fill_(padded, Scalar(fill));
    if (input.numel() > 0) raw::copy_(inner(padded, s, padding), input, false);
  }
  Tensor columns = empty(s.columns(), input.dtype(), input.device());
  if (columns.numel() == 0) return columns;
  const Dims& step = padded.strides();
  const Dims sizes{s.c, s.kh, s.kw, s.n, s.out_h, s.out_w};
  const Tensor windows = view_of(padded, sizes,
                                 Dims{step[1], dilation[0] * step[2], dilation[1] * step[3],
                                      step[0], stride[0] * step[2], stride[1] * step[3]},
                                 padded.offset());
  kernels(input.device()).copy(raw::view(columns, sizes), windows);
  return columns;
}

Tensor col2im(const Tensor& columns, const Dims& size, const Dims& kernel, const Dims& stride,
              const Dims& padding, const Dims& dilation) {
  const Windows s(size, kernel, stride, padding, dilation);
  VT_CHECK(columns.sizes() == s.columns(), kRuntime, "col2im: expected columns of sizes ",
           s.columns(), ", got ", columns);
  const Tensor padded =
      empty(Dims{s.n, s.c, s.padded_h, s.padded_w}, columns.dtype(), columns.device());
  raw::fill_(padded, Scalar(0));
  const Tensor from = raw::view(dense(columns), Dims{s.c, s.kh, s.kw, s.n, s.out_h, s.out_w});
  const Dims &step = padded.strides(), &own = from.strides();
  const Dims sizes{s.c, s.n, s.out_h, s.out_w};
  // One place of the kernel after the other: a fixed order, and no two elements meet in one step.
  for (int64_t i = 0; i < s.kh && columns.numel() > 0; ++i)
    for (int64_t j = 0; j < s.kw; ++j) {
      const Tensor to =
          view_of(padded, sizes, Dims{step[1], step[0], stride[0] * step[2], stride[1] * step[3]},
                  padded.offset() + i * dilation[0] * step[2] + j * dilation[1] * step[3]);
      raw::add_(to,
                view_of(from, sizes, Dims{own[0], own[3], own[4], own[5]},
                        from.offset() + i * own[1] + j * own[2]),
                Scalar(1));
    }
  return dense(inner(padded, s, padding));
}

}  // namespace vt::raw
