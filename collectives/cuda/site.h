// Where the algorithms of the GPU engine work: the devices' streams, the ranks' signal pads,
// mailboxes and scratch memory. Knows no algorithm; everything is there before the first unit, but
// large scratch memory, which is taken before the first that wants it.
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "collectives/cuda/device_streams.h"
#include "collectives/cuda/fault_board.h"
#include "collectives/cuda/side_streams.h"
#include "collectives/engine.h"
#include "collectives/link_model.h"
#include "collectives/tuning.h"
#include "fabric/symmetric.h"

namespace vt::collectives::gpu {

using fabric::Clique;
using fabric::kMaxBlocks;
using fabric::kMaxCudaRanks;
using fabric::Mesh;

inline constexpr int kMaxThreads = 1024;  // of a block; such a kernel may use 64 registers
inline constexpr int kNarrow = 32;        // blocks; Note [Beside other work]

constexpr size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

class Site {
 public:
  // mailboxes: bytes a rank for each algorithm that wants memory of its own, zeros at the start.
  Site(const Mesh& mesh, const Options& options, const std::vector<size_t>& mailboxes);

  const Mesh& mesh() const { return mesh_; }
  int ranks() const { return mesh_.size(); }
  const Options& options() const { return options_; }
  bool spread() const { return mesh_.devices().size() > 1; }  // over several devices
  LinkModel model() const { return {ranks(), mesh_.max_ranks_on_a_device()}; }  // where it is
  // Do the ranks meet in memory of the host, because their devices do not reach each other?
  bool through_host() const { return memory_->kind() == std::string_view("host"); }
  DeviceStreams& streams() { return streams_; }
  const DeviceStreams& streams() const { return streams_; }
  SideStreams& side() { return side_; }
  int device_index(int rank) const { return mesh_.device(rank).index; }

  // The most blocks that a rank may have so that those of all ranks of a device are resident
  // together: a block that waits for one that is not would wait for ever. At most kMaxBlocks, and
  // Options::max_blocks where that is set.
  int most_blocks(int threads, int blocks_per_processor = 0) const;

  // Note [Beside other work]
  // A unit that is not in line runs beside what its callers queue, products that take all
  // multiprocessors as a rule. What matters then is how many it takes from them for how long. Large
  // units go by copy engines (Note [Adding beside products]); where these cannot be used or would
  // be late, they are limited to few blocks, which take the least of all kernels. The most blocks
  // of a rank for the unit; 0: as many as pay.
  int limit(const Unit& unit) const;
  bool narrow(const Unit& unit) const { return limit(unit) > 0 && limit(unit) <= kNarrow; }

  // What is launched from now on is of this unit; `owner` runs it.
  void begin(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner);
  // For a kernel that does the part of all ranks of a device, by its number in mesh().devices().
  const Clique& clique(int device) const { return cliques_[device]; }
  template <class T>
  T* mailbox(int rank, size_t number) const {
    return memory_->slot<T>(rank, mailboxes_[number]);
  }
  // Memory for what is on its way; free again when all ranks have met at the end of their kernels.
  template <class T = void>
  T* scratch(int rank) const {
    return large_scratch_ ? large_scratch_->slot<T>(rank, 0) : memory_->slot<T>(rank, scratch_);
  }
  size_t scratch_bytes() const { return scratch_bytes_; }
  // More of it, once, on GPUs that have enough memory. Between units, and not while anything is
  // captured: it waits for the devices, no longer than ranks wait for each other.
  void take_large_scratch();
  // Copies of tensors that the peers cannot reach, of stage_bytes() a rank; nothing else is there.
  template <class T = void>
  T* stage(int rank) const {
    return memory_->slot<T>(rank, stage_);
  }
  size_t stage_bytes() const { return stage_bytes_; }

  // May all devices of the mesh use every rank's input and output directly?
  bool reachable(const Unit& unit) const;

  // One kernel on each device, for all ranks there: row y of its grid, of `blocks` blocks, is the
  // y-th of them (Note [One kernel a device]). `args` is the kernel's one parameter, taken by
  // value; `clique` the one in it, which this fills in.
  void launch(const void* kernel, int blocks, int threads, void* args, Clique& clique,
              size_t shared_bytes = 0) const;
  // The same for a kernel that begins with fabric::follow_previous_kernel(): it is on the device
  // before the one before it on the stream has ended, and waits there. Only where both take half of
  // the device and a block a multiprocessor at most: beyond that it was measured to be slower.
  void launch_early(const void* kernel, int blocks, int threads, void* args, Clique& clique) const;
  // A kernel that waits for nobody, on a stream of one rank.
  void launch_alone(const void* kernel, Stream stream, int blocks, int threads,
                    const void* args) const;
  // What is queued on side streams goes before what follows on the streams of the ranks: a unit
  // that an error has cut short may not have seen to it. Not in a capture, which such an error
  // ends.
  void join_side_streams();
  // On the stream of the rank's device.
  void copy(int rank, void* to, const void* from, size_t bytes) const;

  // What was measured for GPUs like these; of the rows for which usable(row) is true, or null.
  template <class Usable>
  const Measured* measured(const Unit& unit, const Usable& usable) const {
    if (measured_.empty()) return nullptr;
    const Call& call = unit.call();
    const bool in_place =
        call.input.defined() && call.output.defined() && call.input.data() == call.output.data();
    return find_measured(measured_, call.kind, item_size(unit.dtype), in_place, unit.bytes(),
                         usable);
  }

  bool any_fault() const { return faults_.any(); }
  // `late`: a mask of ranks whose work is known to be late; they are named.
  std::string fault_sentence(uint32_t late) const { return faults_.sentence(mesh_, late); }
  void abort() { faults_.abort(); }  // whoever waits in a kernel leaves
  bool aborted() const { return faults_.aborted(); }
  // Stops waiting kernels, and makes pads and mailboxes as they were at the start.
  void reset();

 private:
  bool comes_to_rest() const;
  void start(const void* kernel, int blocks, int threads, void* args, Clique& clique,
             size_t shared_bytes, bool early) const;

  Mesh mesh_;
  Options options_;
  std::vector<Measured> measured_;
  std::vector<size_t> mailboxes_;  // where each begins in a rank's slot
  size_t scratch_ = 0, scratch_bytes_ = 0, stage_ = 0, stage_bytes_ = 0;
  bool has_asked_ = false;     // for large scratch memory
  bool narrow_ = false;        // is the unit that is launched?
  bool has_clusters_ = false;  // all devices know clusters of blocks
  bool early_launch_ = false;  // asked for, and all devices know it
  mutable bool half_ = false;  // the last kernel may be followed early
  // All by device.
  std::vector<Clique> cliques_;
  std::vector<int> ranks_here_, processors_;  // processors: multiprocessors
  std::shared_ptr<fabric::SymmetricMemory> memory_, large_scratch_;
  FaultMemory faults_;
  SideStreams side_;
  DeviceStreams streams_;  // the last one: it goes first, and waits for kernels that use the others
};

}  // namespace vt::collectives::gpu
