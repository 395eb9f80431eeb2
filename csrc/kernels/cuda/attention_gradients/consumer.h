// How a group of four warps walks through its block's items and their tiles.
#pragma once
#include "kernels/cuda/attention_gradients/group.h"
#include "kernels/cuda/attention_gradients/producer.h"

namespace vt::cuda::attention_gradients {

// Note [Turns]
// A group's work on a tile has two halves: products, and weights out of scores, of which the tensor
// cores know nothing. So groups have the tensor cores in turn, once for each tile of the block: one
// multiplies while the other one weighs. In its turn a group starts the sums of its tile before and
// the scores of this one.
// Note [Ahead]
// Or each group starts what comes next as soon as registers are free, so that products are on their
// way while it weighs: under the exponentials of a tile the gradients of its weights and the last
// sum of the tile before, under the gradients of its scores the sum of values, then the scores of
// the next tile and the sum of keys, or of queries.
template <class F>
struct Consumer : Group<F> {
  using Base = Group<F>;
  using Base::D, Base::N, Base::m, Base::job, Base::group, Base::lane, Base::first, Base::kept,
      Base::sum1, Base::sum2;

  Turn<F::kStages> turn{};  // of the next tile

  using Base::Base;

  __device__ void take_turn() const {
    if constexpr (F::kAhead) return;
    asm volatile("bar.sync %0, 256;" ::"r"(1 + F::kGroups + group) : "memory");
  }
  __device__ void pass_turn() const {
    if constexpr (F::kAhead) return;
    asm volatile("bar.arrive %0, 256;" ::"r"(1 + F::kGroups + (group + 1) % F::kGroups) : "memory");
  }
  __device__ void await_tile() const { await_phase(m.full(turn.stage), turn.parity); }
  // The group has read a stage.
  __device__ void release(int stage) const {
    __syncwarp();
    if (lane == 0) arrive(m.empty(stage));
  }
  // Passes tiles that the block sees and the group does not.
  __device__ void skip(int count) {
    for (int i = 0; i < count; ++i, turn.next()) {
      await_tile();
      take_turn();
      pass_turn();
      release(turn.stage);
    }
  }

  using Weights = Lefts<F::kQueries ? 1 : N / 16>;
  __device__ void start_sums(const Weights& p, const Lefts<N / 16>& ds, int stage) {
    const uint32_t tile = m.tile_at(stage);
    this->start_sum(sum1, ds, tile);
    if constexpr (!F::kQueries) this->start_sum(sum2, p, tile + F::kTileBytes);
  }
  // Starts scores and gradients of weights of the next tile, in a turn that this ends, and waits.
  __device__ void finish_turn(float (&s)[N / 2], float (&d)[N / 2]) {
    const uint32_t tile = m.tile_at(turn.stage);
    this->start_scores(s, this->left1, kept, tile);
    this->start_scores(d, this->left2, kept + F::kKeptBytes, tile + F::kTileBytes);
    end_products();
    pass_turn();
    await_products();
    hold(s);
    hold(d);
  }

  // All that the group sees of an item, of `heads` heads: `seen`. The block sees `all`. The last
  // sums are still on their way, from the stage that this gives, or -1.
  __device__ int sum_up(const Range<F>& all, const Range<F>& seen, int heads) {
    const int before = seen.begin - all.begin;
    int left = seen.count() * heads;
    if (left == 0) {
      skip(all.count() * heads);
      return -1;
    }
    float s[N / 2], d[N / 2];
    Weights p;
    Lefts<N / 16> ds;
    skip(before);
    await_tile();
    take_turn();
    begin_products();
    finish_turn(s, d);
    int t = seen.begin, stage = turn.stage;
    this->weigh(p, s, t, stage);
    this->differentiate(ds, s, d, stage);
    turn.next();
#pragma unroll 1
    while (--left > 0) {
      ++t;
      if (!F::kQueries && t == seen.end) {
        t = seen.begin;
        skip(before);
      }
      await_tile();
      take_turn();
      begin_products();
      start_sums(p, ds, stage);
      if constexpr (F::kShort) {
        end_products();
        await_products();
        release(stage);
        begin_products();
      }
      finish_turn(s, d);
      if constexpr (!F::kShort) release(stage);
      stage = turn.stage;
      this->weigh(p, s, t, stage);
      this->differentiate(ds, s, d, stage);
      turn.next();
    }
    begin_products();
    start_sums(p, ds, stage);
    end_products();
    return stage;
  }

