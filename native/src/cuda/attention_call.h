// What the forward kernels of attention are given, and how a plan's waves of them are run.
#pragma once

#include <cmath>

#include "cuda/attention_merge.h"
#include "cuda/attention_span.h"

namespace wideseek::cuda {

struct ForwardCall {
  BF16* out;
  float* lse;
  const BF16* qkv;
  const BF16* keys;
  const BF16* values;
  const QueryPart* parts;
  const int32_t* tables;
  Heads heads;
  Partials partials;
  float scale;
};

// Calls launch_kernel(call, blocks, merges_inside) for each wave of parts, and merges what it left in scratch.
template <typename LaunchKernel>
void run_forward_waves(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                       const CudaAttentionPlan& plan, float* scratch, LaunchKernel launch_kernel) {
  const Heads& heads = plan.heads();
  const QueryParts& parts = plan.query_parts();
  ForwardCall call{static_cast<BF16*>(out.data),
                   lse,
                   static_cast<const BF16*>(qkv.data),
                   static_cast<const BF16*>(cache.keys.data),
                   static_cast<const BF16*>(cache.values.data),
                   nullptr,
                   plan.query_tiles().tables,
                   heads,
                   {scratch, heads.num_kv_heads},
                   1.0f / std::sqrt(static_cast<float>(heads.head_dim))};
  for (const PartWave& wave : parts.waves) {
    call.parts = parts.parts + wave.first_part;
    launch_kernel(call, static_cast<unsigned>(wave.num_parts * heads.num_kv_heads), parts.merges_inside);
    merge_partials(stream, call.out, lse, call.partials, plan, wave);
  }
}

}  // namespace wideseek::cuda
