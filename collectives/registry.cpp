// Looking communicators up by their devices.
#include "collectives/registry.h"

#include <algorithm>
#include <mutex>

#include "base/error.h"

namespace vt::collectives {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<std::shared_ptr<Communicator>> known;
};

// Never destroyed: at exit the driver may be gone before this would be.
Registry& registry() {
  static auto* const instance = new Registry;
  return *instance;
}

template <class Matches>
std::shared_ptr<Communicator> find(const Registry& registry, Matches&& matches) {
  for (const auto& known : registry.known)
    if (matches(known->mesh().ranks())) return known;
  return nullptr;
}

}  // namespace

std::shared_ptr<Communicator> communicator(const fabric::Mesh& mesh) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  const auto same = [&](const std::vector<Device>& ranks) { return ranks == mesh.ranks(); };
  if (auto found = find(all, same)) return found;
  return all.known.emplace_back(std::make_shared<Communicator>(mesh));
}

std::shared_ptr<Communicator> communicator_of(std::span<const Tensor> tensors) {
  const auto missing =
      std::find_if(tensors.begin(), tensors.end(), [](const Tensor& t) { return !t.defined(); });
  VT_CHECK(missing == tensors.end(), kValue, "collective: rank ", missing - tensors.begin(),
           " brings no tensor; name the communicator, or pass one tensor a rank");
  Registry& all = registry();
  {
    std::lock_guard lock(all.mutex);
    const auto same = [&](const std::vector<Device>& ranks) {
      return std::equal(ranks.begin(), ranks.end(), tensors.begin(), tensors.end(),
                        [](Device device, const Tensor& t) { return device == t.device(); });
    };
    if (auto found = find(all, same)) return found;
  }
  std::vector<Device> devices;
  for (const Tensor& t : tensors) devices.push_back(t.device());
  return communicator(fabric::Mesh(std::move(devices)));
}

}  // namespace vt::collectives
