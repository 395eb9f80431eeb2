// How a range of bytes is cut into pieces that follow each other through a pipeline.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

namespace vt::collectives {

struct Range {
  size_t begin, end;
  size_t bytes() const { return end - begin; }
};

inline constexpr size_t kPieceUnit = 16;  // all pieces but the last are multiples of it

// Pieces of `most` bytes as long as more is left, then of half of what is left, down to `least`:
// what is done to the last piece when nothing else is under way is done to a small one. Every
// piece, in order; none where there are no bytes.
inline std::vector<Range> tapered_pieces(size_t bytes, size_t most, size_t least) {
  const auto up = [](size_t n) { return (n + kPieceUnit - 1) / kPieceUnit * kPieceUnit; };
  most = up(std::max<size_t>(most, 1));
  least = std::min(up(std::max<size_t>(least, 1)), most);
  std::vector<Range> pieces;
  for (size_t at = 0; at < bytes;) {
    const size_t left = bytes - at;
    const size_t size = left > most ? most : std::min(std::max(up(left / 2), least), left);
    pieces.push_back({at, at + size});
    at += size;
  }
  return pieces;
}

}  // namespace vt::collectives
