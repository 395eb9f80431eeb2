// Counting gradients down to buckets, and backward passes of all replicas at once.
#include "collectives/reducer.h"

#include <algorithm>
#include <exception>
#include <semaphore>

#include "autograd/engine.h"
#include "autograd/variable.h"
#include "base/env.h"
#include "base/error.h"
#include "device/backend.h"
#include "device/capture.h"
#include "device/cpu/parallel.h"
#include "device/deferred.h"
#include "ops/ops.h"

namespace vt::collectives {
namespace {

Ref<AccumulateGrad> accumulator_of(int rank, int number, const Tensor& param) {
  VT_CHECK(param.requires_grad() && is_leaf(param), kRuntime, "reducer: parameter ", number,
           " of rank ", rank, " is ", param, ", not a leaf that requires a gradient");
  return variable(param)->accumulator;
}

std::vector<ArenaLayout> layouts(const std::vector<GradientArena>& arenas) {
  std::vector<ArenaLayout> result;
  for (const GradientArena& arena : arenas)
    result.push_back({arena.grad.item_size(), arena.grad.numel(), arena.offsets, arena.numbers});
  return result;
}

}  // namespace

GradientReducer::GradientReducer(const fabric::Mesh& mesh,
                                 std::vector<std::vector<GradientArena>> arenas, BucketSizes sizes,
                                 int max_blocks)
    : comm_(mesh, {.timeout_seconds = env::fabric_timeout_seconds(), .max_blocks = max_blocks}) {
  VT_CHECK(arenas.size() == static_cast<size_t>(mesh.size()), kValue, "reducer: the mesh ", mesh,
           " has ", mesh.size(), " ranks, got arenas of ", arenas.size());
  check_alike(arenas);
  buckets_ = plan_buckets(layouts(arenas[0]), sizes);
  size_t count = 0;
  for (const GradientArena& arena : arenas[0]) count += arena.params.size();
  bucket_of_.resize(count);
  for (size_t b = 0; b < buckets_.size(); ++b)
    for (int number : buckets_[b].parameters) bucket_of_.at(number) = static_cast<int>(b);
  accumulators_.resize(arenas.size());
  for (int rank = 0; rank < mesh.size(); ++rank) {
    accumulators_[rank].resize(count);
    auto& flats = flats_.emplace_back();
    for (const GradientArena& arena : arenas[rank]) {
      flats.push_back(arena.grad);
      for (size_t i = 0; i < arena.params.size(); ++i)
        accumulators_[rank][arena.numbers[i]] =
            accumulator_of(rank, arena.numbers[i], arena.params[i]);
    }
    auto& slices = slices_.emplace_back();
    for (const Bucket& bucket : buckets_) slices.push_back(slice(rank, bucket));
    progress_.push_back(std::make_unique<Progress>());
  }
  for (Device device : mesh.devices()) workers_.push_back(std::make_unique<Worker>(device));
  for (int rank = 0; rank < mesh.size(); ++rank)
    for (size_t i = 0; i < count; ++i)
      accumulators_[rank][i]->set_post_hook(
          [this, rank, i] { parameter_ready(rank, static_cast<int>(i)); });
}

GradientReducer::~GradientReducer() {
  for (auto& of_rank : accumulators_)
    for (auto& accumulator : of_rank) accumulator->set_post_hook(nullptr);
}

void GradientReducer::check_alike(const std::vector<std::vector<GradientArena>>& arenas) const {
  for (size_t rank = 0; rank < arenas.size(); ++rank) {
    VT_CHECK(arenas[rank].size() == arenas[0].size(), kRuntime, "reducer: rank 0 has ",
             arenas[0].size(), " arenas, rank ", rank, " has ", arenas[rank].size());
    for (size_t a = 0; a < arenas[rank].size(); ++a) {
      const GradientArena &mine = arenas[rank][a], &first = arenas[0][a];
      VT_CHECK(mine.params.size() == first.params.size() && mine.offsets == first.offsets &&
                   mine.numbers == first.numbers && mine.grad.sizes() == first.grad.sizes() &&
                   mine.grad.dtype() == first.grad.dtype(),
               kRuntime, "reducer: arena ", a, " is ", first.grad, " of ", first.params.size(),
               " parameters on rank 0 and ", mine.grad, " of ", mine.params.size(), " on rank ",
               rank, "; replicas must be copies of one model");
      VT_CHECK(
          mine.numbers.size() == mine.params.size() && mine.offsets.size() == mine.params.size(),
          kValue, "reducer: arena ", a, " has ", mine.params.size(), " parameters, ",
          mine.offsets.size(), " offsets and ", mine.numbers.size(), " numbers");
      for (size_t i = 0; i < mine.params.size(); ++i)
        VT_CHECK(mine.params[i].sizes() == first.params[i].sizes(), kRuntime, "reducer: parameter ",
                 mine.numbers[i], " is ", first.params[i], " on rank 0 and ", mine.params[i],
                 " on rank ", rank, "; replicas must be copies of one model");
    }
  }
}

Tensor GradientReducer::slice(int rank, const Bucket& bucket) const {
  return view_of(flats_[rank][bucket.arena], Dims{bucket.end - bucket.begin}, Dims{1},
                 flats_[rank][bucket.arena].offset() + bucket.begin);
}

void GradientReducer::backward(std::span<const Tensor> losses, std::span<const double> weights,
                               bool reduce) {
  const size_t ranks = mesh().size();
  VT_CHECK(losses.size() == ranks && weights.size() == ranks, kValue, "backward: the mesh ", mesh(),
           " has ", ranks, " ranks, got ", losses.size(), " losses and ", weights.size(),
           " weights");
  std::vector<Tensor> seeds;
  for (size_t r = 0; r < ranks; ++r) {
    VT_CHECK(losses[r].device() == mesh().device(static_cast<int>(r)), kRuntime,
             "backward: the loss of rank ", r, " is ", losses[r], ", expected it on ",
             mesh().device(static_cast<int>(r)));
    VT_CHECK(losses[r].numel() == 1, kRuntime, "backward: the loss of rank ", r, " is ", losses[r],
             ", expected one element");
    seeds.push_back(full_like(losses[r], Scalar(weights[r]), {}, {}));
  }
  reducing_ = reduce;
  start_pass();
  try {
    run_backward(losses, seeds);
    if (reduce) finish_pass();
  } catch (...) {
    reducing_ = false;
    try {
      comm_.reset();          // drops what only some ranks have arrived at
    } catch (const Error&) {  // the next call throws it again; what came first is to be heard now
    }
    throw;
  }
  reducing_ = false;
}

void GradientReducer::clear() {
  for (auto& of_rank : accumulators_)
    for (auto& accumulator : of_rank) accumulator->set_grad(Tensor());
}

void GradientReducer::start_pass() {
  for (auto& progress : progress_) {
    progress->missing.clear();
    for (const Bucket& bucket : buckets_)
      progress->missing.push_back(static_cast<int>(bucket.parameters.size()));
    progress->arrived.assign(bucket_of_.size(), false);
    progress->next = 0;
  }
}

// One job a device, which runs the ranks of that device in turn. While these are captured, one
// after the other and on this thread: the graph that the driver builds is not for several threads
// at once, and a recording (fuse/) puts off what its own thread does.
void GradientReducer::run_backward(std::span<const Tensor> losses, std::span<const Tensor> seeds) {
  const auto& devices = mesh().devices();
  std::vector<std::exception_ptr> failures(mesh().size());
  const int threads = std::max(1, num_threads() / static_cast<int>(devices.size()));
  const auto run = [&](Device device) {
    ThreadLimit limit(threads);
    for (int rank = 0; rank < mesh().size(); ++rank) {
      if (mesh().device(rank) != device) continue;
      try {
        vt::backward(losses.subspan(rank, 1), seeds.subspan(rank, 1), {});
      } catch (...) { failures[rank] = std::current_exception(); }
    }
  };
  if (active_capture(devices[0])) {
    for (Device device : devices) run(device);
  } else {
    std::counting_semaphore<kMaxDevices> done(0);
    for (size_t d = 0; d < devices.size(); ++d) {
      const Device device = devices[d];
      run_deferred();
      const Stream stream = backend(device).current_stream(device.index);
      workers_[d]->submit([&, device, stream] {
        try {
          if (device.is_cuda()) backend(device).set_current_stream(stream);
          run(device);
        } catch (...) {
          for (int rank = 0; rank < mesh().size(); ++rank)
            if (mesh().device(rank) == device) failures[rank] = std::current_exception();
        }
        done.release();
      });
    }
    for (size_t d = 0; d < devices.size(); ++d) done.acquire();
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

// On the thread that accumulated the gradient.
void GradientReducer::parameter_ready(int rank, int number) {
  if (!reducing_) return;
  Progress& progress = *progress_[rank];
  std::lock_guard lock(progress.mutex);
  VT_CHECK(!progress.arrived[number], kRuntime, "backward: parameter ", number, " of rank ", rank,
           " got a second gradient in one pass, when it may be reduced already; run that part with "
           "reduce=False first");
  progress.arrived[number] = true;
  --progress.missing[bucket_of_[number]];
  launch_ready(rank);
}

// All ranks arrive at their buckets in one order, so a bucket waits for those before it.
void GradientReducer::launch_ready(int rank) {
  Progress& progress = *progress_[rank];
  while (progress.next < buckets_.size() && progress.missing[progress.next] == 0) {
    const size_t bucket = progress.next++;
    arrive(rank, bucket, bucket + 1 == buckets_.size());
  }
}

// alone: has backward ended, so that nothing runs beside the reduction?
void GradientReducer::arrive(int rank, size_t bucket, bool alone) {
  const Tensor& part = slices_[rank][bucket];
  Call call{Kind::kAllReduce, ReduceOp::kSum, 0, part, part};
  call.alone = alone;
  comm_.arrive(rank, std::move(call));
}

// The buckets that unused parameters have held back.
void GradientReducer::finish_pass() {
  const int ranks = mesh().size();
  const size_t count = bucket_of_.size();
  early_buckets_ = buckets_.size();
  for (const auto& progress : progress_) early_buckets_ = std::min(early_buckets_, progress->next);
  std::vector<bool> used(count, false);
  for (size_t i = 0; i < count; ++i)
    for (int rank = 0; rank < ranks; ++rank)
      if (accumulators_[rank][i]->grad().defined()) used[i] = true;
  for (int rank = 0; rank < ranks; ++rank) {
    Progress& progress = *progress_[rank];
    for (; progress.next < buckets_.size(); ++progress.next) {
      bool any = false;
      for (int number : buckets_[progress.next].parameters) {
        AccumulateGrad& accumulator = *accumulators_[rank][number];
        any |= used[number];
        if (accumulator.grad().defined()) continue;
        const Tensor place = accumulator.bound();
        zero_(place);
        if (used[number]) accumulator.set_grad(place);
      }
      if (!any) continue;  // no replica used any of it: nothing to send
      arrive(rank, progress.next, true);
    }
  }
  for (int rank = 0; rank < ranks; ++rank) comm_.wait(rank);
}

}  // namespace vt::collectives
