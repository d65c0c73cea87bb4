// One block draws one token. Filters are thresholds on the bits of probabilities, found digit by digit from histograms;
// a draw is a search in the running sum of masses. Both count in integers (base/sampling.h), so threads may add in any
// order.
#include "cuda/sample.h"

#include <algorithm>
#include <vector>

#include "cuda/elementwise.h"

namespace wideseek::cuda {
namespace {

constexpr int kBlock = 512;
constexpr int kWarps = kBlock / 32;
constexpr int kParts = 256;   // of a row, whose masses are summed before the search looks inside one
constexpr int kDigits = 256;  // bins of a histogram
constexpr unsigned kWholeWarp = 0xffffffffu;

using Mass = unsigned long long;  // as atomicAdd takes it

// A request as the kernel takes it: what the host can know is worked out there.
struct alignas(8) Draw {
  uint64_t bits;
  float inv_temperature;
  float top_p, min_p;
  int32_t top_k;
  int32_t greedy;
};

struct Row {
  const float* logits;
  int64_t V;
  float max, log_sum, inv_temperature;

  // As RowKernels::scaled_softmax.
  __device__ __forceinline__ float probability(int64_t i) const {
    return exp((logits[i] - max) * inv_temperature - log_sum);
  }
};

__device__ __forceinline__ Mass mass_of(float probability) {
#if defined(WIDESEEK_CUDA_EMULATION)
  return static_cast<Mass>(exact_mass(probability));
#else
  return __float2ull_rn(probability * 0x1p48f);
#endif
}

__device__ __forceinline__ Mass target_of(uint64_t bits, Mass total) {
#if defined(WIDESEEK_CUDA_EMULATION)
  return draw_target(bits, total);
#else
  return __umul64hi(bits, total);
#endif
}

__device__ __forceinline__ void add_to(Mass& sum, Mass value) {
#if defined(WIDESEEK_CUDA_EMULATION)
  sum += value;  // threads run one at a time
#else
  atomicAdd(&sum, value);
#endif
}

__device__ __forceinline__ Mass warp_sum(Mass value) {
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(kWholeWarp, value, mask);
  return value;
}

__device__ __forceinline__ int warp_min(int value) {
  for (int mask = 16; mask > 0; mask /= 2) {
    const int other = __shfl_xor_sync(kWholeWarp, value, mask);
    value = other < value ? other : value;
  }
  return value;
}

// The first of the largest values, and whether all are finite; all threads get them.
struct Survey {
  float largest;
  int32_t token;
  int32_t finite;

