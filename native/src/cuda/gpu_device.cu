// The CUDA runtime: which GPUs are taken and why others are not, memory and copies.
#include "base/error.h"
#include "cuda/gpu.h"

namespace wideseek::cuda {
namespace {

constexpr const char* kOp = "CUDA";

std::string version_text(int version) {  // 12020 is 12.2
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

[[noreturn]] void unsupported(const std::string& message) { throw Error(ErrorCode::kUnsupported, kOp, message); }

// Throws unless the driver is there, is new enough and has GPU `index`.
void require_gpu(int index) {
  int driver = 0, runtime = 0, count = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) unsupported("no CUDA device: the NVIDIA driver is not installed");
  if (driver / 1000 < runtime / 1000) {
    unsupported("the NVIDIA driver is too old: it supports CUDA " + version_text(driver) + ", this build needs " +
                std::to_string(runtime / 1000) + ".0 or newer; update the driver, or build with an older nvcc");
  }
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    unsupported(std::string("no CUDA device: ") +
                (status == cudaSuccess ? "the driver sees none" : cudaGetErrorString(status)));
  }
  if (index < 0 || index >= count) {
    unsupported("no CUDA device " + std::to_string(index) + ": the driver sees " + std::to_string(count));
  }
}

}  // namespace

Gpu::Gpu(int index) {
  require_gpu(index);
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  if (properties.major < 8) {
    unsupported(std::string("the GPU ") + properties.name + " has compute capability " +
                std::to_string(properties.major) + "." + std::to_string(properties.minor) + ", 8.0 or later is needed");
  }
  check(cudaSetDevice(index), "cudaSetDevice");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
}

Gpu::~Gpu() { cudaStreamDestroy(stream_); }

void* Gpu::allocate(int64_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // this one does not stick
    return nullptr;
  }
  check(status, "cudaMalloc");
  return pointer;
}

void* Gpu::allocate_host(int64_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaHostAlloc(&pointer, static_cast<size_t>(bytes), cudaHostAllocDefault);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaHostAlloc");
  return pointer;
}

void Gpu::release(void* pointer) noexcept { cudaFree(pointer); }
void Gpu::release_host(void* pointer) noexcept { cudaFreeHost(pointer); }

int64_t Gpu::free_bytes() const {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return static_cast<int64_t>(free);
}

// "Device" memory may be pinned host memory, and a copy between host arrays would not wait for the stream by itself.
void Gpu::upload(void* device, const void* host, int64_t bytes) {
  synchronize();
  copy(device, host, bytes);
}

void Gpu::upload_pinned(void* device, const void* host, int64_t bytes) { copy(device, host, bytes); }

void Gpu::download(void* host, const void* device, int64_t bytes) {
  synchronize();
  copy(host, device, bytes);
  synchronize();
}

void Gpu::copy(void* out, const void* source, int64_t bytes) {
  check(cudaMemcpyAsync(out, source, static_cast<size_t>(bytes), cudaMemcpyDefault, stream_), "copy");
}

void Gpu::zero(void* pointer, int64_t bytes) {
  check(cudaMemsetAsync(pointer, 0, static_cast<size_t>(bytes), stream_), "zero");
}

void Gpu::synchronize() { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

Event Gpu::create_event() {
  Event event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  return event;
}
void Gpu::destroy_event(Event event) noexcept { cudaEventDestroy(event); }
void Gpu::record(Event event) { check(cudaEventRecord(event, stream_), "cudaEventRecord"); }
void Gpu::wait(Event event) { check(cudaEventSynchronize(event), "cudaEventSynchronize"); }

void Gpu::poison(void*, int64_t) {}
bool Gpu::is_poisoned(const void*, int64_t) const { return true; }

}  // namespace wideseek::cuda
