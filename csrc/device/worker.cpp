// The device workers' loop and registry.
#include "device/worker.h"

#include <pthread.h>

#include <array>
#include <memory>

#include "device/backend.h"

namespace vt {
namespace {

thread_local bool t_on_worker = false;

}  // namespace

bool on_worker_thread() { return t_on_worker; }

Worker::Worker(Device device) : device_(device), thread_([this] { run(); }) {}

Worker::~Worker() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_one();
  thread_.join();
}

void Worker::submit(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  ready_.notify_one();
}

void Worker::run() {
  t_on_worker = true;
  if (device_.is_cuda()) set_current_cuda_index(device_.index);
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

Worker& worker(Device device) {
  // Never destroyed: at interpreter exit a worker may still be inside a job, and joining it there
  // could deadlock.
  using Slots = std::array<std::array<Worker*, kMaxDevices>, kDeviceTypeCount>;
  struct Registry {
    Slots workers{};
    std::mutex mutex;
  };
  static Registry* registry = [] {
    pthread_atfork(nullptr, nullptr,
                   [] { registry = new Registry; });  // a forked child has none of these threads
    return new Registry;
  }();
  std::lock_guard lock(registry->mutex);
  Worker*& slot = registry->workers[static_cast<int>(device.type)][device.index];
  if (!slot) slot = new Worker(device);
  return *slot;
}

}  // namespace vt
