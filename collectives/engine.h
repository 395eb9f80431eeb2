// What runs a unit on one kind of device. The communicator above has matched the calls; an engine
// only moves and reduces.
#pragma once
#include <memory>
#include <span>
#include <string_view>

#include "collectives/collective.h"
#include "device/capture.h"

namespace vt::collectives {

// How a unit is carried out on GPUs; kAuto chooses by size among our own, whose results have the
// same bits whichever it is. A kind of unit that the chosen one cannot do is carried out as by
// kAuto. kNccl hands everything to NVIDIA's library: the yardstick of benchmarks. It knows no
// deadline, and its sums may differ in the last bit.
enum class Algorithm : uint8_t {
  kAuto,
  kPackets,     // everything to everybody, data and flag in one store
  kLines,       // the same, with one flag a 128-byte line
  kPackets2,    // slices reduced by their owners, both ways by packets
  kOneShot,     // everybody reads everything
  kTwoShot,     // slices reduced by their owners, read from and written to the tensors directly
  kPush,        // slices reduced by their owners, chunks stored into the owners' memory
  kCopyEngine,  // slices moved by the copy engines
  kRing,        // partial sums along a chain of neighbours
  kNccl,
};

// From one of `algorithm_names`; ValueError otherwise.
Algorithm parse_algorithm(std::string_view text);
std::string_view name(Algorithm algorithm);
std::span<const std::string_view> algorithm_names();

struct Options {
  double timeout_seconds;  // how long a rank waits for the others
  Algorithm algorithm = Algorithm::kAuto;
  bool always_stage = false;  // pass through the staging buffer even what all devices could reach
  // Of a rank; 0: as many as pay. 32 and fewer ask for room beside other work: large units go by
  // copy engines then, which add up in many blocks of one warp.
  int max_blocks = 0;
  int threads = 0;           // of a block: a multiple of 32 up to 1024; 0: as many as pay
  size_t chunk_bytes = 0;    // that move as one piece; 0: what pays
  bool early_launch = true;  // short kernels come to the device while the one before still runs
};

// The end of one unit that was queued on devices.
class Completion {
 public:
  virtual ~Completion() = default;
  virtual bool passed() = 0;        // is the unit done, on all ranks?
  virtual void join(int rank) = 0;  // orders the calling thread's later work after it
};

// Graphs that hold units of an engine hold the engine, too.
class Engine : public ReplayGuest, public std::enable_shared_from_this<Engine> {
 public:
  // Does run() return before the unit is done? Then it is cheap, and needs no thread of its own.
  virtual bool queues() const { return false; }

  // On the thread of the arriving rank: notes what the rank's part of the unit has to wait for.
  virtual void* mark_arrival(int rank) { return nullptr; }
  virtual void drop_mark(int rank, void* mark) {}
  // Carries the unit out, or queues it on the devices. One call at a time, in the order of the
  // sequence.
  virtual void run(const Unit& unit) = 0;
  // How run() would carry the unit out, for dry runs, and how it did the last one, for the fabric's
  // events: literals.
  virtual const char* algorithm(const Unit& unit) const = 0;
  virtual const char* last_algorithm() const = 0;
  // Orders the calling thread's later work on the rank's device after all units run so far; for
  // those that are in line that is so without it.
  virtual void join(int rank) {}
  // The end of the last unit run. Null if run() has done it all.
  virtual std::unique_ptr<Completion> completion() { return nullptr; }
  // Throws FabricTimeoutError if a queued unit failed on a device since the last reset, once what
  // is queued has ended, or has had the time for it.
  virtual void check() {}
  // Are the queued units done, failed ones included, or is there no use in waiting for them any
  // longer? Returns at once; errors are synchronize()'s.
  virtual bool drained() { return true; }
  // Blocks until the queued units are done, then check().
  virtual void synchronize() {}
  // Has kernels that wait for a peer leave; from any thread, at any time.
  virtual void abort() {}
  // Stops what still runs and makes the engine ready for the next unit, whatever went wrong before.
  // FabricTimeoutError where what is queued does not end.
  virtual void reset() {}
};

std::unique_ptr<Engine> make_cpu_engine(const fabric::Mesh& mesh);
std::unique_ptr<Engine> make_cuda_engine(const fabric::Mesh& mesh,
                                         const Options& options);  // cuda/ or no_cuda/
// ValueError where two ranks share a GPU; RuntimeError where the library is not installed.
std::unique_ptr<Engine> make_nccl_engine(const fabric::Mesh& mesh);  // cuda/ or no_cuda/
std::string nccl_version();  // of the library that is opened, as "2.28.9"

}  // namespace vt::collectives