  __device__ __forceinline__ void merge(const Survey& other) {
    if (other.largest > largest || (other.largest == largest && other.token < token)) {
      largest = other.largest;
      token = other.token;
    }
    finite &= other.finite;
  }
};

__device__ Survey survey(const float* logits, int64_t V) {
  Survey own{-std::numeric_limits<float>::infinity(), std::numeric_limits<int32_t>::max(), 1};
  for (int64_t i = threadIdx.x; i < V; i += kBlock) {
    const float logit = logits[i];
    own.finite &= (std::bit_cast<uint32_t>(logit) & 0x7f800000u) != 0x7f800000u;
    if (logit > own.largest) own.largest = logit, own.token = static_cast<int32_t>(i);
  }
  for (int mask = 16; mask > 0; mask /= 2) {
    own.merge({__shfl_xor_sync(kWholeWarp, own.largest, mask), __shfl_xor_sync(kWholeWarp, own.token, mask),
               __shfl_xor_sync(kWholeWarp, own.finite, mask)});
  }
  __shared__ Survey warps[kWarps];
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
  __syncthreads();
  Survey all = warps[0];
  for (int warp = 1; warp < kWarps; ++warp) all.merge(warps[warp]);
  __syncthreads();  // the array may be written again
  return all;
}

// The first i of [0, V) with which the running sum of measure(i) passes choose(total); all threads get it. The total
// must be above what `choose` gives.
template <typename Measure, typename Choose>
__device__ int32_t locate(int64_t V, Measure&& measure, Choose&& choose) {
  __shared__ Mass parts[kParts];
  __shared__ Mass target;
  __shared__ int32_t found;
  const int64_t part_size = ceil_div<int64_t>(ceil_div<int64_t>(V, kParts), 32) * 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int part = static_cast<int>(threadIdx.x / 32); part < kParts; part += kWarps) {
    const int64_t begin = part * part_size, end = begin + part_size < V ? begin + part_size : V;
    Mass sum = 0;
    for (int64_t i = begin + lane; i < end; i += 32) sum += measure(i);
    sum = warp_sum(sum);
    if (lane == 0) parts[part] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    Mass total = 0;
    for (const Mass part : parts) total += part;
    target = choose(total);
    int part = 0;
    while (part + 1 < kParts && target >= parts[part]) target -= parts[part++];
    found = part;
  }
  __syncthreads();
  const int64_t begin = found * part_size;
  if (threadIdx.x < 32) {
    Mass left = target;
    int64_t first = begin;
    for (;; first += 32) {
      const int64_t i = first + lane;
      Mass sum = i < V ? measure(i) : 0;  // of this lane and those before it
      for (int distance = 1; distance < 32; distance *= 2) {
        const Mass before = __shfl_sync(kWholeWarp, sum, lane - distance);
        if (lane >= distance) sum += before;
      }
      const int passing = warp_min(sum > left ? lane : 32);
      if (passing < 32 || first + 32 >= V) {
        if (lane == 0) found = static_cast<int32_t>(first + (passing < 32 ? passing : 0));
        break;
      }
      left -= __shfl_sync(kWholeWarp, sum, 31);
    }
  }
  __syncthreads();
  const int32_t result = found;
  __syncthreads();  // the variables may be written again
  return result;
}

// The bits of the largest probability v such that the measures of probabilities from v up sum to `wanted` or more;
// `above` becomes the sum of those above v. measure(bits, i) is 0 for what does not count.
template <typename Measure, typename Enough>
__device__ uint32_t find_threshold(const Row& row, Mass& above, Measure&& measure, Enough&& enough) {
  __shared__ Mass bins[kDigits];
  __shared__ Mass sum_above;
  __shared__ uint32_t digit;
  uint32_t prefix = 0;
  above = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int bin = static_cast<int>(threadIdx.x); bin < kDigits; bin += kBlock) bins[bin] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < row.V; i += kBlock) {
      const float probability = row.probability(i);
      const auto bits = std::bit_cast<uint32_t>(probability);
      if (shift < 24 && bits >> (shift + 8) != prefix) continue;
      const Mass value = measure(probability);
      if (value > 0) add_to(bins[bits >> shift & (kDigits - 1)], value);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      Mass sum = above;
      uint32_t bin = kDigits - 1, last = 0;  // `last`: rounding of what is wanted may ask for more than there is
      for (;; --bin) {
        if (bins[bin] > 0) {
          last = bin;
          if (enough(sum + bins[bin])) break;
          sum += bins[bin];
        }
        if (bin == 0) {
          bin = last;
          sum -= bins[last];
          break;
        }
      }
      sum_above = sum;
      digit = bin;
    }
    __syncthreads();
    above = sum_above;
    prefix = prefix << 8 | digit;
    __syncthreads();  // the variables may be written again
  }
  return prefix;
}

// Tokens that may be drawn: those with more than `threshold` (as bits), those that equal it up to `last_equal`, and
// none with less than `least`.
struct Kept {
  uint32_t threshold = 0;
  int32_t last_equal = std::numeric_limits<int32_t>::max();
  float least = 0;

  __device__ __forceinline__ bool has(float probability, int64_t i) const {
    const auto bits = std::bit_cast<uint32_t>(probability);
    return (bits > threshold || (bits == threshold && i <= last_equal)) && probability >= least;
  }
};

