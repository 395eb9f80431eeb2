// Streams and events of a communicator's devices.
#include "collectives/cuda/device_streams.h"

#include <algorithm>
#include <array>
#include <limits>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "device/cuda/device.h"
#include "device/cuda/graph.h"
#include "device/cuda/unit_lock.h"
#include "device/deferred.h"

namespace vt::collectives::gpu {
namespace {

const cuda::Event& event_of(void* mark) { return *static_cast<cuda::Event*>(mark); }

Stream current(Device device) { return {device, cuda::current_stream(device.index)}; }

// Who had the last turn on a GPU, by communicator. Note [Communicators take turns]
struct Turn {
  const DeviceStreams* owner;
  size_t number;     // of the GPU, there
  uint64_t capture;  // that the unit is part of, 0 for none
};
class Turns {
 public:
  std::mutex mutex;

  // Of those in the same capture, or in none; or null.
  const Turn* last(int device, uint64_t capture) const {
    const auto& turns = turns_[device];
    const auto found = std::find_if(turns.rbegin(), turns.rend(),
                                    [&](const Turn& turn) { return turn.capture == capture; });
    return found == turns.rend() ? nullptr : &*found;
  }
  void add(int device, const Turn& turn) {
    auto& turns = turns_[device];
    const auto replaces = [&](const Turn& old) {
      return old.owner == turn.owner && (old.capture == 0) == (turn.capture == 0);
    };
    if (!turns.empty() && replaces(turns.back())) turns.pop_back();
    else std::erase_if(turns, replaces);
    turns.push_back(turn);
  }
  void drop(const DeviceStreams* owner) {
    for (auto& turns : turns_)
      std::erase_if(turns, [owner](const Turn& turn) { return turn.owner == owner; });
  }

