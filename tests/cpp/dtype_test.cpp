// Element types: the 16-bit floats against a reference in double, promotion against PyTorch's
// table, scalars.
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "base/scalar.h"
#include "ops/rules/promotion.h"

namespace vt {
namespace {

// A binary float of `fraction` fraction bits and this exponent range, as the definition says it.
struct Format {
  int fraction, min_exponent, max_exponent;

  double value(uint16_t bits) const {
    const int exponent_bits = 15 - fraction;
    const double sign = bits >> 15 ? -1.0 : 1.0;
    const int exponent = (bits & 0x7fff) >> fraction;
    const int mantissa = bits & ((1 << fraction) - 1);
    if (exponent == (1 << exponent_bits) - 1)
      return mantissa ? std::numeric_limits<double>::quiet_NaN()
                      : sign * std::numeric_limits<double>::infinity();
    if (exponent == 0) return sign * std::ldexp(mantissa, min_exponent - fraction);
    return sign * std::ldexp((1 << fraction) + mantissa, exponent - 1 + min_exponent - fraction);
  }
  // Nearest, ties to even, in units of the last place.
  double round(double x) const {
    if (x == 0 || !std::isfinite(x)) return x;
    int exponent;
    std::frexp(x, &exponent);
    const int unit = std::max(exponent - 1, min_exponent) - fraction;
    const double rounded = std::ldexp(std::nearbyint(std::ldexp(x, -unit)), unit);
    const double limit = std::ldexp(2.0 - std::ldexp(1.0, -fraction), max_exponent);
    return std::abs(rounded) > limit ? std::copysign(std::numeric_limits<double>::infinity(), x)
                                     : rounded;
  }
};
constexpr Format kHalf{10, -14, 15};
constexpr Format kBFloat{7, -126, 127};

template <class T>
void expect_value(float given, double wanted) {
  const float got = static_cast<float>(T(given));
  if (std::isnan(wanted)) {
    EXPECT_TRUE(std::isnan(got)) << given;
    return;
  }
  EXPECT_EQ(static_cast<double>(got), wanted) << std::hexfloat << given;
  EXPECT_EQ(std::signbit(got), std::signbit(wanted)) << std::hexfloat << given;
}

template <class T>
void check_format(const Format& format) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    T t;
    t.bits = static_cast<uint16_t>(bits);
    const double wanted = format.value(t.bits);
    const float got = static_cast<float>(t);
    if (std::isnan(wanted)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(T(got)))) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(got), wanted) << bits;
    ASSERT_EQ(T(got).bits, t.bits) << bits;
    if (!std::isfinite(wanted)) continue;
    // The midpoint to the next value, and the floats on both sides of it.
    T next;
    next.bits = static_cast<uint16_t>(bits + 1);
    const double above = format.value(next.bits);
    const double limit = std::copysign(std::ldexp(1.0, format.max_exponent + 1), wanted);
    const double middle = (wanted + (std::isfinite(above) ? above : limit)) / 2;
    if (std::isnan(middle)) continue;
    const float m = static_cast<float>(middle);
    for (const float x :
         {m, std::nextafter(m, 0.0f), std::nextafter(m, static_cast<float>(2 * limit))})
      expect_value<T>(x, format.round(x));
  }
  std::mt19937 random(7);
  for (int i = 0; i < 2'000'000; ++i) {
    const float x = float_of_bits(random());
    expect_value<T>(x, format.round(x));
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Half, ConvertsAsTheStandardSays) { check_format<Half>(kHalf); }
TEST(BFloat16, ConvertsAsTheStandardSays) { check_format<BFloat16>(kBFloat); }

TEST(DType, PromotesAsTorch) {
  // torch.promote_types in the order bool u8 i8 i32 i64 f16 bf16 f32 f64. torch has int16 for u8 +
  // i8; the next type that this runtime has is int32.
  constexpr const char* table[kDTypeCount] = {
      "bool u8 i8 i32 i64 f16 bf16 f32 f64",       "u8 u8 i32 i32 i64 f16 bf16 f32 f64",
      "i8 i32 i8 i32 i64 f16 bf16 f32 f64",        "i32 i32 i32 i32 i64 f16 bf16 f32 f64",
      "i64 i64 i64 i64 i64 f16 bf16 f32 f64",      "f16 f16 f16 f16 f16 f16 f32 f32 f64",
      "bf16 bf16 bf16 bf16 bf16 f32 bf16 f32 f64", "f32 f32 f32 f32 f32 f32 f32 f32 f64",
      "f64 f64 f64 f64 f64 f64 f64 f64 f64"};
  for (int a = 0; a < kDTypeCount; ++a) {
    std::istringstream row(table[a]);
    for (int b = 0; b < kDTypeCount; ++b) {
      std::string wanted;
      row >> wanted;
      EXPECT_EQ(short_name(promote(static_cast<DType>(a), static_cast<DType>(b))), wanted)
          << a << ' ' << b;
    }
  }
}

TEST(DType, NumbersAndZeroDimTensorsChangeOnlyTheKind) {
  const auto result = [](DType tensor, int dims, auto number) {
    Promotion p;
    p.add(empty(Dims::filled(dims, 2), tensor, Device{}));
    p.add(number);
    return p.result();
  };
  EXPECT_EQ(result(DType::kF16, 1, Scalar(2.5)), DType::kF16);
  EXPECT_EQ(result(DType::kI8, 1, Scalar(1000)), DType::kI8);
  EXPECT_EQ(result(DType::kI8, 1, Scalar(0.5)), DType::kF32);
  EXPECT_EQ(result(DType::kBool, 1, Scalar(1)), DType::kI64);
  EXPECT_EQ(result(DType::kBool, 1, Scalar(true)), DType::kBool);
  EXPECT_EQ(result(DType::kF64, 0, Scalar(2.5)), DType::kF64);
  EXPECT_EQ(result(DType::kF16, 1, empty(Dims{}, DType::kF64, Device{})), DType::kF16);
  EXPECT_EQ(result(DType::kI32, 1, empty(Dims{}, DType::kF64, Device{})), DType::kF64);
  EXPECT_EQ(result(DType::kI32, 1, empty(Dims{}, DType::kI64, Device{})), DType::kI32);
}

TEST(Scalar, KeepsItsKindAndValue) {
  EXPECT_EQ(Scalar(int64_t{9007199254740993}).to<int64_t>(), 9007199254740993);
  EXPECT_TRUE(Scalar(true).is_bool());
  EXPECT_TRUE(Scalar(0.5).to<bool>());
  EXPECT_TRUE(Scalar::none().is_none());
  EXPECT_TRUE(Scalar(2.0).equals(2));
  EXPECT_FALSE(Scalar(2.5).equals(2));
  EXPECT_EQ((-Scalar(3)).to<int64_t>(), -3);
}

}  // namespace
}  // namespace vt
