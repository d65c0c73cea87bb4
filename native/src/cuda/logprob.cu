// Log-probabilities in the reduction order of cpu/logprob.cc, which sampling shares, and their gradient.
#include "cuda/logprob.h"

#include <algorithm>
#include <limits>

#include "cuda/elementwise.h"
#include "cuda/run.h"

namespace wideseek::cuda {
namespace {

// ---- forward: the maxima of parts of rows, which any order gives, then the sums of whole rows

constexpr int kWidth = 4;         // consecutive elements of a thread
constexpr int kRunsInFlight = 4;  // of a thread
constexpr int kMaxBlock = 256;
constexpr int kMaxParts = 16;  // of a row

__device__ __forceinline__ float larger(float a, float b) { return a > b ? a : b; }

__global__ void part_max_kernel(float* part_max, const float* logits, int64_t V, int64_t part_size, bool aligned) {
  const float* row = logits + blockIdx.x * V;
  const int64_t begin = blockIdx.y * part_size;
  const int64_t end = begin + part_size < V ? begin + part_size : V;
  float largest = -std::numeric_limits<float>::infinity();
  constexpr int64_t kBlockElements = kMaxBlock * kWidth;
  for (int64_t first = begin + threadIdx.x * kWidth; first < end; first += kRunsInFlight * kBlockElements) {
    Run<float, kWidth> runs[kRunsInFlight];
    WS_UNROLL
    for (int u = 0; u < kRunsInFlight; ++u) {
      const int64_t i = first + u * kBlockElements;
      runs[u] = load_run<kWidth>(row + i, end - i, aligned);
      WS_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        if (i + k >= end) runs[u].v[k] = -std::numeric_limits<float>::infinity();
      }
    }
    WS_UNROLL
    for (const auto& run : runs) {
      WS_UNROLL
      for (int k = 0; k < kWidth; ++k) largest = larger(largest, run.v[k]);
    }
  }
  __shared__ float warp_max[kMaxBlock / 32];
  for (int mask = 16; mask > 0; mask /= 2) largest = larger(largest, __shfl_xor_sync(0xffffffffu, largest, mask));
  if (threadIdx.x % 32 == 0) warp_max[threadIdx.x / 32] = largest;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kMaxBlock / 32; ++warp) largest = larger(largest, warp_max[warp]);
  part_max[blockIdx.x * kMaxParts + blockIdx.y] = largest;
}

constexpr int kWarp = 32;
constexpr int kSumBlock = 64;  // small: a chunk has 13 rows for each multiprocessor, to be shared out evenly
constexpr int kSumRows = kSumBlock / kWarp;
constexpr int kBatch = 16;  // elements that a thread reads ahead
constexpr int64_t kBatchElements = int64_t{kBatch} * kWarp;

// Element `lane` of 16 runs of 32, from element `first` of the row on.
struct Batch {
  float v[kBatch];
};

__device__ __forceinline__ Batch load_batch(const float* row, int64_t first, int lane, int64_t V) {
  Batch batch;
  const float* from = row + first + lane;
  const auto left = static_cast<int>(V - first < kBatchElements ? V - first : kBatchElements) - lane;
  WS_UNROLL
  for (int u = 0; u < kBatch; ++u) batch.v[u] = u * kWarp < left ? from[u * kWarp] : 0.0f;
  return batch;
}

// The sums of logprob_entropy_row (cpu/row_kernels_body.h), by one warp. Its vectors are 16 wide and go round four
// accumulators, so an even vector is in the lower half of the warp and that half has accumulators 0 and 2, the upper
// one 1 and 3. The entropy's terms have one accumulator: the lower half adds its own term, then the upper half's.
struct LaneSums {
  float sum[2];
  float weighted;  // of the lower half; not used in the upper

  template <bool kWhole>
  __device__ __forceinline__ void add(const Batch& batch, int left, float shift, float scale) {
    WS_UNROLL
    for (int u = 0; u < kBatch; ++u) {
      const float z = (batch.v[u] - shift) * scale;
      const float e = exp(z);
      const float term = e * larger(z, -104.0f);
      const float next_term = __shfl_xor_sync(0xffffffffu, term, kWarp / 2);
      if (kWhole || u * kWarp < left) {
        sum[u % 2] += e;
        weighted += term;
      }
      if (kWhole || u * kWarp + kWarp / 2 < left) weighted += next_term;
    }
  }
};