  // The same. Note [Ahead]
  __device__ int sum_ahead(const Range<F>& all, const Range<F>& seen, int heads) {
    const int before = seen.begin - all.begin;
    int left = seen.count() * heads;
    if (left == 0) {
      skip(all.count() * heads);
      return -1;
    }
    float s[N / 2], d[N / 2];
    Weights p;
    Lefts<N / 16> ds;
    int t = seen.begin, stage = 0, read = -1;  // read: a stage that products in flight may read
    const auto start_scores = [&] {
      await_tile();
      stage = turn.stage;
      turn.next();
      begin_products();
      this->start_scores(s, this->left1, kept, m.tile_at(stage));
      end_products();
    };
    const auto start_first_sum = [&](int its_stage) {
      begin_products();
      this->start_sum(sum1, ds, m.tile_at(its_stage));
      end_products();
    };
    const auto weigh = [&] {
      const uint32_t tile = m.tile_at(stage) + F::kTileBytes;
      begin_products();
      this->start_scores(d, this->left2, kept + F::kKeptBytes, tile);
      end_products();
      this->weigh(p, s, t, stage);
      if constexpr (!F::kQueries) {
        begin_products();
        this->start_sum(sum2, p, tile);
        end_products();
      }
      await_products<F::kQueries ? 0 : 1>();
      hold(d);
      if (read >= 0) release(read);
      this->differentiate(ds, s, d, stage);
      read = stage;
    };
    skip(before);
    start_scores();
    await_products();
    hold(s);
#pragma unroll 1
    while (--left > 0) {
      weigh();
      ++t;
      if (!F::kQueries && t == seen.end) {
        t = seen.begin;
        skip(before);
      }
      start_scores();
      start_first_sum(read);
      await_products<1>();
      hold(s);
    }
    weigh();
    start_first_sum(read);
    return stage;
  }

  // Sums go to memory by way of kept rows, which nothing needs any more.
  __device__ void store(const Item& item, uint32_t rows, const Maps& maps) {
    hold(sum1);
    hold(sum2);
    meet_group(group);  // all have read what was kept
    this->put(rows, sum1, job.scale);
    if constexpr (!F::kQueries) this->put(rows + F::kKeptBytes, sum2, 1.f);
    publish_writes();
    meet_group(group);
    const int row = item.tile * F::kRows + group * 64;
    const int count = F::kQueries ? job.queries : job.keys;
    if (threadIdx.x % 128 == 0) {
      if (row < count) {
#pragma unroll
        for (int i = 0; i < (F::kQueries ? 1 : 2); ++i)
#pragma unroll
          for (int part = 0; part < D / 64; ++part)
            store_box(maps.made[i], rows + i * F::kKeptBytes + part * F::kRows * 128, part * 64,
                      row, item.head, item.batch);
      }
    }
    if (job.sums[0]) {
      const int64_t at = (int64_t{item.batch} * job.order.tiles + item.tile) * kSumsOfItem +
                         group * 4 + this->warp;
      const int64_t to = (at * (F::kQueries ? job.heads : job.kv_heads) + item.head) * D;
      this->put_columns(job.sums[0] + to, sum1, job.scale, row, count);
      if constexpr (!F::kQueries) this->put_columns(job.sums[1] + to, sum2, 1.f, row, count);
    }
    if (threadIdx.x % 128 == 0) await_stores();
  }

  // Makes an item the one at hand, number n.
  __device__ void enter(const Item& item, int n) {
    first = item.tile * F::kRows + group * 64;
    await_phase(m.kept_full(n % 2), n / 2 % 2);
    kept = m.kept_at(n % 2) + group * 64 * 128;
    if constexpr (F::kQueries) this->make_rows(item);
    this->hold_left(this->left1, kept);
    this->hold_left(this->left2, kept + F::kKeptBytes);
  }

  __device__ void run(const Maps& maps) {
    const int heads = F::kQueries ? 1 : job.heads / job.kv_heads;
    if (group == F::kGroups - 1) pass_turn();
    int n = 0, round = 0;
    Item item(job, F::kQueries, round);  // no block is without one
    if constexpr (F::kQueries) this->load_rows_of(item);
    enter(item, n);
    while (!item.none) {
      this->clear();
      const Range<F> all(job, item.tile * F::kRows, F::kRows), seen(job, first, 64);
      int stage;
      if constexpr (F::kAhead) stage = sum_ahead(all, seen, heads);
      else stage = sum_up(all, seen, heads);
      const Item done = item;
      const uint32_t rows = kept;
      // An incomplete round is the last.
      item = Item(job, F::kQueries, ++round);
      if constexpr (F::kQueries)
        if (!item.none) this->load_rows_of(item);
      await_products();
      if (stage >= 0) {
        release(stage);
        skip(all.end - seen.end);
      }
      if (!item.none) enter(item, n + 1);
      store(done, rows, maps);
      if (threadIdx.x % 128 == 0) arrive(m.kept_empty(n % 2));
      ++n;
    }
    if (group == 0) take_turn();
  }
};

}  // namespace vt::cuda::attention_gradients