__device__ Kept apply_filters(const Row& row, const Draw& draw, float largest_probability) {
  Kept kept;
  if (draw.top_k > 0 && draw.top_k < row.V) {
    Mass above = 0;
    const auto wanted = static_cast<Mass>(draw.top_k);
    kept.threshold = find_threshold(
        row, above, [](float) { return Mass{1}; }, [=](Mass sum) { return sum >= wanted; });
  }
  if (draw.top_p < 1) {
    const uint32_t least_bits = kept.threshold;
    const auto counted = [=](float probability) {
      return std::bit_cast<uint32_t>(probability) >= least_bits ? mass_of(probability) : Mass{0};
    };
    __shared__ Mass total;
    // The search finds nothing; it is the sum that is wanted.
    locate(
        row.V, [&](int64_t i) { return counted(row.probability(i)); },
        [](Mass sum) {
          total = sum;
          return Mass{0};
        });
    const double wanted = static_cast<double>(draw.top_p) * static_cast<double>(total);
    Mass above = 0;
    kept.threshold = find_threshold(row, above, counted, [=](Mass sum) { return static_cast<double>(sum) >= wanted; });
    // Of tokens with equal probabilities only as many as the mass needs, in vocabulary order.
    const Mass each = mass_of(std::bit_cast<float>(kept.threshold));
    Mass count = 1;
    if (static_cast<double>(above + each) < wanted && each > 0) {
      count = static_cast<Mass>((wanted - static_cast<double>(above)) / static_cast<double>(each));
      while (count > 1 && static_cast<double>(above + (count - 1) * each) >= wanted) --count;
      while (static_cast<double>(above + count * each) < wanted) ++count;
    }
    const uint32_t threshold = kept.threshold;
    kept.last_equal = locate(
        row.V, [&](int64_t i) { return Mass{std::bit_cast<uint32_t>(row.probability(i)) == threshold ? 1u : 0u}; },
        [=](Mass) { return count - 1; });
  }
  if (draw.min_p > 0) kept.least = __fmul_rn(draw.min_p, largest_probability);
  return kept;
}

__global__ void __launch_bounds__(kBlock) sample_kernel(SampledToken* tokens, const float* logits, const float* row_max,
                                                        const float* row_log_sum, const Draw* draws, int64_t V) {
  const int64_t r = blockIdx.x;
  const Draw draw = draws[r];
  const Row row{logits + r * V, V, row_max[r], row_log_sum[r], draw.inv_temperature};
  const Survey all = survey(row.logits, V);
  int32_t token = all.token;
  if (!all.finite) {
    token = SampledToken::kNotFinite;
  } else if (!draw.greedy) {
    const Kept kept = apply_filters(row, draw, row.probability(all.token));
    token = locate(
        V,
        [&](int64_t i) {
          const float probability = row.probability(i);
          return kept.has(probability, i) ? mass_of(probability) : Mass{0};
        },
        [&](Mass total) { return target_of(draw.bits, total); });
  }
  if (threadIdx.x == 0) tokens[r].token_id = token;
}

// As target_logprob (cpu/row_kernels.h).
__global__ void logprob_kernel(SampledToken* tokens, const float* logits, const float* row_max,
                               const float* row_log_sum, const Draw* draws, int64_t R, int64_t V) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (r >= R) return;
  const int32_t token = tokens[r].token_id;
  tokens[r].logprob = token == SampledToken::kNotFinite
                          ? 0.0f
                          : (logits[r * V + token] - row_max[r]) * draws[r].inv_temperature - row_log_sum[r];
}

struct Penalty {
  int64_t at;
  float factor;
};

__global__ void penalize_kernel(float* logits, const Penalty* penalties, int64_t count) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (k >= count) return;
  float& logit = logits[penalties[k].at];
  logit = logit < 0 ? __fmul_rn(logit, penalties[k].factor) : __fdiv_rn(logit, penalties[k].factor);
}

Launch over(int64_t count) { return {static_cast<unsigned>(ceil_div<int64_t>(count, kBlock)), kBlock}; }

Draw draw_of(const SampleRequest& request, int64_t V) {
  const SamplingSettings& settings = request.settings;
  const bool greedy = settings.temperature == 0;
  return {draw_bits(request.seed, request.index),
          1.0f / (greedy ? 1.0f : settings.temperature),
          settings.top_p,
          settings.min_p,
          static_cast<int32_t>(std::min(settings.top_k, V)),
          greedy};
}