__global__ void __launch_bounds__(kSumBlock)
    row_sums_kernel(float* row_max, float* row_log_sum, float* row_entropy, const float* part_max, const float* logits,
                    int num_parts, int64_t R, int64_t V, float inv_temperature) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kSumRows + threadIdx.x / kWarp;
  if (r >= R) return;  // a whole warp
  const int lane = threadIdx.x % kWarp;
  const float* row = logits + r * V;
  Batch batch = load_batch(row, 0, lane, V);
  float largest = part_max[r * kMaxParts + (lane < num_parts ? lane : 0)];
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    largest = larger(largest, __shfl_xor_sync(0xffffffffu, largest, mask));
  }
  LaneSums sums{};
  int64_t first = 0;
  for (; first + kBatchElements <= V; first += kBatchElements) {
    const Batch next = load_batch(row, first + kBatchElements, lane, V);
    sums.add<true>(batch, 0, largest, inv_temperature);
    batch = next;
  }
  if (first < V) sums.add<false>(batch, static_cast<int>(V - first) - lane, largest, inv_temperature);
  for (float& sum : sums.sum) sum += __shfl_xor_sync(0xffffffffu, sum, kWarp / 2);
  float total = sums.sum[0] + sums.sum[1];
  for (int mask = kWarp / 4; mask > 0; mask /= 2) {
    total += __shfl_xor_sync(0xffffffffu, total, mask);
    sums.weighted += __shfl_xor_sync(0xffffffffu, sums.weighted, mask);
  }
  if (lane != 0) return;
  const float log_sum = log(total);
  row_max[r] = largest;
  row_log_sum[r] = log_sum;
  row_entropy[r] = log_sum - __fdiv_rn(sums.weighted, total);
}

constexpr int kBlock = 256;

Launch over(int64_t count) { return {static_cast<unsigned>(ceil_div<int64_t>(count, kBlock)), kBlock}; }

__global__ void target_logprobs_kernel(float* logprobs, const float* logits, const float* row_max,
                                       const float* row_log_sum, Targets targets, int64_t V, float inv_temperature) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (k >= targets.num_targets) return;
  const int64_t r = targets.rows[k];
  logprobs[k] = (logits[r * V + targets.tokens[k]] - row_max[r]) * inv_temperature - row_log_sum[r];
}

// ---- backward: d logprob_k / d logit_j = ([j is token k] - softmax_j) / T

// For a result that is stored as T, see elementwise.h.
template <typename T>
__device__ __forceinline__ float softmax_gradient(float logit, float shift, float log_sum, float inv_temperature,
                                                  float factor) {
  const float logprob = (logit - shift) * inv_temperature - log_sum;
#if !defined(WIDESEEK_CUDA_EMULATION)
  if constexpr (std::is_same_v<T, BF16>) return factor * __expf(logprob);
#endif
  return factor * exp(logprob);
}

// factors [R] = -(sum over the row's targets of dlogprob) / T.
__global__ void row_factors_kernel(float* factors, const float* dlogprobs, Targets targets, int64_t R,
                                   float inv_temperature) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (r >= R) return;
  int64_t first = 0, end = targets.num_targets;  // of the targets that may be the row's first
  while (first < end) {
    const int64_t middle = (first + end) / 2;
    if (targets.rows[middle] < r) {
      first = middle + 1;
    } else {
      end = middle;
    }
  }
  float sum = 0;
  for (int64_t k = first; k < targets.num_targets && targets.rows[k] == r; ++k) sum += dlogprobs[k];
  factors[r] = -sum * inv_temperature;
}

template <typename T>
__global__ void __launch_bounds__(kBlock)
    softmax_gradient_kernel(T* dlogits, const float* logits, const float* factors, const float* row_max,
                            const float* row_log_sum, int64_t V, float inv_temperature, bool aligned) {
  constexpr int64_t kBlockElements = kBlock * kWidth;
  const int64_t r = blockIdx.x;
  const int64_t first = blockIdx.y * kRunsInFlight * kBlockElements + threadIdx.x * kWidth;
  Run<float, kWidth> runs[kRunsInFlight];
  WS_UNROLL
  for (int u = 0; u < kRunsInFlight; ++u) {
    const int64_t i = first + u * kBlockElements;
    runs[u] = load_run<kWidth>(logits + r * V + i, V - i, aligned);
  }
  const float factor = factors[r], shift = row_max[r], log_sum = row_log_sum[r];
  WS_UNROLL
  for (int u = 0; u < kRunsInFlight; ++u) {
    const int64_t i = first + u * kBlockElements;
    Run<T, kWidth> out;
    WS_UNROLL
    for (int k = 0; k < kWidth; ++k) {
      out.v[k] = from_float<T>(softmax_gradient<T>(runs[u].v[k], shift, log_sum, inv_temperature, factor));
    }
    store_run(dlogits + r * V + i, V - i, aligned, out);
  }
}

