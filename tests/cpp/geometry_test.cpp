// Geometry by brute force: broadcasting, elementwise plans, view strides, overlap, density.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "iter/elementwise.h"
#include "ops/ops.h"
#include "ops/raw/views.h"

namespace vt {
namespace {

using Random = std::mt19937;
int pick(Random& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

// Offsets, in elements, of all elements of a geometry in row-major order.
std::vector<int64_t> offsets_of(const Dims& sizes, const Dims& strides, int64_t start) {
  std::vector<int64_t> result;
  if (sizes.product() == 0) return result;
  Dims at = Dims::filled(sizes.size(), 0);
  for (;;) {
    int64_t offset = start;
    for (int i = 0; i < sizes.size(); ++i) offset += at[i] * strides[i];
    result.push_back(offset);
    int d = sizes.size() - 1;
    while (d >= 0 && ++at[d] == sizes[d]) at[d--] = 0;
    if (d < 0) return result;
  }
}
std::vector<int64_t> offsets_of(const Tensor& t) {
  return offsets_of(t.sizes(), t.strides(), t.offset());
}

// A tensor of up to four dimensions of sizes 0 to 4 that went through a few random views.
Tensor random_view(Random& random, DType dtype = DType::kI32) {
  Dims sizes;
  for (int n = pick(random, 0, 4); n > 0; --n)
    sizes.push_back(pick(random, 0, 12) ? pick(random, 1, 4) : 0);
  Tensor t = empty(sizes, dtype, Device{});
  for (int steps = pick(random, 0, 4); steps > 0; --steps) {
    if (t.dim() == 0) {
      t = raw::unsqueeze(t, 0);
      continue;
    }
    const int d = pick(random, 0, t.dim() - 1);
    switch (pick(random, 0, 5)) {
      case 0: t = raw::transpose(t, d, pick(random, 0, t.dim() - 1)); break;
      case 1:
        t = raw::slice(t, d, pick(random, 0, 2), pick(random, 2, 5), pick(random, 1, 2));
        break;
      case 2:
        if (t.dim() < 5) t = raw::unsqueeze(t, d);
        break;
      case 3:
        if (t.size(d) > 0) t = raw::select(t, d, pick(random, 0, static_cast<int>(t.size(d)) - 1));
        break;
      case 4: t = raw::squeeze_all(t); break;
      default:
        if (t.dim() < 5) {
          Dims wide = t.sizes();
          wide.insert(0, pick(random, 1, 3));
          t = raw::expand(t, wide);
        }
    }
  }
  return t;
}

Dims random_split(Random& random, int64_t numel) {
  Dims sizes;
  while (numel > 1 && sizes.size() < 6) {
    std::vector<int64_t> divisors;
    for (int64_t k = 1; k <= numel; ++k)
      if (numel % k == 0) divisors.push_back(k);
    const int64_t next = divisors[pick(random, 0, static_cast<int>(divisors.size()) - 1)];
    sizes.push_back(next);
    numel /= next;
  }
  if (numel > 1) sizes.push_back(numel);
  if (pick(random, 0, 2) == 0) sizes.insert(pick(random, 0, sizes.size()), 1);
  return sizes;
}

// Is there any set of strides that reads these offsets in this shape? Strides are determined where
// a size exceeds 1.
bool readable(const std::vector<int64_t>& offsets, const Dims& sizes) {
  Dims strides = Dims::filled(sizes.size(), 0);
  int64_t inner = 1;
  for (int i = sizes.size() - 1; i >= 0; --i) {
    if (sizes[i] > 1) strides[i] = offsets[inner] - offsets[0];
    inner *= sizes[i];
  }
  return offsets_of(sizes, strides, offsets[0]) == offsets;
}

TEST(Views, StridesAreFoundExactlyWhereTheyExist) {
  Random random(3);
  int views = 0, copies = 0;
  for (int round = 0; round < 20000; ++round) {
    const Tensor t = random_view(random);
    if (t.numel() == 0) continue;
    const Dims sizes = random_split(random, t.numel());
    const std::vector<int64_t> wanted = offsets_of(t);
    const std::optional<Dims> strides = view_strides(t, sizes);
    ASSERT_EQ(strides.has_value(), readable(wanted, sizes))
        << t.sizes() << t.strides() << " as " << sizes;
    if (strides) {
      ASSERT_EQ(offsets_of(sizes, *strides, t.offset()), wanted)
          << t.sizes() << t.strides() << " as " << sizes;
      ++views;
    } else {
      ++copies;
    }
  }
  EXPECT_GT(views, 1000);
  EXPECT_GT(copies, 1000);
}

TEST(Views, DenseMeansRowMajorWithoutGaps) {
  Random random(4);
  for (int round = 0; round < 5000; ++round) {
    const Tensor t = random_view(random);
    const std::vector<int64_t> offsets = offsets_of(t);
    bool dense = true;
    for (size_t i = 0; i < offsets.size(); ++i)
      dense &= offsets[i] == offsets[0] + static_cast<int64_t>(i);
    ASSERT_EQ(t.is_dense(), dense) << t.sizes() << t.strides();
  }
}

TEST(Views, OutOfTheStorageIsAnError) {
  const Tensor t = empty(Dims{4, 5}, DType::kF32, Device{});
  EXPECT_NO_THROW(view_of(t, Dims{20}, Dims{1}, 0));
  EXPECT_THROW(view_of(t, Dims{21}, Dims{1}, 0), Error);
  EXPECT_THROW(view_of(t, Dims{20}, Dims{1}, 1), Error);
  EXPECT_THROW(view_of(t, Dims{2}, Dims{1}, -1), Error);
  EXPECT_THROW(view_of(t, Dims{2}, Dims{-1}, 3), Error);
  EXPECT_THROW(view_of(t, Dims{3}, Dims{int64_t{1} << 62}, 0), Error);
  EXPECT_THROW(view_of(t, Dims{int64_t{1} << 40, int64_t{1} << 40}, Dims{0, 0}, 0), Error);
  EXPECT_NO_THROW(view_of(t, Dims{0}, Dims{1}, 20));
}

TEST(Views, SizesThatOverflowAreErrors) {
  EXPECT_THROW(empty(Dims{int64_t{1} << 40, int64_t{1} << 40}, DType::kF32, Device{}), Error);
  EXPECT_THROW(empty(Dims{-1}, DType::kF32, Device{}), Error);
  EXPECT_EQ(empty(Dims{int64_t{1} << 40, 0, int64_t{1} << 40}, DType::kF32, Device{}).numel(), 0);
  EXPECT_THROW(infer_sizes("view", Dims{int64_t{1} << 32, int64_t{1} << 32}, 0), Error);
}

TEST(Broadcast, FollowsTheRule) {
  Random random(5);
  for (int round = 0; round < 5000; ++round) {
    Dims a, b;
    for (int n = pick(random, 0, 4); n > 0; --n) a.push_back(pick(random, 0, 3));
    for (int n = pick(random, 0, 4); n > 0; --n) b.push_back(pick(random, 0, 3));
    const int dims = std::max(a.size(), b.size());
    Dims wanted = Dims::filled(dims, 0);
    bool valid = true;
    for (int i = 0; i < dims; ++i) {
      const int ia = i - (dims - a.size()), ib = i - (dims - b.size());
      const int64_t x = ia >= 0 ? a[ia] : 1, y = ib >= 0 ? b[ib] : 1;
      valid &= x == y || x == 1 || y == 1;
      wanted[i] = x == 1 ? y : x;
    }
    if (valid) {
      ASSERT_EQ(broadcast_sizes("op", a, b), wanted) << a << b;
    } else {
      ASSERT_THROW(broadcast_sizes("op", a, b), Error) << a << b;
    }
  }
}

TEST(Plan, VisitsEveryElementOnceWithItsOperands) {
  Random random(6);
  for (int round = 0; round < 5000; ++round) {
    const Tensor a = random_view(random), b = random_view(random, DType::kF64);
    Dims sizes;
    try {
      sizes = broadcast_sizes("op", a.sizes(), b.sizes());
    } catch (const Error&) { continue; }
    const Tensor out = empty(sizes, DType::kI8, Device{});
    if (out.numel() == 0) continue;
    const Tensor* inputs[] = {&a, &b};
    const ElementwisePlan plan = plan_elementwise(out, inputs);
    ASSERT_EQ(plan.operands, 3);
    ASSERT_EQ(plan.numel, out.numel());

    using Triple = std::array<int64_t, 3>;  // byte offsets from the storages
    std::multiset<Triple> wanted, got;
    const auto whole = [&](const Tensor& t) { return offsets_of(raw::expand(t, sizes)); };
    const auto oo = offsets_of(out), oa = whole(a), ob = whole(b);
    for (size_t i = 0; i < oo.size(); ++i) wanted.insert({oo[i], oa[i] * 4, ob[i] * 8});
    const char* base[] = {static_cast<char*>(out.storage().data()),
                          static_cast<char*>(a.storage().data()),
                          static_cast<char*>(b.storage().data())};
    const int64_t item[] = {1, 4, 8};
    const auto visit = [&](auto&& step) {
      Triple t;
      for (int k = 0; k < 3; ++k) t[k] = plan.data[k] - base[k] + step(k);
      got.insert(t);
    };
    if (plan.dense) {
      for (int64_t i = 0; i < plan.numel; ++i) visit([&](int k) { return i * item[k]; });
    } else {
      ASSERT_GE(plan.ndim, 1);
      int64_t product = 1;
      for (int i = 0; i < plan.ndim; ++i) product *= plan.sizes[i];
      ASSERT_EQ(product, plan.numel);
      for (int64_t i = 0; i < plan.numel; ++i)
        visit([&](int k) {
          int64_t rest = i, offset = 0;
          for (int d = 0; d < plan.ndim; ++d) {
            offset += rest % plan.sizes[d] * plan.strides[k][d];
            rest /= plan.sizes[d];
          }
          return offset;
        });
    }
    ASSERT_EQ(got, wanted) << a.sizes() << a.strides() << b.sizes() << b.strides();
  }
}

TEST(Plan, MergesWhatLiesInOneRun) {
  const Tensor x = empty(Dims{4, 5, 6}, DType::kF32, Device{}),
               y = empty(Dims{6}, DType::kF32, Device{});
  const Tensor out = empty_like(x);
  const Tensor* row[] = {&x, &y};
  const ElementwisePlan plan = plan_elementwise(out, row);  // one row of 6, 20 times
  EXPECT_FALSE(plan.dense);
  ASSERT_EQ(plan.ndim, 2);
  EXPECT_EQ(plan.sizes[0], 6);
  EXPECT_EQ(plan.sizes[1], 20);
  const Tensor* same[] = {&x, &x};
  EXPECT_TRUE(plan_elementwise(out, same).dense);
}

TEST(Plan, OverlapIsNeverMissed) {
  Random random(8);
  const Tensor base = empty(Dims{4, 4, 4}, DType::kI32, Device{});
  const auto window = [&] {
    Tensor t = base;
    for (int i = 0; i < 3; ++i) {
      const int start = pick(random, 0, 2);
      t = raw::slice(t, i, start, start + 2, 1);
    }
    return pick(random, 0, 1) ? raw::transpose(t, pick(random, 0, 2), pick(random, 0, 2)) : t;
  };
  for (int round = 0; round < 2000; ++round) {
    const Tensor a = window(), b = window();
    const auto oa = offsets_of(a), ob = offsets_of(b);
    bool harm = false;  // an element of b that a writes at another position
    for (size_t i = 0; i < oa.size(); ++i)
      for (size_t j = 0; j < ob.size(); ++j) harm |= oa[i] == ob[j] && i != j;
    if (harm) { ASSERT_TRUE(overlaps_partially(a, b)); }
  }
  EXPECT_FALSE(overlaps_partially(base, base));
  EXPECT_FALSE(overlaps_partially(base, empty_like(base)));
}

}  // namespace
}  // namespace vt