float temperature_of(const SampleRequest& request) {
  return request.settings.temperature == 0 ? 1.0f : request.settings.temperature;
}

// Every token of a history once.
std::vector<Penalty> list_penalties(const SampleRequest* requests, int64_t R, int64_t V) {
  std::vector<Penalty> penalties;
  std::vector<int32_t> tokens;
  for (int64_t r = 0; r < R; ++r) {
    const SampleRequest& request = requests[r];
    if (request.settings.repetition_penalty == 1) continue;
    tokens.assign(request.history.token_ids, request.history.token_ids + request.history.num_tokens);
    std::sort(tokens.begin(), tokens.end());
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (const int32_t token : tokens) penalties.push_back({r * V + token, request.settings.repetition_penalty});
  }
  return penalties;
}

template <typename T>
void grow(Backend& backend, DeviceArray<T>& array, int64_t count) {
  if (count <= array.count()) return;
  array = DeviceArray<T>();
  array = DeviceArray<T>(backend, count);
}

}  // namespace

void Sampler::reserve(int64_t R) {
  grow(backend_, draws_, R * static_cast<int64_t>(sizeof(Draw)));
  grow(backend_, tokens_, R);
  grow(backend_, statistics_, 6 * R);
}

Sampler::Statistics Sampler::measure(float* memory, const float* logits, const SampleRequest* requests, int64_t R,
                                     int64_t V) {
  const Statistics all{memory, memory + R, memory + 2 * R};
  for (int64_t first = 0, end; first < R; first = end) {  // runs of one temperature
    const float temperature = temperature_of(requests[first]);
    for (end = first + 1; end < R && temperature_of(requests[end]) == temperature;) ++end;
    backend_.logprob_forward(nullptr, all.max + first, all.log_sum + first, all.entropy + first, logits + first * V,
                             Targets{}, end - first, V, temperature);
  }
  return all;
}

void Sampler::sample(Stream stream, SampledToken* tokens, const float* logits, const SampleRequest* requests, int64_t R,
                     int64_t V) {
  if (R == 0) return;
  reserve(R);
  std::vector<Draw> draws;
  for (int64_t r = 0; r < R; ++r) draws.push_back(draw_of(requests[r], V));
  auto* const device_draws = reinterpret_cast<Draw*>(draws_.get());
  backend_.upload(device_draws, draws.data(), R * static_cast<int64_t>(sizeof(Draw)));
  const Statistics plain = measure(statistics_.get(), logits, requests, R, V);
  const auto draw_tokens = [&](const float* from, const Statistics& statistics) {
    launch(sample_kernel, {static_cast<unsigned>(R), kBlock}, stream, tokens_.get(), from, statistics.max,
           statistics.log_sum, device_draws, V);
  };
  const std::vector<Penalty> penalties = list_penalties(requests, R, V);
  if (penalties.empty()) {
    draw_tokens(logits, plain);
  } else {
    const auto count = static_cast<int64_t>(penalties.size());
    grow(backend_, penalized_, R * V);
    grow(backend_, penalties_, count * static_cast<int64_t>(sizeof(Penalty)));
    auto* const device_penalties = reinterpret_cast<Penalty*>(penalties_.get());
    backend_.copy(penalized_.get(), logits, R * V * static_cast<int64_t>(sizeof(float)));
    backend_.upload(device_penalties, penalties.data(), count * static_cast<int64_t>(sizeof(Penalty)));
    launch(penalize_kernel, over(count), stream, penalized_.get(), device_penalties, count);
    draw_tokens(penalized_.get(), measure(statistics_.get() + 3 * R, penalized_.get(), requests, R, V));
  }
  launch(logprob_kernel, over(R), stream, tokens_.get(), logits, plain.max, plain.log_sum, device_draws, R, V);
  backend_.download(tokens, tokens_.get(), R * static_cast<int64_t>(sizeof(SampledToken)));
}

}  // namespace wideseek::cuda