 private:
  std::array<std::vector<Turn>, kMaxDevices> turns_;
};
Turns& turns() {
  static auto* const all = new Turns;  // communicators may outlive what is static
  return *all;
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
    own_.push_back(cuda::create_stream(device.index, std::numeric_limits<int>::min()));
    done_.push_back(cuda::create_event(device.index, false));
  }
  unrecorded_.assign(own_.size(), false);
  streams_ = ended_on_ = own_;
}

DeviceStreams::~DeviceStreams() {
  try {
    synchronize();
  } catch (const Error&) {  // the context is lost
  }
  for (Stream stream : own_) {
    cuda::DeviceGuard guard(stream.device.index);
    (void)cudaStreamSynchronize(cuda::handle_of(stream));
    cuda::destroy_stream(stream);
  }
  {
    std::lock_guard lock(turns().mutex);
    turns().drop(this);
  }
  for (cuda::Event* event : done_) cuda::destroy_event(event);
}

void* DeviceStreams::mark(int rank) const {
  const Device device = mesh_.device(rank);
  run_deferred();
  cuda::Event* event = cuda::create_event(device.index, false);
  cuda::record_event(*event, current(device));
  return event;
}

bool DeviceStreams::capturing() const {
  return captured_ && any_capture() && cuda::capture_id(streams_[0]) == capture_;
}

bool DeviceStreams::one_capture() const {
  if (VT_LIKELY(!any_capture())) return true;
  const uint64_t first = cuda::capture_id(streams_[0]);
  return std::all_of(streams_.begin(), streams_.end(),
                     [first](Stream stream) { return cuda::capture_id(stream) == first; });
}

void DeviceStreams::choose_streams(const Unit& unit) {
  for (size_t d = 0; d < streams_.size(); ++d)
    streams_[d] = unit.in_line ? current(own_[d].device) : own_[d];
}

// Whether the unit's callers are being captured: all or none, and in one graph.
bool DeviceStreams::is_captured(const Unit& unit) const {
  const auto captured = [&](int rank) {
    return unit.in_line ? any_capture() && cuda::capture_id(current(mesh_.device(rank))) != 0
                        : event_of(unit.marks[rank]).captured;
  };
  const bool all = captured(0);
  for (int r = 1; r < unit.ranks(); ++r)
    VT_CHECK(captured(r) == all, kRuntime, name(unit.call().kind),
             ": cannot be captured: the stream of ", mesh_.device(all ? r : 0),
             " takes no part in the capture that that of ", mesh_.device(all ? 0 : r),
             " is in; name all devices of the mesh, as torch.cuda.graph(g, devices=...)");
  return all;
}

void DeviceStreams::begin(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner) {
  const bool captures = is_captured(unit);
  VT_CHECK(captures || !capturing(), kRuntime,
           "communicator: its calls are being captured by another thread; wait until that ends, or "
           "use a communicator of its own");
  adjacent_ = captures == captured_ && !replayed_;
  captured_ = captures;
  replayed_ = false;
  choose_streams(unit);
  if (VT_UNLIKELY(captures)) {
    units_.enter(unit, streams_);
    for (size_t d = 0; d < streams_.size(); ++d)
      take_turn(d, streams_[d], cuda::capture_id(streams_[d]));
    adjacent_ &= units_.begin(streams_);
    capture_ = cuda::capture_id(streams_[0]);
    for (Stream stream : streams_)
      if (Capture* capture = capture_of(stream)) capture->add_guest(owner);
    return;
  }
  for (size_t d = 0; d < streams_.size(); ++d) {
    adjacent_ &= streams_[d] == ended_on_[d];
    follow(d, streams_[d]);
    adjacent_ &= !take_turn(d, streams_[d], 0);
  }
  for (int r = 0; r < unit.ranks() && !unit.in_line; ++r) {
    void* const mark = unit.marks[r];
    // One that stands for several ranks is waited for once.
    if (std::find(unit.marks.begin(), unit.marks.begin() + r, mark) == unit.marks.begin() + r)
      cuda::wait_event(at(r), event_of(mark));
  }
}

void DeviceStreams::follow(size_t device, Stream stream) const {
  if (stream == ended_on_[device]) return;
  std::lock_guard lock(turns().mutex);
  wait_for_last(device, stream);
}

// Under the lock of the turns.
void DeviceStreams::wait_for_last(size_t device, Stream stream) const {
  record_at_once_ |= unrecorded_[device] != 0;
  cuda::wait_event(stream, end_of_last(device));
}

// Whether a unit of another communicator is the last one on the GPU, in the capture if there is
// one. The stream follows it then.
bool DeviceStreams::take_turn(size_t device, Stream stream, uint64_t capture) const {
  if (!waits_for_others()) return false;
  std::lock_guard lock(turns().mutex);
  const Turn* const turn = turns().last(own_[device].device.index, capture);
  if (turn == nullptr || turn->owner == this) return false;
  const DeviceStreams& other = *turn->owner;
  if (capture != 0) other.units_.join(static_cast<int>(turn->number), stream);
  else if (!(stream == other.ended_on_[turn->number])) other.wait_for_last(turn->number, stream);
  return true;
}

void DeviceStreams::begin_together(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner) {
  begin(unit, owner);
  for (size_t d = 0; d < streams_.size() && unit.in_line; ++d) {
    cuda::Event* const mark = cuda::create_event(streams_[d].device.index, false);
    cuda::record_event(*mark, streams_[d]);
    for (Stream stream : streams_)
      if (!(stream == streams_[d])) cuda::wait_event(stream, *mark);
    cuda::destroy_event(mark);
  }
  for (Stream stream : streams_)
    for (size_t r = 0; r < unit.marks.size(); ++r)
      cuda::wait_event(stream, event_of(unit.marks[r]));
}

void DeviceStreams::record_end(size_t device, Stream stream) {
  std::lock_guard lock(turns().mutex);
  ended_on_[device] = stream;
  unrecorded_[device] = true;
  if (stream.handle != nullptr || record_at_once_) (void)end_of_last(device);
  if (waits_for_others()) turns().add(stream.device.index, {this, device, 0});
}

// Note [Ends of units]. Under the lock of the turns, for other communicators ask, too.
const cuda::Event& DeviceStreams::end_of_last(size_t device) const {
  if (unrecorded_[device]) cuda::record_event(*done_[device], ended_on_[device]);
  unrecorded_[device] = false;
  return *done_[device];
}

void DeviceStreams::end() {
  if (VT_UNLIKELY(captured_)) {
    units_.end(streams_);
    std::lock_guard lock(turns().mutex);
    for (size_t d = 0; d < streams_.size(); ++d)
      turns().add(streams_[d].device.index, {this, d, cuda::capture_id(streams_[d])});
    return;
  }
  for (size_t d = 0; d < streams_.size(); ++d) record_end(d, streams_[d]);
}

void DeviceStreams::join(int rank) const {
  std::lock_guard lock(cuda::launch_unit_mutex());  // a replay may be recording its end
  const int number = mesh_.device_number(rank);
  const Stream stream = current(mesh_.device(rank));
  if (any_capture() && cuda::capture_id(stream) != 0) units_.join(number, stream);
  else follow(number, stream);
}

std::unique_ptr<Completion> DeviceStreams::completion() const {
  return std::make_unique<DeviceEvents>(mesh_, streams_);
}

bool DeviceStreams::drained() const {
  if (any_capture()) return true;  // the driver may refuse to be asked: synchronize() waits
  std::lock_guard lock(turns().mutex);
  for (size_t d = 0; d < done_.size(); ++d)
    if (!cuda::query_event(end_of_last(d))) return false;
  return true;
}

void DeviceStreams::synchronize() const {
  {
    std::lock_guard lock(turns().mutex);
    for (size_t d = 0; d < done_.size(); ++d) (void)end_of_last(d);
  }
  for (const cuda::Event* event : done_) cuda::synchronize_event(*event);
}

void DeviceStreams::before_replay() {
  for (size_t d = 0; d < own_.size(); ++d) {
    const Stream stream = current(own_[d].device);
    follow(d, stream);
    take_turn(d, stream, 0);
  }
}

void DeviceStreams::after_replay() {
  for (size_t d = 0; d < own_.size(); ++d) record_end(d, current(own_[d].device));
  replayed_ = true;
}

}  // namespace vt::collectives::gpu
