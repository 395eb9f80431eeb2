// Optimizer updates over flat arrays, and the sum of squares that gradient clipping needs. Each
// array is read and written once; the gradient's scale is read on the device, so that clipping
// needs no wait.
#include "kernels/cuda/rows.h"
#include "kernels/loss_scale.h"
#include "kernels/optim_constants.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

template <class C>
struct AdamWStep : AdamWConstants<C> {
  using Constants = AdamWConstants<C>;
  using Constants::Constants;

  __device__ C operator()(C value, C gradient, C& m, C& v) const {
    value *= this->decay;
    m += (gradient - m) * this->rest1;
    v = v * this->beta2 + gradient * gradient * this->rest2;
    return value - this->step_size * m / (sqrt(v) / this->root_correction2 + this->eps);
  }
};

template <class C>
struct SgdStep : SgdConstants<C> {
  using Constants = SgdConstants<C>;
  using Constants::Constants;

  __device__ C operator()(C value, C gradient, C& buffer, C&) const {
    C step = gradient + this->decay * value;
    if (this->momentum != 0) {
      buffer = this->first ? step : this->momentum * buffer + this->rest * step;
      step = this->nesterov ? step + this->momentum * buffer : buffer;
    }
    return value - this->lr * step;
  }
};

// One element of each array a call of `step`; state arrays may be null. V elements a thread, n is a
// multiple of V.
template <class T, int V, class Step>
__global__ void __launch_bounds__(kThreads)
    update_kernel(T* param, const T* grad, compute_t<T>* state1, compute_t<T>* state2,
                  compute_t<T>* master, const float* grad_scale, int64_t n, Step eager,
                  const Step* live, const float* found_inf) {
  await_earlier();
  if (found_inf && *found_inf != 0) return;
  using C = compute_t<T>;
  const int64_t begin = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (begin >= n) return;
  const Step step = live ? *live : eager;
  const C scale = grad_scale ? static_cast<C>(*grad_scale) : C(1);
  Pack<T, V> p{};
  if (!master) p = *reinterpret_cast<Pack<T, V>*>(param + begin);  // else only written
  const auto g = *reinterpret_cast<const Pack<T, V>*>(grad + begin);
  Pack<C, V> a{}, b{}, full{};
  if (state1) a = *reinterpret_cast<Pack<C, V>*>(state1 + begin);
  if (state2) b = *reinterpret_cast<Pack<C, V>*>(state2 + begin);
  if (master) full = *reinterpret_cast<Pack<C, V>*>(master + begin);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const C value =
        step(master ? full.v[j] : convert<C>(p.v[j]), convert<C>(g.v[j]) * scale, a.v[j], b.v[j]);
    full.v[j] = value;
    p.v[j] = convert<T>(value);
  }
  *reinterpret_cast<Pack<T, V>*>(param + begin) = p;
  if (state1) *reinterpret_cast<Pack<C, V>*>(state1 + begin) = a;
  if (state2) *reinterpret_cast<Pack<C, V>*>(state2 + begin) = b;
  if (master) *reinterpret_cast<Pack<C, V>*>(master + begin) = full;
}

// The constants of an update with a guard, whose number only the device knows, and what counts the
// updates that do not happen.
template <class Step, class Options>
__global__ void __launch_bounds__(kThreads)
    guarded_constants_kernel(Step* out, Options eager, const Options* live, UpdateGuard guard) {
  await_earlier();
  if (threadIdx.x == 0) {
    Options options = live ? *live : eager;
    options.step -= *guard.skipped;
    Step step;
    step.set(options);
    *out = step;
  }
  if (*guard.found == 0) return;  // all threads or none
  __syncthreads();
  for (int64_t i = threadIdx.x; i < guard.count; i += kThreads) ++guard.skipped[i];
}

__global__ void loss_scale_kernel(float* out, float* state, const float* norm,
                                  LossScaleConfig config) {
  await_earlier();
  float results[3], now[2] = {state[0], state[1]};
  step_loss_scale(results, now, *norm, config);
  for (int i = 0; i < 3; ++i) out[i] = results[i];
  for (int i = 0; i < 2; ++i) state[i] = now[i];
}

