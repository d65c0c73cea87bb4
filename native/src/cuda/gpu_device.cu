// The CUDA runtime: the GPU that is taken, its memory and copies.
#include "cuda/gpu.h"
#include "cuda/gpu_facts.h"

namespace wideseek::cuda {
namespace {

GpuFacts driver_facts() {
  GpuFacts facts;
  cudaDriverGetVersion(&facts.driver_version);
  cudaRuntimeGetVersion(&facts.runtime_version);
  if (facts.driver_version == 0) return facts;
  const cudaError_t status = cudaGetDeviceCount(&facts.num_gpus);
  if (status != cudaSuccess) facts.count_error = cudaGetErrorString(status);
  return facts;
}

}  // namespace

Gpu::Gpu(int index) {
  GpuFacts facts = driver_facts();
  require_driver(facts, index);
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  facts.name = properties.name;
  facts.major = properties.major;
  facts.minor = properties.minor;
  require_capability(facts);
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

void Gpu::begin_recording() {
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

Recording Gpu::end_recording() {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiateWithFlags(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  return {executable, [](cudaGraphExec_t own) { cudaGraphExecDestroy(own); }};
}

void Gpu::abandon_recording() noexcept {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(stream_, &status);
  cudaGraph_t graph = nullptr;
  if (status != cudaStreamCaptureStatusNone) cudaStreamEndCapture(stream_, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();  // errors of a capture do not stick
}

void Gpu::run(const Recording& recording) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording.get()), stream_), "cudaGraphLaunch");
}

void Gpu::finish() noexcept { cudaStreamSynchronize(stream_); }

void Gpu::poison(void*, int64_t) {}
bool Gpu::is_poisoned(const void*, int64_t) const { return true; }

}  // namespace wideseek::cuda
