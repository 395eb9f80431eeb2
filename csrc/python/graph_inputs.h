// How the arguments of a call get to where a graph reads them.
#pragma once
#include <memory>
#include <vector>

#include "device/backend.h"
#include "tensor/tensor.h"

namespace vt::py {

// Copies each given tensor to its place; small ones within a device in one launch.
void copy_inputs(const std::vector<Tensor>& places, const std::vector<Tensor>& given);

// Note [Arguments from the host]
// Arguments on the CPU are sent to the GPU by a stream of their own, while it still replays the
// step before, into memory from which they move to their places within the GPU. Two such memories
// take turns: the copy for a step waits, on the GPU, until the step before the last has its own.
class GraphInputs {
 public:
  explicit GraphInputs(std::vector<Tensor> places);
  ~GraphInputs();
  GraphInputs(const GraphInputs&) = delete;
  GraphInputs& operator=(const GraphInputs&) = delete;

  // Without waiting where memory is pinned.
  void copy(const std::vector<Tensor>& given);

 private:
  struct Turn {
    std::vector<Tensor> arrived;  // by place; undefined for those that do not come from the CPU
    void* sent = nullptr;         // events
    void* taken = nullptr;
    bool used = false;
  };
  struct Lane {
    Stream stream;
    Turn turns[2];
    int next = 0;
  };

  Lane& lane(Device device);
  bool is_sent(const Tensor& place, const Tensor& given) const;
  Turn& send(Device device, const std::vector<Tensor>& given, std::vector<Tensor>& near);

  std::vector<Tensor> places_;
  std::unique_ptr<Lane> lanes_[kMaxDevices];
};

}  // namespace vt::py
