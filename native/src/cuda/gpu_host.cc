// The GPU of the emulation: host memory, and everything is done when a call returns.
#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <new>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cuda/gpu.h"

namespace wideseek::cuda {
namespace {

constexpr std::align_val_t kAlignment{256};
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

int64_t bytes_left = kNoLimit;
std::function<bool()> is_lost;
GpuFacts facts{12040, 12040, 1, "", "emulated", 9, 0};
int64_t num_waits = 0;

void* take(int64_t bytes) {
  if (bytes > bytes_left) return nullptr;
  if (bytes_left != kNoLimit) bytes_left -= bytes;
  return ::operator new(static_cast<size_t>(bytes), kAlignment, std::nothrow);
}

// A copy that the device may not have made yet: what it must still find there, and which record comes after it.
struct PinnedCopy {
  const std::byte* source;
  std::vector<std::byte> content;
  int64_t time;
};
std::deque<PinnedCopy> pinned_copies;
int64_t now = 0;
std::map<Event, int64_t> recorded;

// Waits for the copies made up to `time`.
void finish_copies(int64_t time) {
  for (; !pinned_copies.empty() && pinned_copies.front().time <= time; pinned_copies.pop_front()) {
    const PinnedCopy& copy = pinned_copies.front();
    WS_CHECK(std::equal(copy.content.begin(), copy.content.end(), copy.source), kInternal, "upload",
             "pinned memory was written before the device had read it");
  }
}

void check_alive(const char* op) {
  if (!is_lost || !is_lost()) return;
  lose_emulated_device();  // for ever
  throw Error(ErrorCode::kDeviceLost, op, "cudaErrorIllegalAddress: emulated");
}

void refuse_in_recording(const char* op) {
  WS_CHECK(!emulation::is_recording(), kInternal, op, "the stream is being recorded");
}

}  // namespace

void set_emulated_free_bytes(int64_t bytes) { bytes_left = bytes; }
void lose_emulated_device(std::function<bool()> when) { is_lost = std::move(when); }
void repair_emulated_device() { is_lost = nullptr; }
void set_emulated_gpu(const GpuFacts& found) { facts = found; }
int64_t num_emulated_waits() { return num_waits; }

Gpu::Gpu(int index) {
  require_driver(facts, index);
  require_capability(facts);
  pinned_copies.clear();
}
Gpu::~Gpu() = default;
void* Gpu::allocate(int64_t bytes) {
  refuse_in_recording("allocate");
  return take(bytes);
}
void* Gpu::allocate_host(int64_t bytes) {
  refuse_in_recording("allocate");
  return take(bytes);
}
void Gpu::release(void* pointer) noexcept { ::operator delete(pointer, kAlignment); }
void Gpu::release_host(void* pointer) noexcept {
  pinned_copies.clear();  // some may come from there
  ::operator delete(pointer, kAlignment);
}
int64_t Gpu::free_bytes() const { return bytes_left; }

void Gpu::upload(void* device, const void* host, int64_t bytes) {
  ++num_waits;
  copy(device, host, bytes);
}
void Gpu::upload_pinned(void* device, const void* host, int64_t bytes) {
  refuse_in_recording("upload");
  copy(device, host, bytes);
  const auto* source = static_cast<const std::byte*>(host);
  pinned_copies.push_back({source, {source, source + bytes}, ++now});
}
void Gpu::download(void* host, const void* device, int64_t bytes) {
  synchronize();
  copy(host, device, bytes);
}
void Gpu::copy(void* out, const void* source, int64_t bytes) {
  check_alive("copy");
  emulation::give([=] {
    if (bytes > 0) std::memcpy(out, source, static_cast<size_t>(bytes));
  });
}
void Gpu::zero(void* pointer, int64_t bytes) {
  check_alive("zero");
  emulation::give([=] {
    if (bytes > 0) std::memset(pointer, 0, static_cast<size_t>(bytes));
  });
}
void Gpu::synchronize() {
  refuse_in_recording("synchronize");
  ++num_waits;
  check_alive("synchronize");
  finish_copies(now);
}
Event Gpu::create_event() {
  static Event newest = 0;
  return ++newest;
}
void Gpu::destroy_event(Event event) noexcept { recorded.erase(event); }
void Gpu::record(Event event) { recorded[event] = now; }
void Gpu::wait(Event event) {
  ++num_waits;
  check_alive("wait");
  finish_copies(recorded[event]);
}
void Gpu::begin_recording() { emulation::begin_recording(); }
Recording Gpu::end_recording() {
  return std::make_shared<std::vector<std::function<void()>>>(emulation::end_recording());
}
void Gpu::abandon_recording() noexcept { emulation::end_recording(); }
void Gpu::run(const Recording& recording) {
  check_alive("run");
  for (const auto& work : *static_cast<const std::vector<std::function<void()>>*>(recording.get())) work();
}
void Gpu::finish() noexcept {}
void Gpu::poison(void* pointer, int64_t bytes) { std::memset(pointer, 0xff, static_cast<size_t>(bytes)); }
bool Gpu::is_poisoned(const void* pointer, int64_t bytes) const {
  const auto* first = static_cast<const unsigned char*>(pointer);
  return std::all_of(first, first + bytes, [](unsigned char byte) { return byte == 0xff; });
}

}  // namespace wideseek::cuda
