// The CUDA device floor on a GPU: memory, streams, events, copies, pinned blocks. Skipped, with the
// reason, where there is none; there it must count zero devices and explain itself.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "base/error.h"
#include "device/backend.h"

namespace vt {
namespace {

constexpr Device kGpu{DeviceType::kCUDA, 0};
constexpr Device kHost{};

class CudaDevice : public testing::Test {
 protected:
  void SetUp() override {
    if (gpu.count() == 0) GTEST_SKIP() << cuda_unavailable_reason();
  }
  Backend& gpu = cuda_backend();
};

TEST(CudaWithoutGpu, SaysWhy) {
  if (cuda_backend().count() > 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_FALSE(cuda_unavailable_reason().empty());
  EXPECT_THROW(cuda_backend().allocate(0, 16), Error);
  EXPECT_THROW(check_device(kGpu), Error);
  EXPECT_FALSE(cuda_backend().is_pinned(&kGpu));
}

TEST_F(CudaDevice, KnowsItself) {
  EXPECT_TRUE(cuda_unavailable_reason().empty());
  const DeviceProperties properties = gpu.properties(0);
  EXPECT_FALSE(properties.name.empty());
  EXPECT_GT(properties.total_memory, size_t{1} << 30);
  EXPECT_GT(properties.multiprocessors, 0);
  EXPECT_THROW(gpu.properties(gpu.count()), Error);
}

TEST_F(CudaDevice, BytesComeBackAsTheyWent) {
  for (size_t count : {size_t{1}, size_t{1000}, size_t{3} << 20}) {
    std::vector<uint8_t> out(count), back(count);
    std::iota(out.begin(), out.end(), uint8_t{3});
    void* a = gpu.allocate(0, count);
    void* b = gpu.allocate(0, count);
    copy_bytes(a, kGpu, out.data(), kHost, count);
    copy_bytes(b, kGpu, a, kGpu, count);
    copy_bytes(back.data(), kHost, b, kGpu, count);
    EXPECT_EQ(out, back);
    gpu.zero(0, b, count);
    copy_bytes(back.data(), kHost, b, kGpu, count);
    EXPECT_EQ(back, std::vector<uint8_t>(count));
    gpu.deallocate(0, a, count);
    gpu.deallocate(0, b, count);
  }
}

TEST_F(CudaDevice, FreedMemoryIsReused) {
  const size_t bytes = size_t{40} << 20;
  void* first = gpu.allocate(0, bytes);
  gpu.deallocate(0, first, bytes);
  const uint64_t calls = gpu.memory_stats(0).system_allocations;
  void* second = gpu.allocate(0, bytes);
  EXPECT_EQ(first, second);
  EXPECT_EQ(gpu.memory_stats(0).system_allocations, calls);
  gpu.deallocate(0, second, bytes);
  const size_t reserved = gpu.memory_stats(0).reserved;
  gpu.empty_cache(0);
  EXPECT_LE(gpu.memory_stats(0).reserved + bytes, reserved);
}

TEST_F(CudaDevice, TooMuchIsAnErrorAndLeavesTheDeviceUsable) {
  try {
    gpu.allocate(0, gpu.properties(0).total_memory * 2);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("cuda:0"), std::string::npos);
  }
  gpu.deallocate(0, gpu.allocate(0, 1024), 1024);
  gpu.synchronize(0);
}

TEST_F(CudaDevice, StreamsAreThreadLocalAndEventsOrderThem) {
  const Stream original = gpu.current_stream(0), stream = gpu.create_stream(0, 0);
  gpu.set_current_stream(stream);
  EXPECT_EQ(gpu.current_stream(0), stream);
  std::thread([&] { EXPECT_EQ(gpu.current_stream(0), original); }).join();

  const size_t bytes = size_t{64} << 20;
  void* data = gpu.allocate(0, bytes);
  void* start = gpu.create_event(0, true);
  void* end = gpu.create_event(0, true);
  gpu.record_event(start, stream);
  gpu.zero(0, data, bytes);
  gpu.record_event(end, stream);
  gpu.wait_event(original, end);
  gpu.set_current_stream(original);
  uint8_t last = 1;
  copy_bytes(&last, kHost, static_cast<char*>(data) + bytes - 1, kGpu, 1);
  EXPECT_EQ(last, 0);
  gpu.synchronize_event(end);
  EXPECT_TRUE(gpu.query_event(end));
  EXPECT_GT(gpu.elapsed_ms(start, end), 0);
  EXPECT_TRUE(gpu.query_stream(stream));
  for (void* event : {start, end}) gpu.destroy_event(event);
  gpu.deallocate(0, data, bytes);
  gpu.destroy_stream(stream);
}

TEST_F(CudaDevice, RecordedStreamKeepsMemoryBack) {
  const size_t bytes = size_t{48} << 20;
  const Stream stream = gpu.create_stream(0, 0), original = gpu.current_stream(0);
  void* data = gpu.allocate(0, bytes);
  gpu.set_current_stream(stream);
  for (int i = 0; i < 50; ++i) gpu.zero(0, data, bytes);  // keeps the stream busy for a while
  gpu.set_current_stream(original);
  gpu.record_stream(0, data, stream);
  gpu.deallocate(0, data, bytes);
  void* other = gpu.allocate(0, bytes);
  const bool busy = !gpu.query_stream(stream);
  if (busy) { EXPECT_NE(other, data); }
  gpu.synchronize_stream(stream);
  gpu.deallocate(0, other, bytes);
  gpu.destroy_stream(stream);
}

TEST_F(CudaDevice, PinnedMemoryIsReusedAfterItsCopies) {
  const size_t bytes = size_t{8} << 20;
  auto* block = static_cast<uint8_t*>(gpu.allocate_pinned(bytes));
  EXPECT_TRUE(gpu.is_pinned(block));
  EXPECT_TRUE(gpu.is_pinned(block + bytes / 2));
  std::memset(block, 7, bytes);
  void* data = gpu.allocate(0, bytes);
  gpu.copy(data, kGpu, block, kHost, bytes, true);
  gpu.deallocate_pinned(block, bytes);
  // The copy may still run: a second block of that size is another one until it is done.
  auto* second = static_cast<uint8_t*>(gpu.allocate_pinned(bytes));
  std::memset(second, 9, bytes);
  gpu.synchronize(0);
  std::vector<uint8_t> back(bytes);
  copy_bytes(back.data(), kHost, data, kGpu, bytes);
  EXPECT_EQ(back, std::vector<uint8_t>(bytes, 7));
  gpu.deallocate_pinned(second, bytes);
  gpu.deallocate(0, data, bytes);
  const std::vector<uint8_t> pageable(64);
  EXPECT_FALSE(gpu.is_pinned(pageable.data()));
}

TEST_F(CudaDevice, CopiesBetweenTwoGpus) {
  if (gpu.count() < 2) GTEST_SKIP() << "one GPU only";
  constexpr Device kSecond{DeviceType::kCUDA, 1};
  const size_t bytes = size_t{5} << 20;
  std::vector<uint8_t> out(bytes, 42), back(bytes);
  void* a = gpu.allocate(0, bytes);
  void* b = gpu.allocate(1, bytes);
  copy_bytes(a, kGpu, out.data(), kHost, bytes);
  copy_bytes(b, kSecond, a, kGpu, bytes);
  gpu.zero(0, a, bytes);  // ordered after the copy
  copy_bytes(back.data(), kHost, b, kSecond, bytes);
  EXPECT_EQ(out, back);
  gpu.deallocate(0, a, bytes);
  gpu.deallocate(1, b, bytes);
}

}  // namespace
}  // namespace vt
