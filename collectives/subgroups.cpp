// Communicators of some of the ranks, and what passes between two ranks alone.
#include <algorithm>

#include "base/error.h"
#include "collectives/communicator.h"

namespace vt::collectives {

std::shared_ptr<Communicator> Communicator::subgroup(std::span<const int> ranks) {
  std::vector<int> key(ranks.begin(), ranks.end());
  std::lock_guard lock(subgroups_mutex_);
  auto& group = subgroups_[key];
  if (group) return group;
  std::vector<Device> devices;
  try {
    for (size_t i = 0; i < key.size(); ++i) {
      check_rank("subgroup", key[i]);
      VT_CHECK(std::find(key.begin(), key.begin() + i, key[i]) == key.begin() + i, kValue,
               "subgroup: rank ", key[i], " is named twice");
      devices.push_back(mesh_.device(key[i]));
    }
    return group = std::make_shared<Communicator>(fabric::Mesh(devices), options_);
  } catch (...) {
    subgroups_.erase(key);
    throw;
  }
}

// The lower rank of the two is rank 0 there.
Communicator& Communicator::pair(int rank, int other) {
  VT_CHECK(rank != other, kValue, "send: rank ", rank, " and its peer are the same rank");
  const int both[] = {std::min(rank, other), std::max(rank, other)};
  return *subgroup(both);
}

void Communicator::send(int rank, const Tensor& tensor, int to) {
  Communicator& two = pair(rank, to);
  Call call;
  call.kind = Kind::kSendRecv;
  call.input = tensor;
  call.to = to < rank ? 0 : 1;
  two.arrive(1 - call.to, call);
  two.wait(1 - call.to);
}

void Communicator::receive(int rank, const Tensor& tensor, int from) {
  Communicator& two = pair(rank, from);
  Call call;
  call.kind = Kind::kSendRecv;
  call.output = tensor;
  call.from = from < rank ? 0 : 1;
  two.arrive(1 - call.from, call);
  two.wait(1 - call.from);
}

}  // namespace vt::collectives
