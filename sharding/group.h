// The ranks that hold a fabric tensor, with the communicator that moves data between them.
#pragma once
#include <memory>
#include <mutex>
#include <span>

#include "collectives/communicator.h"
#include "fabric/mesh.h"

namespace vt::sharding {

inline constexpr int kMaxRanks = fabric::kMaxRanks;

class Group {
 public:
  // The one group of a mesh. It lives as long as the process: tensors refer to it.
  static Group& of(const fabric::Mesh& mesh);

  const fabric::Mesh& mesh() const { return mesh_; }
  int size() const { return mesh_.size(); }
  Device device(int rank) const { return mesh_.device(rank); }
  collectives::Communicator& communicator();  // the process's for this mesh

 private:
  explicit Group(const fabric::Mesh& mesh) : mesh_(mesh) {}

  fabric::Mesh mesh_;
  std::mutex mutex_;
  std::shared_ptr<collectives::Communicator> communicator_;
};

// The current streams of all ranks' devices, noted at construction.
class GroupStreams {
 public:
  explicit GroupStreams(const Group& group);
  bool are_current() const;  // still, or again
  // While it lives, they are the current ones of the calling thread. Work before, in between and
  // after is in one order.
  class Use {
   public:
    explicit Use(const GroupStreams& streams);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    std::vector<Stream> before_;
  };

 private:
  std::vector<Stream> streams_;  // of GPUs, each once
};

}  // namespace vt::sharding
