// The step compiler's spaces and groups, by hand-made nodes.
#include <gtest/gtest.h>

#include "fuse/group.h"
#include "fuse/program.h"

namespace vt::fuse {
namespace {

Space space_of(std::initializer_list<int64_t> sizes) {
  Space space;
  for (int64_t size : sizes) space.sizes[space.ndim++] = size;
  return space;
}

TEST(Space, CommonRefinement) {
  Space fine;
  ASSERT_TRUE(refine(space_of({12}), space_of({4, 3}), fine));
  EXPECT_EQ(fine.ndim, 2);
  EXPECT_EQ(fine.sizes[0], 4);
  EXPECT_EQ(fine.sizes[1], 3);
  EXPECT_FALSE(refine(space_of({6, 2}), space_of({4, 3}), fine));
  EXPECT_FALSE(refine(space_of({12}), space_of({4}), fine));
  ASSERT_TRUE(refine(space_of({}), space_of({}), fine));
  EXPECT_EQ(fine.ndim, 0);
}

TEST(Space, StridesOfTheRefinement) {
  const Space coarse = space_of({12, 5}), fine = space_of({4, 3, 5});
  Window window{nullptr, DType::kF32, {4, 0}};
  const Window seen = spread(window, coarse, fine);
  EXPECT_EQ(seen.strides[0], 4);
  EXPECT_EQ(seen.strides[1], 16);
  EXPECT_EQ(seen.strides[2], 0);
  EXPECT_EQ(dims_of_row(fine, 12), 2);
  EXPECT_EQ(dims_of_row(fine, 8), -1);
}

// out[i] = f(in[i]) over 16 floats, at addresses that are never read.
Node unary(uintptr_t in, uintptr_t out) {
  Node node(NodeKind::kConvert, "copy", Device{});
  node.space = space_of({16});
  node.in[0] = Window{reinterpret_cast<char*>(in), DType::kF32, {4}};
  node.out = Window{reinterpret_cast<char*>(out), DType::kF32, {4}};
  node.inputs = 1;
  return node;
}

Node call(uintptr_t read, uintptr_t write) {
  Node node(NodeKind::kCall, "call", Device{});
  const auto range = [](uintptr_t at) {
    return Range{reinterpret_cast<char*>(at), reinterpret_cast<char*>(at + 64)};
  };
  node.reads = {range(read)};
  node.writes = {range(write)};
  return node;
}

TEST(Groups, AChainIsOne) {
  const std::vector<Node> nodes = {unary(0x1000, 0x2000), unary(0x2000, 0x3000)};
  EXPECT_EQ(make_groups(nodes, true).size(), 1u);
  EXPECT_EQ(make_groups(nodes, false).size(), 2u);
}

TEST(Groups, NothingMergesAroundWhatMustRunBetween) {
  // The call reads what the first makes, and the last reads both: the first and the last must not
  // be one kernel.
  std::vector<Node> nodes = {unary(0x1000, 0x2000), call(0x2000, 0x3000), unary(0x2000, 0x4000)};
  nodes[2].in[1] = Window{reinterpret_cast<char*>(0x3000), DType::kF32, {4}};
  nodes[2].inputs = 2;
  const auto groups = make_groups(nodes, true);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].nodes[0], 0);
  EXPECT_EQ(groups[1].nodes[0], 1);
}

TEST(Groups, ShiftedWindowsStayApart) {
  // The second reads the first's result one element further: another thread wrote it.
  const std::vector<Node> nodes = {unary(0x1000, 0x2000), unary(0x2004, 0x3000)};
  EXPECT_EQ(make_groups(nodes, true).size(), 2u);
}

TEST(Programs, DeadValuesAreNotStored) {
  const std::vector<Node> nodes = {unary(0x1000, 0x2000), unary(0x2000, 0x3000)};
  const auto groups = make_groups(nodes, true);
  const DeadRanges dead = {{reinterpret_cast<char*>(0x2000), reinterpret_cast<char*>(0x2040)}};
  const Program program = make_program(nodes, groups[0], dead);
  EXPECT_EQ(program.loads.size(), 1u);
  ASSERT_EQ(program.stores.size(), 1u);
  EXPECT_EQ(program.stores[0].step, 1);
  EXPECT_EQ(make_program(nodes, groups[0], {}).stores.size(), 2u);
}

}  // namespace
}  // namespace vt::fuse
