// Causal grouped-query attention over keys and values in blocks of 16 tokens; one kernel for paged generation and
// packed training. Shapes: T rows of this call, H query heads, K kv heads (query head h reads kv head h / (H/K)), D
// head_dim.
//
// Inside a block: keys [K][D][16], so that 16 keys are one vector; values [K][16][D].
//
// BATCH INVARIANCE: the result of one (query, head) is this algorithm, whatever else is in the call:
//   s[j] = scale * (fma chain over d = 0 .. D-1 from 0), for keys j = 0 .. position;  m = max s
//   p[j] = exp(s[j] - m) of vector_math.h;  l = sum of p in 16 lanes, j in lane j % 16, in order of j, then reduce_add
//   out[d] = (fma chain over j = 0 .. position from 0 of p[j] * v[j][d]) * (1 / l);  lse = m + log(l)
// It sees no physical block number, no chunking, no other query. Lanes past `position` may hold anything, also NaN.
#pragma once

#include <cstdint>
#include <memory>

#include "backend.h"
#include "cpu/threads.h"

namespace wideseek {

constexpr int64_t kAttentionBlock = 16;  // tokens per block

// Memory that the calls reuse; grows to the largest call and is never shared by two calls at a time.
class AttentionWorkspace {
 public:
  AttentionWorkspace();
  ~AttentionWorkspace();
  AttentionWorkspace(const AttentionWorkspace&) = delete;
  AttentionWorkspace& operator=(const AttentionWorkspace&) = delete;
  // Forward calls with contexts up to max_context do not allocate after this.
  void reserve(const ThreadPool& pool, const AttentionShape& shape, int64_t max_context);
  int64_t bytes() const;

  struct State;
  State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// Copies the rows' keys and values, [T,K*D] with row strides, to the slots that the slices name.
void kv_store(ThreadPool& pool, const KvBlocks& cache, const float* k, int64_t ld_k, const float* v, int64_t ld_v,
              const AttentionShape& shape, const SequenceSlice* slices, int64_t num_slices);

// out [T,H*D]; lse [T,H], may be null. The slices' own keys and values must have been stored.
void attention_forward(ThreadPool& pool, AttentionWorkspace& workspace, float* out, int64_t ld_out, float* lse,
                       const float* q, int64_t ld_q, const KvBlocks& cache, const AttentionShape& shape, float scale,
                       const SequenceSlice* slices, int64_t num_slices);

// dq [T,H*D] overwritten. dcache, blocks of [K][16][D] for both keys and values: those that the tables name are
// overwritten with the gradient summed over all slices that attend to the block, so a prefix that several slices share
// gets the sum of theirs. Each gradient element is one fma chain over the queries in order of slices, then of rows, so
// the bits do not depend on the number of threads.
void attention_backward(ThreadPool& pool, AttentionWorkspace& workspace, float* dq, int64_t ld_dq,
                        const KvBlocks& dcache, const float* dout, int64_t ld_dout, const float* out, int64_t ld_out,
                        const float* lse, const float* q, int64_t ld_q, const KvBlocks& cache,
                        const AttentionShape& shape, float scale, const SequenceSlice* slices, int64_t num_slices);

// dk, dv [T,K*D] = the gradients in the slots that the slices' rows were stored to.
void kv_gather_gradient(ThreadPool& pool, float* dk, int64_t ld_dk, float* dv, int64_t ld_dv, const KvBlocks& dcache,
                        const AttentionShape& shape, const SequenceSlice* slices, int64_t num_slices);

}  // namespace wideseek
