// Copies of a call's arguments: within a device in one launch, from the host ahead of their step.
#include "python/graph_inputs.h"

#include "ops/ops.h"

namespace vt::py {
namespace {

bool is_plain(const Tensor& to, const Tensor& from) {
  return to.dtype() == from.dtype() && to.sizes() == from.sizes() && to.is_dense() &&
         from.is_dense();
}

}  // namespace

void copy_inputs(const std::vector<Tensor>& places, const std::vector<Tensor>& given) {
  VT_CHECK(places.size() == given.size(), kValue, "copy_inputs: got ", given.size(),
           " tensors for ", places.size(), " places");
  constexpr size_t kSmall = size_t{4} << 20;  // above, the driver's copy is as good
  std::vector<Copy> small[kMaxDevices];
  for (size_t i = 0; i < places.size(); ++i) {
    const Tensor &to = places[i], &from = given[i];
    if (to.same(from) || to.numel() == 0) continue;
    if (to.device() == from.device() && is_plain(to, from) && to.device().is_cuda() &&
        to.bytes() <= kSmall) {
      small[to.device().index].push_back({to.data(), from.data(), to.bytes()});
      to.bump_version();
    } else {
      raw::copy_(to, from, true);
    }
  }
  for (int index = 0; index < kMaxDevices; ++index)
    if (!small[index].empty()) cuda_backend().copy_many(index, small[index]);
}

GraphInputs::GraphInputs(std::vector<Tensor> places) : places_(std::move(places)) {}

GraphInputs::~GraphInputs() {
  for (auto& lane : lanes_) {
    if (!lane) continue;
    Backend& own = backend(lane->stream.device);
    for (Turn& turn : lane->turns) {
      try {
        if (turn.used) own.synchronize_event(turn.taken);  // its memory is used until then
      } catch (const Error&) {                             // the context is lost
      }
      if (turn.sent) own.destroy_event(turn.sent);
      if (turn.taken) own.destroy_event(turn.taken);
      turn.arrived.clear();
    }
    own.destroy_stream(lane->stream);
  }
}

GraphInputs::Lane& GraphInputs::lane(Device device) {
  std::unique_ptr<Lane>& lane = lanes_[device.index];
  if (!lane) {
    Backend& own = backend(device);
    lane = std::make_unique<Lane>(Lane{own.create_stream(device.index, 0), {}, 0});
    for (Turn& turn : lane->turns) {
      turn.arrived.resize(places_.size());
      turn.sent = own.create_event(device.index, false);
      turn.taken = own.create_event(device.index, false);
    }
  }
  return *lane;
}

bool GraphInputs::is_sent(const Tensor& place, const Tensor& given) const {
  return given.device().is_cpu() && place.device().is_cuda() && place.numel() > 0 &&
         is_plain(place, given);
}

GraphInputs::Turn& GraphInputs::send(Device device, const std::vector<Tensor>& given,
                                     std::vector<Tensor>& near) {
  Backend& own = backend(device);
  Lane& to = lane(device);
  Turn& turn = to.turns[to.next];
  to.next ^= 1;
  const Stream now = own.current_stream(device.index);
  if (turn.used) own.wait_event(to.stream, turn.taken);
  // A pinned argument may be what a copy from the GPU still writes.
  bool known = true;
  for (size_t i = 0; i < places_.size(); ++i)
    if (places_[i].device() == device && is_sent(places_[i], given[i]))
      known &= own.follow_pinned_uses(given[i].data(), to.stream);
  if (!known) order_streams(now, to.stream);
  own.set_current_stream(to.stream);
  try {
    for (size_t i = 0; i < places_.size(); ++i) {
      if (!(places_[i].device() == device) || !is_sent(places_[i], given[i])) continue;
      if (!turn.arrived[i].defined())
        for (Turn& each : to.turns)
          each.arrived[i] = empty(places_[i].sizes(), places_[i].dtype(), device);
      raw::copy_(turn.arrived[i], given[i], true);
      near[i] = turn.arrived[i];
    }
    own.record_event(turn.sent, to.stream);
  } catch (...) {
    own.set_current_stream(now);
    throw;
  }
  own.set_current_stream(now);
  own.wait_event(now, turn.sent);
  return turn;
}

void GraphInputs::copy(const std::vector<Tensor>& given) {
  VT_CHECK(places_.size() == given.size(), kValue, "GraphInputs.copy: got ", given.size(),
           " tensors for ", places_.size(), " places");
  std::vector<Tensor> near = given;
  Turn* taken[kMaxDevices] = {};
  for (size_t i = 0; i < places_.size(); ++i) {
    const Device device = places_[i].device();
    if (is_sent(places_[i], given[i]) && !taken[device.index])
      taken[device.index] = &send(device, given, near);
  }
  copy_inputs(places_, near);
  for (int index = 0; index < kMaxDevices; ++index) {
    if (!taken[index]) continue;
    Backend& own = cuda_backend();
    own.record_event(taken[index]->taken, own.current_stream(index));
    taken[index]->used = true;
  }
}

}  // namespace vt::py
