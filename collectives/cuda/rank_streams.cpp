// Streams and events of a communicator's ranks.
#include "collectives/cuda/rank_streams.h"

#include <algorithm>
#include <limits>

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

class RankEvents final : public Completion {
 public:
  RankEvents(const fabric::Mesh& mesh, const std::vector<Stream>& streams) : mesh_(mesh) {
    for (Stream stream : streams) {
      events_.push_back(cuda::create_event(stream.device.index, false));
      cuda::record_event(*events_.back(), stream);
    }
  }
  ~RankEvents() override {
    for (cuda::Event* event : events_) cuda::destroy_event(event);
  }
  bool passed() override {
    for (const cuda::Event* event : events_)
      if (!cuda::query_event(*event)) return false;
    return true;
  }
  void join(int rank) override {
    const Device device = mesh_.device(rank);
    cuda::wait_event(current(device), *events_[rank]);
  }

 private:
  fabric::Mesh mesh_;
  std::vector<cuda::Event*> events_;  // by rank
};

}  // namespace

RankStreams::RankStreams(const fabric::Mesh& mesh) : mesh_(mesh), units_(mesh) {
  for (Device device : mesh.ranks()) {
    streams_.push_back(cuda::create_stream(device.index, std::numeric_limits<int>::min()));
    done_.push_back(cuda::create_event(device.index, false));
  }
  for (Device device : mesh.devices()) {
    replayed_on_.push_back({device, nullptr});
    replayed_.push_back(cuda::create_event(device.index, false));
  }
}

RankStreams::~RankStreams() {
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

void* RankStreams::mark(int rank) const {
  const Device device = mesh_.device(rank);
  run_deferred();
  cuda::Event* event = cuda::create_event(device.index, false);
  cuda::record_event(*event, current(device));
  return event;
}

bool RankStreams::capturing() const { return any_capture() && cuda::capture_id(streams_[0]) != 0; }

void RankStreams::begin(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner) {
  captured_ = is_captured(unit, mesh_);
  if (VT_UNLIKELY(captured_)) {
    units_.begin(unit, streams_);
    for (Stream stream : streams_)
      if (Capture* capture = capture_of(stream)) capture->add_guest(owner);
    return;
  }
  follow_replay();
  for (size_t r = 0; r < streams_.size(); ++r)
    cuda::wait_event(streams_[r], event_of(unit.marks[r]));
}

void RankStreams::begin_together(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner) {
  begin(unit, owner);
  for (Stream stream : streams_)
    for (void* mark : unit.marks) cuda::wait_event(stream, event_of(mark));
}

// Units that are not captured come after the last replay.
void RankStreams::follow_replay() {
  VT_CHECK(!capturing(), kRuntime,
           "communicator: its calls are being captured by another thread; wait until that ends, or "
           "use a communicator of its own");
  if (last_ == Last::kReplay)
    for (Stream stream : streams_)
      for (size_t d = 0; d < replayed_.size(); ++d)
        if (replayed_on_[d].device == stream.device) cuda::wait_event(stream, *replayed_[d]);
  last_ = Last::kUnit;
}

void RankStreams::end() {
  if (VT_UNLIKELY(captured_)) return units_.end(streams_);
  for (size_t r = 0; r < streams_.size(); ++r) cuda::record_event(*done_[r], streams_[r]);
}

void RankStreams::join(int rank) const {
  const Stream stream = current(mesh_.device(rank));
  if (any_capture() && cuda::capture_id(stream) != 0) return units_.join(rank, stream);
  cuda::wait_event(stream, *done_[rank]);
}

std::unique_ptr<Completion> RankStreams::completion() const {
  return std::make_unique<RankEvents>(mesh_, streams_);
}

bool RankStreams::drained() const {
  if (any_capture()) return true;  // the driver may refuse to be asked: synchronize() waits
  if (last_ == Last::kReplay)
    for (const cuda::Event* event : replayed_)
      if (!cuda::query_event(*event)) return false;
  return std::all_of(streams_.begin(), streams_.end(), cuda::query_stream);
}

void RankStreams::synchronize() const {
  if (last_ == Last::kReplay)
    for (const cuda::Event* event : replayed_) cuda::synchronize_event(*event);
  for (Stream stream : streams_) cuda::synchronize_stream(stream);
}

void RankStreams::before_replay() {
  if (last_ == Last::kUnit)
    for (size_t r = 0; r < streams_.size(); ++r)
      cuda::wait_event(current(streams_[r].device), *done_[r]);
  if (last_ == Last::kReplay)
    for (size_t d = 0; d < replayed_.size(); ++d) {
      const Stream stream = current(replayed_on_[d].device);
      if (!(stream == replayed_on_[d])) cuda::wait_event(stream, *replayed_[d]);
    }
}

void RankStreams::after_replay() {
  for (size_t d = 0; d < replayed_.size(); ++d) {
    replayed_on_[d] = current(replayed_on_[d].device);
    cuda::record_event(*replayed_[d], replayed_on_[d]);
  }
  last_ = Last::kReplay;
}

}  // namespace vt::collectives::gpu
