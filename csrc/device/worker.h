// One C++ thread a device, which runs what is handed to it in order. Backward passes and trainer
// steps of different devices run on these at the same time; none of them holds the GIL.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/device.h"

namespace vt {

class Worker {
 public:
  explicit Worker(Device device);
  ~Worker();
  void submit(std::function<void()> job);  // the job must not throw
  Device device() const { return device_; }
  bool is_current_thread() const { return std::this_thread::get_id() == thread_.get_id(); }

 private:
  void run();

  Device device_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

// The device's worker, started at its first use.
Worker& worker(Device device);
// Is the calling thread a worker? Such a thread must not wait for a job of a worker.
bool on_worker_thread();

}  // namespace vt
