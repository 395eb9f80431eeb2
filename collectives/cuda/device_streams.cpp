// Streams and events of a communicator's devices.
#include "collectives/cuda/device_streams.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "device/cuda/device.h"
#include "device/cuda/graph.h"
#include "device/deferred.h"

namespace vt::collectives::gpu {
namespace {

const cuda::Event& event_of(void* mark) { return *static_cast<cuda::Event*>(mark); }

Stream current(Device device) { return {device, cuda::current_stream(device.index)}; }

// Whether the unit's callers are being captured: all or none, and in one graph.
bool is_captured(const Unit& unit, const fabric::Mesh& mesh) {
  const bool captured = event_of(unit.marks[0]).captured;
  for (int r = 1; r < unit.ranks(); ++r)
    VT_CHECK(event_of(unit.marks[r]).captured == captured, kRuntime, name(unit.call().kind),
             ": cannot be captured: the stream of ", mesh.device(captured ? r : 0),
             " takes no part in the capture that that of ", mesh.device(captured ? 0 : r),
             " is in; name all devices of the mesh, as torch.cuda.graph(g, devices=...)");
  return captured;
}

class DeviceEvents final : public Completion {
 public:
  DeviceEvents(const fabric::Mesh& mesh, const std::vector<Stream>& streams) : mesh_(mesh) {
    for (Stream stream : streams) {
      events_.push_back(cuda::create_event(stream.device.index, false));
      cuda::record_event(*events_.back(), stream);
    }
  }
  ~DeviceEvents() override {
    for (cuda::Event* event : events_) cuda::destroy_event(event);
  }
  bool passed() override {
    return std::all_of(events_.begin(), events_.end(),
                       [](const cuda::Event* event) { return cuda::query_event(*event); });
  }
  void join(int rank) override {
    cuda::wait_event(current(mesh_.device(rank)), *events_[mesh_.device_number(rank)]);
  }

 private:
  fabric::Mesh mesh_;
  std::vector<cuda::Event*> events_;  // by device
};

}  // namespace

DeviceStreams::DeviceStreams(const fabric::Mesh& mesh) : mesh_(mesh), units_(mesh) {
  for (Device device : mesh.devices()) {
    streams_.push_back(cuda::create_stream(device.index, std::numeric_limits<int>::min()));
    done_.push_back(cuda::create_event(device.index, false));
    replayed_on_.push_back({device, nullptr});
    replayed_.push_back(cuda::create_event(device.index, false));
  }
}

DeviceStreams::~DeviceStreams() {
  try {
    if (last_ == Last::kReplay)
      for (const cuda::Event* event : replayed_) cuda::synchronize_event(*event);
  } catch (const Error&) {  // the context is lost
  }
  for (Stream stream : streams_) {
    cuda::DeviceGuard guard(stream.device.index);
    (void)cudaStreamSynchronize(cuda::handle_of(stream));
    cuda::destroy_stream(stream);
  }
  for (cuda::Event* event : done_) cuda::destroy_event(event);
  for (cuda::Event* event : replayed_) cuda::destroy_event(event);
}

void* DeviceStreams::mark(int rank) const {
  const Device device = mesh_.device(rank);
  run_deferred();
  cuda::Event* event = cuda::create_event(device.index, false);
  cuda::record_event(*event, current(device));
  return event;
}

bool DeviceStreams::capturing() const {
  return any_capture() && cuda::capture_id(streams_[0]) != 0;
}

bool DeviceStreams::one_capture() const {
  if (VT_LIKELY(!any_capture())) return true;
  const uint64_t first = cuda::capture_id(streams_[0]);
  return std::all_of(streams_.begin(), streams_.end(),
                     [first](Stream stream) { return cuda::capture_id(stream) == first; });
}

void DeviceStreams::begin(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner) {
  const bool before = std::exchange(captured_, is_captured(unit, mesh_));
  if (VT_UNLIKELY(captured_)) {
    adjacent_ = units_.begin(unit, streams_);
    for (Stream stream : streams_)
      if (Capture* capture = capture_of(stream)) capture->add_guest(owner);
    return;
  }
  adjacent_ = !before && last_ == Last::kUnit;
  follow_replay();
  for (int r = 0; r < unit.ranks(); ++r) {
    void* const mark = unit.marks[r];
    // One that stands for several ranks is waited for once.
    if (std::find(unit.marks.begin(), unit.marks.begin() + r, mark) == unit.marks.begin() + r)
      cuda::wait_event(at(r), event_of(mark));
  }
}

void DeviceStreams::begin_together(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner) {
  begin(unit, owner);
  for (Stream stream : streams_)
    for (void* mark : unit.marks) cuda::wait_event(stream, event_of(mark));
}

// Units that are not captured come after the last replay.
void DeviceStreams::follow_replay() {
  VT_CHECK(!capturing(), kRuntime,
           "communicator: its calls are being captured by another thread; wait until that ends, or "
           "use a communicator of its own");
  if (last_ == Last::kReplay)
    for (size_t d = 0; d < streams_.size(); ++d) cuda::wait_event(streams_[d], *replayed_[d]);
  last_ = Last::kUnit;
}

void DeviceStreams::end() {
  if (VT_UNLIKELY(captured_)) return units_.end(streams_);
  for (size_t d = 0; d < streams_.size(); ++d) cuda::record_event(*done_[d], streams_[d]);
}

void DeviceStreams::join(int rank) const {
  const int number = mesh_.device_number(rank);
  const Stream stream = current(mesh_.device(rank));
  if (any_capture() && cuda::capture_id(stream) != 0) return units_.join(number, stream);
  cuda::wait_event(stream, *done_[number]);
}

std::unique_ptr<Completion> DeviceStreams::completion() const {
  return std::make_unique<DeviceEvents>(mesh_, streams_);
}

bool DeviceStreams::drained() const {
  if (any_capture()) return true;  // the driver may refuse to be asked: synchronize() waits
  if (last_ == Last::kReplay)
    for (const cuda::Event* event : replayed_)
      if (!cuda::query_event(*event)) return false;
  return std::all_of(streams_.begin(), streams_.end(), cuda::query_stream);
}

void DeviceStreams::synchronize() const {
  if (last_ == Last::kReplay)
    for (const cuda::Event* event : replayed_) cuda::synchronize_event(*event);
  for (Stream stream : streams_) cuda::synchronize_stream(stream);
}

void DeviceStreams::before_replay() {
  if (last_ == Last::kNothing) return;
  for (size_t d = 0; d < streams_.size(); ++d) {
    const Stream stream = current(streams_[d].device);
    if (last_ == Last::kUnit) cuda::wait_event(stream, *done_[d]);
    else if (!(stream == replayed_on_[d])) cuda::wait_event(stream, *replayed_[d]);
  }
}

void DeviceStreams::after_replay() {
  for (size_t d = 0; d < streams_.size(); ++d) {
    replayed_on_[d] = current(streams_[d].device);
    cuda::record_event(*replayed_[d], replayed_on_[d]);
  }
  last_ = Last::kReplay;
}

}  // namespace vt::collectives::gpu