template <template <class> class Step, class Config>
void update(const char* op, const Tensor& param, const Tensor& grad, const Tensor& state1,
            const Tensor& state2, const Tensor& master, const Tensor& grad_scale,
            const Config& config) {
  const int64_t n = param.numel();
  const Queue queue(op, param.device());
  bool aligned = true;
  for (const Tensor* t : {&param, &grad, &state1, &state2, &master})
    aligned &= !t->defined() || is_aligned(t->data(), 16);
  visit_float(op, param.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    using Options = typename Step<C>::Constants::Options;
    const bool guarded = config.guard.found != nullptr;
    const Step<C> step = guarded ? Step<C>() : Step<C>(config);
    const Scratch<Step<C>> made(queue, guarded ? 1 : 0);
    const auto* live = static_cast<const Step<C>*>(config.live);
    if (guarded) {
      queue.launch_early(&guarded_constants_kernel<Step<C>, Options>, 1, kThreads, made.get(),
                         static_cast<const Options&>(config),
                         static_cast<const Options*>(config.live), config.guard);
      live = made.get();
    }
    auto run = [&]<int V>(std::integral_constant<int, V>, int64_t begin, int64_t end) {
      auto from = [&]<class E>(const Tensor& t, TypeTag<E>) {
        return t.defined() ? t.data<E>() + begin : nullptr;
      };
      constexpr TypeTag<T> kValue;
      constexpr TypeTag<C> kState;
      queue.launch_early(
          &update_kernel<T, V, Step<C>>, ceil_div(end - begin, int64_t{kThreads} * V), kThreads,
          from(param, kValue), from(grad, kValue), from(state1, kState), from(state2, kState),
          from(master, kState), data_or_null<float>(grad_scale), end - begin, step, live,
          config.guard.found);
    };
    constexpr int V = 16 / sizeof(C);
    const int64_t whole = aligned ? n / V * V : 0;
    run(std::integral_constant<int, V>{}, 0, whole);
    run(std::integral_constant<int, 1>{}, whole, n);
  });
}

constexpr int64_t kSquaresChunk = 16384;  // elements a block: the sum depends on the length only

template <class T>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(double* partial, const T* x, int64_t n, bool aligned) {
  await_earlier();
  using C = compute_t<T>;
  constexpr int V = 16 / sizeof(T);
  const int64_t begin = blockIdx.x * kSquaresChunk,
                end = begin + kSquaresChunk < n ? begin + kSquaresChunk : n;
  C sum = 0;
  for (int64_t i = begin + threadIdx.x * V; i < end; i += kThreads * V) {
    Pack<T, V> pack;
    if (aligned && i + V <= end) {
      pack = *reinterpret_cast<const Pack<T, V>*>(x + i);
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j) pack.v[j] = i + j < end ? x[i + j] : convert<T>(0.0f);
    }
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const C value = convert<C>(pack.v[j]);
      sum += value * value;
    }
  }
  const double total = block_sum<kThreads>(static_cast<double>(sum));
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    squares_finish_kernel(C* out, const double* partial, int64_t count) {
  await_earlier();
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += partial[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) *out = static_cast<C>(sum);
}

}  // namespace

void adamw(const Tensor& param, const Tensor& grad, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& master, const Tensor& grad_scale, const AdamWConfig& config) {
  update<AdamWStep>("adamw_", param, grad, exp_avg, exp_avg_sq, master, grad_scale, config);
}

void sgd(const Tensor& param, const Tensor& grad, const Tensor& momentum, const Tensor& master,
         const Tensor& grad_scale, const SgdConfig& config) {
  const Tensor none;
  update<SgdStep>("sgd_", param, grad, config.momentum != 0 ? momentum : none, none, master,
                  grad_scale, config);
}

void loss_scale(const Tensor& out, const Tensor& state, const Tensor& norm,
                const LossScaleConfig& config) {
  const Queue queue("loss_scale_", state.device());
  queue.launch_early(&loss_scale_kernel, 1, 1, out.data<float>(), state.data<float>(),
                     norm.data<float>(), config);
}

void sum_of_squares(const Tensor& out, const Tensor& x) {
  const Queue queue("sum_of_squares", x.device());
  const int64_t chunks = ceil_div(x.numel(), kSquaresChunk);
  const Scratch<double> partial(queue, chunks);
  visit_float("sum_of_squares", x.dtype(), [&]<class T>(TypeTag<T>) {
    queue.launch_early(&squares_kernel<T>, chunks, kThreads, partial.get(), x.data<T>(), x.numel(),
                       is_aligned(x.data(), 16));
    queue.launch_early(&squares_finish_kernel<compute_t<T>>, 1, kThreads, out.data<compute_t<T>>(),
                       partial.get(), chunks);
  });
}

}  // namespace vt::cuda
