// The blocks that tensors hold, by address: open addressing, no allocation on the hot path.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/macros.h"
#include "device/free_bins.h"

namespace vt {

class LiveBlocks {
 public:
  void insert(Block* block) {
    if (VT_UNLIKELY(++count_ * 2 > slots_.size())) grow();
    place(block);
  }

  Block* find(const void* data) const {
    for (size_t slot = slot_of(data); slots_[slot]; slot = (slot + 1) & (slots_.size() - 1))
      if (slots_[slot]->data == data) return slots_[slot];
    return nullptr;
  }

  // Null when the address is not one of ours.
  Block* take(const void* data) {
    const size_t mask = slots_.size() - 1;
    size_t hole = slot_of(data);
    while (slots_[hole] && slots_[hole]->data != data) hole = (hole + 1) & mask;
    Block* block = slots_[hole];
    if (!block) return nullptr;
    // Close the gap, so that a probe never stops before the block it looks for.
    for (size_t slot = (hole + 1) & mask; slots_[slot]; slot = (slot + 1) & mask) {
      const size_t home = slot_of(slots_[slot]->data);
      if (((slot - home) & mask) >= ((slot - hole) & mask)) {
        slots_[hole] = slots_[slot];
        hole = slot;
      }
    }
    slots_[hole] = nullptr;
    --count_;
    return block;
  }

 private:
  size_t slot_of(const void* data) const {
    const uint64_t key = reinterpret_cast<uintptr_t>(data) / FreeBins::kUnit;
    return (key * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1);
  }
  void place(Block* block) {
    size_t slot = slot_of(block->data);
    while (slots_[slot]) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = block;
  }
  VT_NOINLINE void grow() {
    std::vector<Block*> old(slots_.size() * 2);
    old.swap(slots_);
    for (Block* block : old)
      if (block) place(block);
  }

  std::vector<Block*> slots_ = std::vector<Block*>(1024);
  size_t count_ = 0;
};

}  // namespace vt