// The thread of a row's first target adds the terms of the tokens, in order: several targets may name one token. bf16
// values are made anew from the logits and rounded once: near probability 1 the two terms cancel. fp32 logits may be
// gone, and fp32 values need no care.
template <typename T>
__global__ void add_targets_kernel(T* dlogits, const float* logits, const float* dlogprobs, const float* factors,
                                   const float* row_max, const float* row_log_sum, Targets targets, int64_t V,
                                   float inv_temperature) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (first >= targets.num_targets) return;
  const int64_t r = targets.rows[first];
  if (first > 0 && targets.rows[first - 1] == r) return;
  int64_t end = first + 1;
  while (end < targets.num_targets && targets.rows[end] == r) ++end;
  for (int64_t k = first; k < end; ++k) {
    const int64_t token = targets.tokens[k];
    T* out = dlogits + r * V + token;
    if constexpr (std::is_same_v<T, float>) {
      *out += dlogprobs[k] * inv_temperature;
    } else {
      float value = softmax_gradient<T>(logits[r * V + token], row_max[r], row_log_sum[r], inv_temperature, factors[r]);
      for (int64_t other = first; other < end; ++other) {
        if (targets.tokens[other] == token) value += dlogprobs[other] * inv_temperature;
      }
      *out = from_float<T>(value);
    }
  }
}

bool rows_aligned(const float* logits, int64_t V) { return V % kWidth == 0 && is_aligned(logits, 16); }

}  // namespace

int64_t logprob_forward_scratch(int64_t R) { return kMaxParts * R; }

void logprob_forward(Stream stream, float* logprobs, float* row_max, float* row_log_sum, float* row_entropy,
                     const float* logits, const Targets& targets, int64_t R, int64_t V, float temperature,
                     float* scratch) {
  const float inv_temperature = 1.0f / temperature;
  constexpr int64_t kLeastPart = int64_t{kMaxBlock} * kWidth * kRunsInFlight;
  const int64_t most_parts = std::min<int64_t>(kMaxParts, ceil_div(V, kLeastPart));
  const int64_t part_size = ceil_div(V, most_parts * kWidth) * kWidth;
  const auto num_parts = static_cast<int>(ceil_div(V, part_size));
  launch(part_max_kernel, {dim3(static_cast<unsigned>(R), static_cast<unsigned>(num_parts)), kMaxBlock}, stream,
         scratch, logits, V, part_size, rows_aligned(logits, V));
  launch(row_sums_kernel, {static_cast<unsigned>(ceil_div<int64_t>(R, kSumRows)), kSumBlock}, stream, row_max,
         row_log_sum, row_entropy, scratch, logits, num_parts, R, V, inv_temperature);
  launch(target_logprobs_kernel, over(targets.num_targets), stream, logprobs, logits, row_max, row_log_sum, targets, V,
         inv_temperature);
}

int64_t logprob_backward_scratch(int64_t R) { return R; }

void logprob_backward(Stream stream, TypedPointer dlogits, const float* logits, const float* dlogprobs,
                      const float* row_max, const float* row_log_sum, const Targets& targets, int64_t R, int64_t V,
                      float temperature, float* scratch) {
  const float inv_temperature = 1.0f / temperature;
  launch(row_factors_kernel, over(R), stream, scratch, dlogprobs, targets, R, inv_temperature);
  with_element_type(dlogits.dtype, [&](auto type) {
    using T = decltype(type);
    auto* const out = static_cast<T*>(dlogits.data);
    constexpr int64_t kBlockElements = int64_t{kBlock} * kWidth * kRunsInFlight;
    const auto blocks = static_cast<unsigned>(ceil_div(V, kBlockElements));
    launch(softmax_gradient_kernel<T>, {dim3(static_cast<unsigned>(R), blocks), kBlock}, stream, out, logits, scratch,
           row_max, row_log_sum, V, inv_temperature, rows_aligned(logits, V) && is_aligned(out, kWidth * sizeof(T)));
    launch(add_targets_kernel<T>, over(targets.num_targets), stream, out, logits, dlogprobs, scratch, row_max,
           row_log_sum, targets, V, inv_temperature);
  });
}

}  // namespace wideseek::cuda
