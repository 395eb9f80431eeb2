// Meshes, symmetric memory and pairs of devices, as far as CPU devices go.
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "device/backend.h"
#include "fabric/mesh.h"
#include "fabric/peer.h"
#include "fabric/symmetric.h"

namespace vt::fabric {
namespace {

constexpr Device cpu(int index) { return {DeviceType::kCPU, static_cast<uint8_t>(index)}; }

Mesh three() {
  if (device_count(DeviceType::kCPU) < 3) set_cpu_devices(3);
  return Mesh({cpu(1), cpu(0), cpu(1)});
}

TEST(Mesh, KnowsItsDevicesAndWhoSharesThem) {
  const Mesh mesh = three();
  EXPECT_EQ(mesh.size(), 3);
  EXPECT_EQ(mesh.devices(), (std::vector<Device>{cpu(1), cpu(0)}));
  EXPECT_EQ(mesh.ranks_on(cpu(1)), 2);
  EXPECT_EQ(mesh.max_ranks_on_a_device(), 2);
  EXPECT_EQ(str(mesh), "[cpu:1, cpu:0, cpu:1]");
}

TEST(Mesh, RefusesWhatIsNotThere) {
  EXPECT_THROW(Mesh({}), Error);
  EXPECT_THROW(Mesh({cpu(63)}), Error);
  EXPECT_THROW(Mesh(std::vector<Device>(17, cpu(0))), Error);
}

TEST(Symmetric, OneZeroedTensorARank) {
  const Mesh mesh = three();
  const auto tensors = symmetric_zeros(mesh, Dims{5, 7}, DType::kBF16);
  ASSERT_EQ(tensors.size(), 3u);
  for (int r = 0; r < 3; ++r) {
    EXPECT_EQ(tensors[r].device(), mesh.device(r));
    EXPECT_TRUE(tensors[r].is_dense());
    EXPECT_TRUE(reachable(mesh, tensors[r].device(), tensors[r].data(), tensors[r].bytes()));
    const std::vector<char> zeros(70);
    EXPECT_EQ(0, std::memcmp(tensors[r].data(), zeros.data(), 70));
  }
  EXPECT_NE(tensors[0].data(), tensors[2].data());
  EXPECT_THROW(symmetric_zeros(mesh, Dims{-1}, DType::kF32), Error);
}

TEST(Symmetric, TheMemoryLivesAsLongAsAnyTensor) {
  Tensor last;
  {
    auto tensors = symmetric_zeros(three(), Dims{100}, DType::kF32);
    last = tensors[1];
  }
  for (int i = 0; i < 100; ++i) EXPECT_EQ(last.data<float>()[i], 0.0f);
  EXPECT_EQ(symmetric_zeros(three(), Dims{0}, DType::kF32)[0].numel(), 0);
}

TEST(Peer, CpuDevicesReachEachOther) {
  three();
  EXPECT_TRUE(peer_state(cpu(0), cpu(1)).usable);
  EXPECT_TRUE(peer_state(cpu(0), cpu(0)).usable);
  EXPECT_NO_THROW(require_peers(three()));
  EXPECT_EQ(try_pair(cpu(0), cpu(1)), "");
}

}  // namespace
}  // namespace vt::fabric
