// Live values of graphs, and the list of captures that are under way.
#include "device/capture.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "device/backend.h"
#include "device/deferred.h"

namespace vt {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<Capture*> active;
};

Registry& registry() {
  static auto* const instance = new Registry;
  return *instance;
}

// Memory that is not the captured stream's. In the graph's pool the block could have served an
// intermediate earlier in the step, and a replay would write that over the values again.
void* allocate_apart(Device device, size_t bytes) {
  Backend& own = backend(device);
  const Stream captured = own.current_stream(device.index);
  own.set_current_stream({device, nullptr});
  try {
    void* data = own.allocate(device.index, bytes);
    own.set_current_stream(captured);
    return data;
  } catch (...) {
    own.set_current_stream(captured);
    throw;
  }
}

}  // namespace

namespace detail {

std::atomic<int> active_captures{0};

Capture* find_capture(Device device) {
  if (device.is_cpu()) return nullptr;
  return capture_of(backend(device).current_stream(device.index));
}

}  // namespace detail

Capture* capture_of(Stream stream) {
  const uint64_t id = backend(stream.device).capture_id(stream);
  if (id == 0) return nullptr;
  std::lock_guard lock(registry().mutex);
  for (Capture* capture : registry().active)
    if (capture->has_id(id)) return capture;
  return nullptr;  // another library's
}

void refuse_in_capture(const char* op, const char* why) {
  fail(ErrorKind::kRuntime, op, ": cannot be captured: ", why);
}

Capture::~Capture() {
  for (auto& part : parts_) {
    Backend& own = backend(part->device);
    for (auto& chunk : part->chunks) {
      if (part->replayed_on.handle)
        own.record_stream(part->device.index, chunk->data, part->replayed_on);
      own.deallocate(part->device.index, chunk->data, sizeof chunk->host);
    }
    for (const Block& block : part->blocks) {
      if (part->replayed_on.handle)
        own.record_stream(part->device.index, block.data, part->replayed_on);
      own.deallocate(part->device.index, block.data, block.bytes);
    }
  }
}

void Capture::add_guest(std::shared_ptr<ReplayGuest> guest) {
  std::lock_guard lock(registry().mutex);
  if (std::find(guests_.begin(), guests_.end(), guest) == guests_.end())
    guests_.push_back(std::move(guest));
}

void Capture::enter(std::span<const uint64_t> ids) {
  std::lock_guard lock(registry().mutex);
  ids_.assign(ids.begin(), ids.end());
  registry().active.push_back(this);
  ++detail::active_captures;
}

void Capture::leave() {
  std::lock_guard lock(registry().mutex);
  if (std::erase(registry().active, this) > 0) --detail::active_captures;
  ids_.clear();
}

bool Capture::has_id(uint64_t id) const {
  return std::find(ids_.begin(), ids_.end(), id) != ids_.end();
}

Capture::Part& Capture::part_of(Device device) {
  for (auto& part : parts_)
    if (part->device == device) return *part;
  parts_.push_back(std::make_unique<Part>(device));
  return *parts_.back();
}

uint64_t* Capture::take_words(Part& part, int count, uint64_t** host) {
  if (part.chunks.empty() || part.chunks.back()->used + count > kChunkWords) {
    auto chunk = std::make_unique<Chunk>();
    chunk->data = static_cast<uint64_t*>(allocate_apart(part.device, sizeof chunk->host));
    chunk->used = part.chunks.empty() ? 2 : 0;
    chunk->host.fill(0);
    part.chunks.push_back(std::move(chunk));
  }
  Chunk& chunk = *part.chunks.back();
  *host = chunk.host.data() + chunk.used;
  uint64_t* const data = chunk.data + chunk.used;
  chunk.used += count;
  return data;
}

PhiloxState Capture::reserve_random(Device device, uint64_t count) {
  run_deferred();  // what it runs may look for its capture, under the same lock
  std::lock_guard lock(registry().mutex);  // the workers of several devices may draw at once
  Part& part = part_of(device);
  uint64_t* host = nullptr;
  if (part.chunks.empty()) take_words(part, 0, &host);
  const PhiloxState state(part.chunks[0]->data, part.random_count);
  part.random_count += count;
  return state;
}

Capture::Slot Capture::add_value(Device device, const void* value, size_t bytes) {
  run_deferred();
  std::lock_guard lock(registry().mutex);
  VT_CHECK(bytes > 0 && bytes <= kMaxValueBytes, kValue, "live value: ", bytes,
           " bytes are not 1 to ", kMaxValueBytes);
  uint64_t* host = nullptr;
  const uint64_t* data = take_words(part_of(device), static_cast<int>((bytes + 7) / 8), &host);
  std::memcpy(host, value, bytes);
  values_.push_back({host, bytes});
  return {static_cast<int>(values_.size()) - 1, data};
}

void* Capture::take_workspace(Device device, size_t bytes, std::vector<const void*> after) {
  constexpr size_t kBlock = size_t{256} << 10;
  bytes = (bytes + 255) / 256 * 256;
  std::lock_guard lock(registry().mutex);
  Part& part = part_of(device);
  if (part.blocks.empty() || part.blocks.back().bytes - part.blocks.back().used < bytes) {
    const size_t size = std::max(kBlock, bytes);
    part.blocks.push_back({static_cast<char*>(allocate_apart(device, size)), 0, size});
  }
  Block& block = part.blocks.back();
  char* const data = block.data + block.used;
  block.used += bytes;
  const int number = static_cast<int>(part.blocks.size()) - 1;
  workspaces_.push_back({device, data, bytes, number, std::move(after)});
  return data;
}

size_t Capture::value_bytes(int number) const {
  return number >= 0 && number < value_count() ? values_[number].bytes : 0;
}

void Capture::set_value(int number, const void* value, size_t bytes) {
  VT_CHECK(value_bytes(number) == bytes && bytes > 0, kValue, "live value: the graph has no value ",
           number, " of ", bytes, " bytes");
  std::memcpy(values_[number].host, value, bytes);
}

void Capture::prepare_replay() {
  for (auto& part : parts_) {
    if (part->random_count > 0) {
      const PhiloxStart start = default_generator(part->device).reserve(part->random_count);
      part->chunks[0]->host[0] = start.seed;
      part->chunks[0]->host[1] = start.offset;
    }
    part->replayed_on = backend(part->device).current_stream(part->device.index);
    for (auto& chunk : part->chunks)
      backend(part->device)
          .write_words(part->device.index, chunk->data, chunk->host.data(), chunk->used);
  }
}

}  // namespace vt
