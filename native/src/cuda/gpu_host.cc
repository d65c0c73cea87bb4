// The GPU of the emulation: host memory, and everything is done when a call returns.
#include <algorithm>
#include <cstring>
#include <limits>
#include <new>

#include "base/error.h"
#include "cuda/gpu.h"

namespace wideseek::cuda {
namespace {

constexpr std::align_val_t kAlignment{256};
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

int64_t bytes_left = kNoLimit;
bool lost = false;

void* take(int64_t bytes) {
  if (bytes > bytes_left) return nullptr;
  if (bytes_left != kNoLimit) bytes_left -= bytes;
  return ::operator new(static_cast<size_t>(bytes), kAlignment, std::nothrow);
}

void check_alive(const char* op) { WS_CHECK(!lost, kDeviceLost, op, "cudaErrorIllegalAddress: emulated"); }

}  // namespace

void set_emulated_free_bytes(int64_t bytes) { bytes_left = bytes; }
void lose_emulated_device() { lost = true; }

Gpu::Gpu(int) { lost = false; }
Gpu::~Gpu() = default;
void* Gpu::allocate(int64_t bytes) { return take(bytes); }
void* Gpu::allocate_host(int64_t bytes) { return take(bytes); }
void Gpu::release(void* pointer) noexcept { ::operator delete(pointer, kAlignment); }
void Gpu::release_host(void* pointer) noexcept { ::operator delete(pointer, kAlignment); }
int64_t Gpu::free_bytes() const { return bytes_left; }

void Gpu::upload(void* device, const void* host, int64_t bytes) { copy(device, host, bytes); }
void Gpu::download(void* host, const void* device, int64_t bytes) { copy(host, device, bytes); }
void Gpu::copy(void* out, const void* source, int64_t bytes) {
  check_alive("copy");
  if (bytes > 0) std::memcpy(out, source, static_cast<size_t>(bytes));
}
void Gpu::zero(void* pointer, int64_t bytes) {
  check_alive("zero");
  if (bytes > 0) std::memset(pointer, 0, static_cast<size_t>(bytes));
}
void Gpu::synchronize() { check_alive("synchronize"); }
void Gpu::poison(void* pointer, int64_t bytes) { std::memset(pointer, 0xff, static_cast<size_t>(bytes)); }
bool Gpu::is_poisoned(const void* pointer, int64_t bytes) const {
  const auto* first = static_cast<const unsigned char*>(pointer);
  return std::all_of(first, first + bytes, [](unsigned char byte) { return byte == 0xff; });
}

}  // namespace wideseek::cuda
