// Cuts into pieces: they follow each other without a gap, and the last ones grow smaller.
#include "collectives/pieces.h"

#include <gtest/gtest.h>

#include <random>

namespace vt::collectives {
namespace {

TEST(Pieces, CoverEverythingInOrder) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    const size_t bytes = random() % 100000, most = random() % 5000, least = random() % 3000;
    size_t at = 0;
    for (const Range& piece : tapered_pieces(bytes, most, least)) {
      EXPECT_EQ(piece.begin, at);
      EXPECT_EQ(piece.begin % kPieceUnit, 0u);
      EXPECT_GT(piece.bytes(), 0u);
      EXPECT_LE(piece.bytes(), std::max<size_t>(most + kPieceUnit - 1, kPieceUnit));
      at = piece.end;
    }
    EXPECT_EQ(at, bytes);
  }
}

TEST(Pieces, TheLastOnesAreHalves) {
  std::vector<size_t> sizes;
  for (const Range& piece : tapered_pieces(1000 * 16, 256 * 16, 32 * 16))
    sizes.push_back(piece.bytes() / 16);
  EXPECT_EQ(sizes, (std::vector<size_t>{256, 256, 256, 116, 58, 32, 26}));
  EXPECT_TRUE(tapered_pieces(0, 16, 16).empty());
  EXPECT_EQ(tapered_pieces(5, 64, 32).size(), 1u);
}

}  // namespace
}  // namespace vt::collectives
