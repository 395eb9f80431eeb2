// Streams and events of a communicator's ranks.
#include "collectives/cuda/rank_streams.h"

#include <limits>

#include "device/cuda/device.h"
#include "device/deferred.h"

namespace vt::collectives::gpu {
namespace {

const cuda::Event& event_of(void* mark) { return *static_cast<cuda::Event*>(mark); }

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
    cuda::wait_event({device, cuda::current_stream(device.index)}, *events_[rank]);
  }

 private:
  fabric::Mesh mesh_;
  std::vector<cuda::Event*> events_;  // by rank
};

}  // namespace

RankStreams::RankStreams(const fabric::Mesh& mesh) : mesh_(mesh) {
  for (Device device : mesh.ranks()) {
    streams_.push_back(cuda::create_stream(device.index, std::numeric_limits<int>::min()));
    done_.push_back(cuda::create_event(device.index, false));
  }
}

RankStreams::~RankStreams() {
  for (Stream stream : streams_) {
    cuda::DeviceGuard guard(stream.device.index);
    (void)cudaStreamSynchronize(cuda::handle_of(stream));
    cuda::destroy_stream(stream);
  }
  for (cuda::Event* event : done_) cuda::destroy_event(event);
}

void* RankStreams::mark(int rank) const {
  const Device device = mesh_.device(rank);
  run_deferred();
  cuda::Event* event = cuda::create_event(device.index, false);
  cuda::record_event(*event, {device, cuda::current_stream(device.index)});
  return event;
}

void RankStreams::begin(const Unit& unit) {
  for (size_t r = 0; r < streams_.size(); ++r)
    cuda::wait_event(streams_[r], event_of(unit.marks[r]));
}

void RankStreams::begin_together(const Unit& unit) {
  for (Stream stream : streams_)
    for (void* mark : unit.marks) cuda::wait_event(stream, event_of(mark));
}

void RankStreams::end() {
  for (size_t r = 0; r < streams_.size(); ++r) cuda::record_event(*done_[r], streams_[r]);
}

void RankStreams::join(int rank) const {
  const Device device = mesh_.device(rank);
  cuda::wait_event({device, cuda::current_stream(device.index)}, *done_[rank]);
}

std::unique_ptr<Completion> RankStreams::completion() const {
  return std::make_unique<RankEvents>(mesh_, streams_);
}

void RankStreams::synchronize() const {
  for (Stream stream : streams_) cuda::synchronize_stream(stream);
}

}  // namespace vt::collectives::gpu
