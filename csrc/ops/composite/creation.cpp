// New tensors: memory of a device, filled.
#include <cmath>
#include <limits>

#include "device/generator.h"
#include "kernels/table.h"
#include "ops/launch_failed.h"
#include "ops/ops.h"

namespace vt {
namespace {

Device device_or_default(std::optional<Device> device) {
  if (!device) return Device{};
  check_device(*device);
  return *device;
}

DType inferred(Scalar s) {
  return s.is_float() ? DType::kF32 : s.is_bool() ? DType::kBool : DType::kI64;
}

// Has `fill` write a tensor that has elements; of a launch that fails it tells which.
template <class Fill>
Tensor written(const char* op, Tensor out, Fill&& fill) {
  if (out.numel() == 0) return out;
  try {
    fill(kernels(out.device()), out);
  } catch (const LaunchError& error) { launch_failed(error, op, out); }
  return out;
}

Tensor filled(const Dims& sizes, Scalar value, DType dtype, Device device) {
  return written("full", empty(sizes, dtype, device),
                 [&](const auto& table, const Tensor& out) { table.fill(out, value); });
}

}  // namespace

Tensor empty(const Dims& size, std::optional<DType> dtype, std::optional<Device> device) {
  return empty(size, dtype.value_or(DType::kF32), device_or_default(device));
}

Tensor zeros(const Dims& size, std::optional<DType> dtype, std::optional<Device> device) {
  const Device d = device_or_default(device);
  return written(
      "zeros", empty(size, dtype.value_or(DType::kF32), d),
      [&](const auto&, const Tensor& out) { backend(d).zero(d.index, out.data(), out.bytes()); });
}

Tensor ones(const Dims& size, std::optional<DType> dtype, std::optional<Device> device) {
  return filled(size, Scalar(1), dtype.value_or(DType::kF32), device_or_default(device));
}

Tensor full(const Dims& size, Scalar value, std::optional<DType> dtype,
            std::optional<Device> device) {
  return filled(size, value, dtype.value_or(inferred(value)), device_or_default(device));
}

Tensor empty_like(const Tensor& self, std::optional<DType> dtype, std::optional<Device> device) {
  return empty(self.sizes(), dtype.value_or(self.dtype()),
               device ? device_or_default(device) : self.device());
}

Tensor zeros_like(const Tensor& self, std::optional<DType> dtype, std::optional<Device> device) {
  return zeros(self.sizes(), dtype.value_or(self.dtype()), device.value_or(self.device()));
}

Tensor ones_like(const Tensor& self, std::optional<DType> dtype, std::optional<Device> device) {
  return ones(self.sizes(), dtype.value_or(self.dtype()), device.value_or(self.device()));
}

Tensor full_like(const Tensor& self, Scalar value, std::optional<DType> dtype,
                 std::optional<Device> device) {
  return full(self.sizes(), value, dtype.value_or(self.dtype()), device.value_or(self.device()));
}

Tensor arange_range(Scalar start, Scalar end, Scalar step, std::optional<DType> dtype,
                    std::optional<Device> device) {
  const bool any_float = start.is_float() || end.is_float() || step.is_float();
  const double from = start.to<double>(), to = end.to<double>(), by = step.to<double>();
  VT_CHECK(by != 0, kRuntime, "arange: step must be nonzero");
  VT_CHECK(std::isfinite(from) && std::isfinite(to), kRuntime, "arange: unsupported range ", start,
           " -> ", end);
  VT_CHECK(std::abs((to - from) / by) < 0x1p56, kRuntime, "arange: ", start, " to ", end, " by ",
           step, " has too many elements");
  VT_CHECK((by > 0) == (to >= from) || from == to, kRuntime, "arange: upper bound ", end,
           " and lower bound ", start, " are inconsistent with the sign of the step ", step);
  int64_t count;
  if (any_float) {
    count = static_cast<int64_t>(std::ceil((to - from) / by));
  } else {  // in integers: exact beyond 2^53
    const int64_t span = end.to<int64_t>() - start.to<int64_t>(), s = step.to<int64_t>();
    count = (span + s - (s > 0 ? 1 : -1)) / s;
  }
  return written(
      "arange",
      empty(Dims{std::max<int64_t>(count, 0)},
            dtype.value_or(any_float ? DType::kF32 : DType::kI64), device_or_default(device)),
      [&](const auto& table, const Tensor& out) { table.arange(out, start, step); });
}

Tensor arange_end(Scalar end, std::optional<DType> dtype, std::optional<Device> device) {
  return arange_range(Scalar(0), end, Scalar(1), dtype, device);
}

Tensor linspace(Scalar start, Scalar end, int64_t steps, std::optional<DType> dtype,
                std::optional<Device> device) {
  VT_CHECK(steps >= 0, kRuntime, "linspace: number of steps must be non-negative, got ", steps);
  return written("linspace",
                 empty(Dims{steps}, dtype.value_or(DType::kF32), device_or_default(device)),
                 [&](const auto& table, const Tensor& out) {
                   table.linspace(out, start.to<double>(), end.to<double>());
                 });
}

Tensor eye(int64_t n, std::optional<int64_t> m, std::optional<DType> dtype,
           std::optional<Device> device) {
  const int64_t columns = m.value_or(n);
  Tensor out = zeros(Dims{n, columns}, dtype, device);
  const Tensor diagonal = view_of(out, Dims{std::min(n, columns)}, Dims{columns + 1}, 0);
  (void)written("eye", diagonal,
                [](const auto& table, const Tensor& t) { table.fill(t, Scalar(1)); });
  return out;
}

// --- random: each takes the counters it needs from its device's generator ---

namespace {

PhiloxState reserve(const Tensor& out) {
  // Eight-byte types draw from a counter of their own each.
  const int64_t per_counter = out.item_size() == 8 ? 1 : 4;
  return reserve_random(out.device(), (out.numel() + per_counter - 1) / per_counter);
}

void check_random_float(const char* op, const Tensor& t) {
  VT_CHECK(is_float(t.dtype()), kRuntime, op, ": expected a floating point dtype, got ",
           name(t.dtype()));
}

Tensor uniform(Tensor out, double low, double high) {
  check_random_float("rand", out);
  return written("rand", std::move(out), [&](const auto& table, const Tensor& t) {
    table.random_uniform(t, low, high, reserve(t));
  });
}

Tensor normal(Tensor out, double mean, double std) {
  check_random_float("randn", out);
  VT_CHECK(std >= 0, kRuntime, "normal_: expects std >= 0.0, got ", std);
  return written("randn", std::move(out), [&](const auto& table, const Tensor& t) {
    table.random_normal(t, mean, std, reserve(t));
  });
}

// Fills a tensor of any layout through a dense one.
template <class Fill>
Tensor fill_in_place(const Tensor& self, Fill&& fill) {
  if (self.is_dense()) {
    fill(self);
    self.bump_version();
  } else {
    raw::copy_(self, fill(empty_like(self)), false);
  }
  return self;
}

}  // namespace

Tensor rand(const Dims& size, std::optional<DType> dtype, std::optional<Device> device) {
  return uniform(empty(size, dtype, device), 0, 1);
}

Tensor randn(const Dims& size, std::optional<DType> dtype, std::optional<Device> device) {
  return normal(empty(size, dtype, device), 0, 1);
}

Tensor rand_like(const Tensor& self) { return uniform(empty_like(self), 0, 1); }
Tensor randn_like(const Tensor& self) { return normal(empty_like(self), 0, 1); }

Tensor randint_range(int64_t low, int64_t high, const Dims& size, std::optional<DType> dtype,
                     std::optional<Device> device) {
  VT_CHECK(low < high, kRuntime, "randint: expects 'low' < 'high', got ", low, " and ", high);
  const Tensor out = written(
      "randint", empty(size, DType::kI64, device_or_default(device)),
      [&](const auto& table, const Tensor& t) { table.random_int(t, low, high, reserve(t)); });
  return raw::to_dtype(out, dtype.value_or(DType::kI64));
}

Tensor randint_high(int64_t high, const Dims& size, std::optional<DType> dtype,
                    std::optional<Device> device) {
  return randint_range(0, high, size, dtype, device);
}

Tensor randperm(int64_t n, std::optional<DType> dtype, std::optional<Device> device) {
  VT_CHECK(n >= 0, kRuntime, "randperm: expected a non-negative number, got ", n);
  const Tensor keys = rand(Dims{n}, DType::kF64, device);
  return raw::to_dtype(std::get<1>(raw::sort(keys, 0, false)), dtype.value_or(DType::kI64));
}

Tensor uniform_(const Tensor& self, double from, double to) {
  VT_CHECK(from <= to, kRuntime, "uniform_: expects from <= to, got ", from, " and ", to);
  return fill_in_place(self, [&](const Tensor& t) { return uniform(t, from, to); });
}

Tensor normal_(const Tensor& self, double mean, double std) {
  return fill_in_place(self, [&](const Tensor& t) { return normal(t, mean, std); });
}

Tensor random_bernoulli(const Tensor& self, double p) {
  VT_CHECK(p >= 0 && p <= 1, kRuntime, "bernoulli: expects p in [0, 1], got ", p);
  const DType draw = is_float(self.dtype()) ? self.dtype() : DType::kF32;
  return raw::to_dtype(raw::lt(rand(self.sizes(), draw, self.device()), Scalar(p)), self.dtype());
}

Tensor multinomial(const Tensor& self, int64_t num_samples, bool replacement) {
  VT_CHECK(self.dim() == 1 || self.dim() == 2, kRuntime,
           "multinomial: prob_dist must be 1 or 2 dim, got ", self);
  VT_CHECK(is_float(self.dtype()), kRuntime,
           "multinomial: only supports floating-point weights, got ", self);
  VT_CHECK(num_samples > 0, kRuntime, "multinomial: cannot sample n_sample <= 0 samples, got ",
           num_samples);
  const Tensor weights = self.dim() == 1 ? raw::unsqueeze(self, 0) : self;
  const int64_t rows = weights.sizes()[0], n = weights.sizes()[1];
  Tensor picked;
  if (replacement) {
    // Inverse of the cumulative distribution: the number of prefix sums at or below a uniform draw.
    const Tensor prefix = raw::cumsum(raw::to_dtype(weights, DType::kF64), 1);
    const Tensor total = raw::slice(prefix, 1, n - 1, n, 1);
    const Tensor draws = raw::mul(rand(Dims{rows, num_samples}, DType::kF64, self.device()), total);
    const Tensor below = raw::le(raw::unsqueeze(prefix, 1), raw::unsqueeze(draws, 2));
    picked = raw::clamp(raw::sum(below, Dims{2}, false, {}), Scalar(0), Scalar(n - 1));
  } else {
    VT_CHECK(num_samples <= n, kRuntime, "multinomial: cannot sample ", num_samples, " > ", n,
             " categories without replacement");
    // Exponential races (Efraimidis and Spirakis 2006): the smallest of -log(u) / weight come
    // first.
    const Tensor u = rand(Dims{rows, n}, DType::kF64, self.device());
    const Tensor race = raw::true_divide(raw::log(u), raw::to_dtype(weights, DType::kF64));
    picked = raw::clone(raw::slice(std::get<1>(raw::sort(race, 1, true)), 1, 0, num_samples, 1));
  }
  return self.dim() == 1 ? raw::view(picked, Dims{num_samples}) : picked;
}

}  // namespace vt
