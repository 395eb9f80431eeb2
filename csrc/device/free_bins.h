// Blocks of device memory and the bins that the free ones wait in. Taking the best fit and giving
// back cost a few nanoseconds whatever the number of blocks: a bitmap over size bins, each bin a
// list threaded through the blocks.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vt {

struct StreamCache;
struct AddressRange;

// A run of bytes inside one segment that came from the system in one piece, or inside one range of
// addresses.
struct Block {
  char* data = nullptr;
  size_t size = 0;
  size_t requested = 0;          // of a live block: the size before rounding
  StreamCache* owner = nullptr;  // the stream whose work may use the block again without waiting
  Block* lower = nullptr;        // neighbours in the segment
  Block* upper = nullptr;
  Block* bin_previous = nullptr;
  Block* bin_next = nullptr;
  AddressRange* range = nullptr;  // null: in a segment
  int fences = 0;                 // of freed blocks: recorded streams that are not done yet
  bool small = false;
  bool free = false;           // in a bin
  bool hole = false;           // addresses of a range that have no memory now
  std::vector<void*> streams;  // further streams that use the block
  bool whole_segment() const { return !range && lower == nullptr && upper == nullptr; }
  bool part_of_segment() const { return !range && (lower != nullptr || upper != nullptr); }
};

class FreeBins {
 public:
  static constexpr size_t kUnit = 512;  // sizes are multiples of this

  void insert(Block* block) {
    const int bin = bin_of(block->size);
    block->free = true;
    block->bin_previous = nullptr;
    block->bin_next = heads_[bin];
    if (heads_[bin]) heads_[bin]->bin_previous = block;
    heads_[bin] = block;
    words_[bin / 64] |= uint64_t{1} << (bin % 64);
  }

  void remove(Block* block) {
    const int bin = bin_of(block->size);
    if (block->bin_next) block->bin_next->bin_previous = block->bin_previous;
    if (block->bin_previous) block->bin_previous->bin_next = block->bin_next;
    else heads_[bin] = block->bin_next;
    if (!heads_[bin]) words_[bin / 64] &= ~(uint64_t{1} << (bin % 64));
    block->free = false;
  }

  // The smallest block of at least `size` bytes, or null. It stays in its bin.
  Block* best_fit(size_t size) const {
    for (int bin = next_used(bin_of(size)); bin < kBins; bin = next_used(bin + 1))
      if (Block* block = smallest(heads_[bin], size)) return block;
    return nullptr;
  }

  size_t largest() const {
    for (int bin = kBins - 1; bin >= 0; --bin)
      if (heads_[bin]) {
        size_t size = 0;
        for (Block* block = heads_[bin]; block; block = block->bin_next)
          size = block->size > size ? block->size : size;
        return size;
      }
    return 0;
  }

  template <class F>
  void for_each(F&& f) const {  // f may remove the block it is given
    for (Block* head : heads_)
      for (Block* block = head; block;) {
        Block* next = block->bin_next;
        f(block);
        block = next;
      }
  }

 private:
  // One bin a size up to 1 MiB, then eight bins a power of two.
  static constexpr int kExact = 2048, kExactBits = 11, kOctaves = 40;
  static constexpr int kBins = kExact + kOctaves * 8;

  static int bin_of(size_t size) {
    const size_t units = size / kUnit;
    if (units <= kExact) return static_cast<int>(units) - 1;
    const int octave = std::bit_width(units) - 1;
    const int bin =
        kExact + (octave - kExactBits) * 8 + static_cast<int>((units >> (octave - 3)) & 7);
    return bin < kBins ? bin : kBins - 1;
  }

  int next_used(int bin) const {
    for (int word = bin / 64; word < kWords; ++word) {
      const uint64_t mask = word == bin / 64 ? ~uint64_t{0} << (bin % 64) : ~uint64_t{0};
      if (const uint64_t hits = words_[word] & mask) return word * 64 + std::countr_zero(hits);
    }
    return kBins;
  }

  static Block* smallest(Block* head, size_t size) {
    Block* best = nullptr;
    for (Block* block = head; block; block = block->bin_next) {
      if (block->size == size) return block;
      if (block->size > size && (!best || block->size < best->size)) best = block;
      if (block->size / kUnit <= kExact) break;  // all of one size
    }
    return best;
  }

  static constexpr int kWords = (kBins + 63) / 64;
  Block* heads_[kBins] = {};
  uint64_t words_[kWords] = {};
};

}  // namespace vt
