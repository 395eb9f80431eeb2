// The registry of groups, and their streams.
#include "sharding/group.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "collectives/registry.h"
#include "device/backend.h"

namespace vt::sharding {

Group& Group::of(const fabric::Mesh& mesh) {
  static std::mutex mutex;
  // Never freed: at the end of the process the devices may be gone before their communicators.
  static auto& known = *new std::vector<std::unique_ptr<Group>>;
  std::lock_guard lock(mutex);
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&](const auto& group) { return group->mesh_ == mesh; });
  if (found != known.end()) return **found;
  return *known.emplace_back(std::unique_ptr<Group>(new Group(mesh)));
}

collectives::Communicator& Group::communicator() {
  std::lock_guard lock(mutex_);
  if (!communicator_) communicator_ = collectives::communicator(mesh_);
  return *communicator_;
}

GroupStreams::GroupStreams(const Group& group) {
  if (!group.mesh().is_cuda()) return;
  for (Device device : group.mesh().devices())
    streams_.push_back(backend(device).current_stream(device.index));
}

bool GroupStreams::are_current() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const Stream& stream) {
    return backend(stream.device).current_stream(stream.device.index) == stream;
  });
}

GroupStreams::Use::Use(const GroupStreams& streams) {
  for (Stream stream : streams.streams_) {
    Backend& device = backend(stream.device);
    before_.push_back(device.current_stream(stream.device.index));
    order_streams(before_.back(), stream);
    device.set_current_stream(stream);
  }
}

GroupStreams::Use::~Use() {
  for (Stream stream : before_) {
    Backend& device = backend(stream.device);
    try {
      order_streams(device.current_stream(stream.device.index), stream);
    } catch (const Error&) {  // the context is lost, and with it what was queued
    }
    device.set_current_stream(stream);
  }
}

}  // namespace vt::sharding
