// A short list of sizes or strides, kept inline: shapes are copied by value and never touch the
// heap.
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "base/error.h"

namespace vt {

inline constexpr int kMaxDims = 8;

class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<int64_t> values)
      : Dims(std::span<const int64_t>(values.begin(), values.size())) {}
  explicit Dims(std::span<const int64_t> values) : size_(static_cast<uint8_t>(values.size())) {
    VT_CHECK(values.size() <= kMaxDims, kRuntime, "shape: a tensor has at most ", kMaxDims,
             " dimensions, got ", values.size());
    std::copy(values.begin(), values.end(), values_);
  }
  Dims(const Dims& other) : size_(other.size_) { std::copy_n(other.values_, size_, values_); }
  Dims& operator=(const Dims& other) {
    size_ = other.size_;
    std::copy_n(other.values_, size_, values_);
    return *this;
  }
  static Dims filled(int count, int64_t value) {
    Dims dims;
    for (int i = 0; i < count; ++i) dims.push_back(value);
    return dims;
  }

  int size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t operator[](int i) const { return values_[i]; }
  int64_t& operator[](int i) { return values_[i]; }
  int64_t back() const { return values_[size_ - 1]; }
  int64_t& back() { return values_[size_ - 1]; }
  const int64_t* begin() const { return values_; }
  const int64_t* end() const { return values_ + size_; }
  int64_t* begin() { return values_; }
  int64_t* end() { return values_ + size_; }
  operator std::span<const int64_t>() const { return {values_, size_}; }

  void push_back(int64_t value) {
    VT_CHECK(size_ < kMaxDims, kRuntime, "shape: a tensor has at most ", kMaxDims, " dimensions");
    values_[size_++] = value;
  }
  void pop_back() { --size_; }
  void insert(int at, int64_t value) {
    push_back(value);
    std::rotate(values_ + at, values_ + size_ - 1, values_ + size_);
  }
  void erase(int at) {
    std::copy(values_ + at + 1, values_ + size_, values_ + at);
    --size_;
  }
  bool operator==(const Dims& other) const {
    return size_ == other.size_ && std::equal(begin(), end(), other.begin());
  }
  int64_t product() const {
    int64_t result = 1;
    for (int64_t v : *this) result *= v;
    return result;
  }

 private:
  uint8_t size_ = 0;
  int64_t values_[kMaxDims];
};

inline std::ostream& operator<<(std::ostream& out, const Dims& dims) {
  out << '[';
  for (int i = 0; i < dims.size(); ++i) out << (i ? ", " : "") << dims[i];
  return out << ']';
}

// Strides of a dense row-major tensor of these sizes.
inline Dims row_major_strides(const Dims& sizes) {
  Dims strides = sizes;
  int64_t step = 1;
  for (int i = sizes.size() - 1; i >= 0; --i) {
    strides[i] = step;
    if (__builtin_mul_overflow(step, std::max<int64_t>(sizes[i], 1), &step))
      step = 0;  // a tensor without elements
  }
  return strides;
}

}  // namespace vt
