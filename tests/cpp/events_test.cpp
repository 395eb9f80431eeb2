// Counters and the ring of events, written by several threads while others read.
#include "fabric/events.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace vt::fabric {
namespace {

constexpr Device kDevice{DeviceType::kCPU, 3};

uint64_t calls_of(EventKind kind, const std::string& what) {
  uint64_t calls = 0;
  for (const Counter& each : counters())
    if (each.kind == kind && each.what == what) calls += each.calls;
  return calls;
}

TEST(Events, CountsByKindNameAndWay) {
  reset_events();
  note(EventKind::kCopy, "copy_test", kDevice, 10);
  note(EventKind::kCopy, "copy_test", kDevice, 20, "slow");
  note(EventKind::kCopy, "copy_test", kDevice, 30, "slow");
  uint64_t slow = 0, plain = 0;
  for (const Counter& each : counters()) {
    if (each.what != "copy_test") continue;
    (each.how == "slow" ? slow : plain) += each.bytes;
  }
  EXPECT_EQ(slow, 50u);
  EXPECT_EQ(plain, 10u);
  ASSERT_EQ(events().size(), 3u);
  EXPECT_EQ(events()[2].bytes, 30u);
  EXPECT_TRUE(events()[2].device == kDevice);
  reset_events();
  EXPECT_TRUE(events().empty());
  EXPECT_EQ(calls_of(EventKind::kCopy, "copy_test"), 0u);
}

TEST(Events, LiteralsOfOneSpellingAreOneCounter) {
  reset_events();
  static const char kFirst[] = "spelled", kSecond[] = "spelled";
  note(EventKind::kFence, kFirst, kDevice, 0);
  note(EventKind::kFence, kSecond, kDevice, 0);
  EXPECT_EQ(calls_of(EventKind::kFence, "spelled"), 2u);
}

TEST(Events, AnEventLastsFromItsStart) {
  reset_events();
  const int64_t start = event_clock();
  note(EventKind::kCollective, "lasting", kDevice, 1, "", start);
  const Event event = events().back();
  EXPECT_EQ(event.start_ns, start);
  EXPECT_GE(event.end_ns, start);
}

TEST(Events, ReadersNeverSeeHalfAnEvent) {
  reset_events();
  constexpr int kWriters = 4, kNotes = 20'000;
  static const char* const kNames[kWriters] = {"w0", "w1", "w2", "w3"};
  std::atomic<int> running{kWriters};
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w)
    writers.emplace_back([&running, w] {
      for (int i = 0; i < kNotes; ++i)
        note(EventKind::kArena, kNames[w], {DeviceType::kCPU, static_cast<uint8_t>(w)},
             static_cast<size_t>(w), kNames[w]);
      --running;
    });
  size_t seen = 0;
  do {
    uint64_t last = 0;
    for (const Event& event : events()) {
      const int w = event.what[1] - '0';
      EXPECT_EQ(event.bytes, static_cast<uint64_t>(w));
      EXPECT_EQ(event.device.index, w);
      EXPECT_STREQ(event.what, event.how);
      EXPECT_GE(event.number, last);
      last = event.number;
      ++seen;
    }
  } while (running > 0);
  for (std::thread& writer : writers) writer.join();
  EXPECT_GT(seen, 0u);
  for (const char* name : kNames)
    EXPECT_EQ(calls_of(EventKind::kArena, name), static_cast<uint64_t>(kNotes));
  EXPECT_EQ(events_noted(), static_cast<uint64_t>(kWriters) * kNotes);
}

}  // namespace
}  // namespace vt::fabric
