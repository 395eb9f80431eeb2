// The order of copies and kernels in the all-reduce by copy engines.
#include "collectives/cuda/algorithms/copy_engine.h"

#include <algorithm>

#include "collectives/cuda/algorithms/kernels.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"

namespace vt::collectives::gpu::copy_engine {
namespace {

constexpr int kThreads = 512, kBlocks = 264;
constexpr int kChunksWanted = 16;
constexpr size_t kLeastChunk = 1 << 20;  // bytes: a copy costs a microsecond or two to start
constexpr int kDepth = SideStreams::kDepth;

// Chunk number c of slice r: bytes of the buffer.
struct Range {
  size_t begin, end;
  size_t bytes() const { return end - begin; }
};

class Run {
 public:
  Run(Site& site, const direct::Args& buffers, const void* kernel, size_t bytes, size_t item,
      const Plan& plan)
      : site_(site), buffers_(buffers), kernel_(kernel), bytes_(bytes), item_(item), plan_(plan) {
    const size_t slice = round_up((bytes + ranks() - 1) / ranks(), 16);
    const size_t most = site.scratch_bytes() / (kDepth * std::max(ranks() - 1, 1)) / 16 * 16;
    const size_t wanted = plan.chunk ? plan.chunk : std::max(slice / kChunksWanted, kLeastChunk);
    chunk_ = std::clamp<size_t>(round_up(wanted, 16), 16, most);
    slice_ = slice;
    chunks_ = static_cast<int>((slice + chunk_ - 1) / chunk_);
  }

  // Every wait is queued after the record that it means, for a mark is recorded again every kDepth
  // chunks.
  void queue() {
    for (int r = 0; r < ranks(); ++r) side().record(r, SideStreams::kStarted, main(r));
    for (int r = 0; r < ranks(); ++r)
      for (int p = 0; p < ranks(); ++p)
        side().wait(side().lane(r, SideStreams::kOut), p, SideStreams::kStarted);
    for (int c = 0; c < chunks_; ++c) {
      for (int r = 0; r < ranks(); ++r) send(r, c);
      for (int r = 0; r < ranks(); ++r) reduce(r, c);
      for (int r = 0; r < ranks(); ++r) give(r, c);
    }
    // Scratch memory is free again when the kernels of all ranks have read it.
    for (int r = 0; r < ranks(); ++r)
      side().record(r, SideStreams::kEnded, side().lane(r, SideStreams::kBack));
    for (int r = 0; r < ranks(); ++r)
      for (int p = 0; p < ranks(); ++p) side().wait(main(r), p, SideStreams::kEnded);
  }

 private:
  int ranks() const { return site_.ranks(); }
  SideStreams& side() const { return site_.side(); }
  Stream main(int rank) const { return site_.streams().at(rank); }
  Range chunk(int slice, int c) const {
    const size_t begin = std::min(slice * slice_ + c * chunk_, bytes_);
    return {begin, std::min({begin + chunk_, (slice + 1) * slice_, bytes_})};
  }
  // Of what rank `from` has sent to rank `to` in chunk c.
  char* place(int to, int from, int c) const {
    const int number = c % kDepth * (ranks() - 1) + (from < to ? from : from - 1);
    return site_.scratch<char>(to) + static_cast<size_t>(number) * chunk_;
  }
  void copy(Stream stream, void* to, const void* from, size_t bytes) const {
    if (bytes == 0) return;
    cuda::DeviceGuard guard(stream.device.index);
    VT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cuda::handle_of(stream)));
  }

  void send(int r, int c) const {
    const Stream out = side().lane(r, SideStreams::kOut);
    for (int k = 1; k < ranks(); ++k) {
      const int p = (r + k) % ranks();
      if (c >= kDepth) side().wait(out, p, SideStreams::kReduced + c % kDepth);
      const Range range = chunk(p, c);
      copy(out, place(p, r, c), static_cast<const char*>(buffers_.in[r]) + range.begin,
           range.bytes());
    }
    side().record(r, SideStreams::kSent + c % kDepth, out);
  }

  void reduce(int r, int c) const {
    for (int p = 0; p < ranks(); ++p)
      if (p != r) side().wait(main(r), p, SideStreams::kSent + c % kDepth);
    const Range range = chunk(r, c);
    if (range.bytes() > 0) {
      Args args{};
      for (int p = 0; p < ranks(); ++p)
        args.parts[p] =
            p == r ? static_cast<const char*>(buffers_.in[r]) + range.begin : place(r, p, c);
      args.out = static_cast<char*>(buffers_.out[r]) + range.begin;
      args.count = static_cast<int64_t>(range.bytes() / item_);
      args.ranks = ranks();
      args.average = buffers_.average;
      const int threads = plan_.threads ? plan_.threads : kThreads;
      const int64_t full = static_cast<int64_t>(range.bytes() / 16 / threads) + 1;
      const int64_t most = plan_.blocks ? plan_.blocks : kBlocks;
      site_.launch_alone(kernel_, r, static_cast<int>(std::min(full, most)), threads, &args);
    }
    side().record(r, SideStreams::kReduced + c % kDepth, main(r));
  }

  void give(int r, int c) const {
    const Stream back = side().lane(r, SideStreams::kBack);
    side().wait(back, r, SideStreams::kReduced + c % kDepth);
    const Range range = chunk(r, c);
    for (int k = 1; k < ranks(); ++k) {
      const int p = (r + k) % ranks();
      copy(back, static_cast<char*>(buffers_.out[p]) + range.begin,
           static_cast<const char*>(buffers_.out[r]) + range.begin, range.bytes());
    }
  }

  Site& site_;
  direct::Args buffers_;
  const void* kernel_;
  size_t bytes_, item_;
  const Plan& plan_;
  size_t chunk_ = 0, slice_ = 0;
  int chunks_ = 0;
};

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

// Pushing was faster at every size measured; this leaves the multiprocessors to others.
bool suits(const Site&, const Unit&) { return false; }

void run(Site& site, const Unit& unit, const Plan& plan) {
  const void* const function = kernel(unit.dtype, unit.call().op, site.ranks());
  direct::for_each_piece(site, unit, [&](direct::Args& buffers, size_t bytes) {
    Run(site, buffers, function, bytes, item_size(unit.dtype), plan).queue();
  });
}

}  // namespace vt::collectives::gpu::copy_engine
