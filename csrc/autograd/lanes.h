// A backward pass on the workers of several devices: each runs the ready nodes of its device, all
// at the same time.
#pragma once
#include <array>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "autograd/graph_task.h"

namespace vt {

class Lanes {
 public:
  explicit Lanes(GraphTask& task);
  // Returns when all nodes have run; throws what the first one threw that failed.
  void run();
  // Guards what waits for this node, and some others.
  std::mutex& guard_of(const NodeState* state);

 private:
  // Ready nodes of one device, newest on top.
  struct Lane {
    Device device;
    std::mutex mutex;
    std::vector<NodeState*> ready;
    bool running = false;
  };

  void push(NodeState* state);
  void drain(Lane& lane);
  void run_node(NodeState& state, std::vector<Tensor>& outputs);
  void fail_with_current_exception();

  GraphTask& task_;
  std::array<std::array<std::unique_ptr<Lane>, kMaxDevices>, kDeviceTypeCount> lanes_;
  std::array<std::mutex, 16> guards_;
  std::mutex mutex_;  // of all below
  std::condition_variable done_;
  int64_t outstanding_ = 0;
  int running_ = 0;
  std::exception_ptr failure_;
  int threads_each_ = 1;
};

}  // namespace vt
