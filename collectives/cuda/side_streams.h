// Streams beside those of the ranks, three a rank, for algorithms that let the copy engines work
// while kernels run, and the events that order them.
#pragma once
#include <vector>

#include "device/cuda/event.h"
#include "device/cuda/stream.h"
#include "fabric/mesh.h"

namespace vt::collectives::gpu {

class SideStreams {
 public:
  static constexpr int kDepth = 2;  // pieces that can be under way
  enum Lane { kBring, kAdd, kGive, kLanes };
  enum Mark {
    kStarted,
    kBrought,
    kReduced = kBrought + kDepth,
    kGiven = kReduced + kDepth,
    kMarks = kGiven + kDepth
  };

  explicit SideStreams(const fabric::Mesh& mesh);
  ~SideStreams();  // waits for what is queued
  SideStreams(const SideStreams&) = delete;
  SideStreams& operator=(const SideStreams&) = delete;

  Stream lane(int rank, Lane lane) const { return lanes_[rank * kLanes + lane]; }
  // Marks are numbers from kStarted to kMarks - 1, of streams of the rank's device; one that is
  // recorded again forgets the last time.
  void record(int rank, int mark, Stream stream) {
    cuda::record_event(*marks_[rank * kMarks + mark], stream);
  }
  void wait(Stream stream, int rank, int mark) const {
    cuda::wait_event(stream, *marks_[rank * kMarks + mark]);
  }
  // `stream` waits for all lanes of the rank.
  void join(int rank, Stream stream);
  // By a copy engine, between any two addresses that the stream's device reaches.
  static void copy(Stream stream, void* to, const void* from, size_t bytes);

 private:
  std::vector<Stream> lanes_;
  std::vector<cuda::Event*> marks_;
};

}  // namespace vt::collectives::gpu
