// Eight threads share a head, as in row.h; a block takes the heads of one token, eight at a time. Rows may be replaced
// in place: everything that a thread needs of a head is in its registers before any thread of the head stores.
#include "cuda/qk_norm_rope.h"

#include <algorithm>
#include <string>

#include "cuda/elementwise.h"
#include "cuda/reduce.h"
#include "cuda/row.h"

namespace wideseek::cuda {
namespace {

constexpr int kThreads = 64;
constexpr int kHeadsAtOnce = kThreads / kRowThreads;

// What does not change over a pass. head_dim <= 64 * the kernel's kPacks.
template <typename T>
struct Heads {
  const T* rows;  // qkv before norm and rotation
  const float *q_norm, *k_norm, *cos, *sin;
  const int32_t* positions;
  int64_t num_tokens;
  int num_heads, num_kv_heads, head_dim;
  float eps;

  __device__ int rotated() const { return num_heads + num_kv_heads; }
  __device__ int64_t width() const { return static_cast<int64_t>(num_heads + 2 * num_kv_heads) * head_dim; }
  __device__ const float* norm_of(int head) const { return head < num_heads ? q_norm : k_norm; }
};

// The element with which element i of a head rotates.
__device__ __forceinline__ int partner_of(int i, int half) { return i < half ? i + half : i - half; }

// Elements partner_of(i), ..., partner_of(i + 7) of a head of n; 0 for those past its end.
template <typename T>
__device__ __forceinline__ Pack load_partners(const T* head, int i, int n) {
  const int half = n / 2;
  if (half % kPack == 0) return load_pack(head, i < n ? partner_of(i, half) : n, n);
  Pack pack;
  WS_UNROLL
  for (int k = 0; k < kPack; ++k) pack.v[k] = i + k < n ? to_float(head[partner_of(i + k, half)]) : 0.0f;
  return pack;
}

// cos and sin of the pack from i: of each element the angle of its pair. sin has the sign with which the partner enters
// the rotation: minus in the first half.
struct Angles {
  Pack cos, sin;
};

__device__ __forceinline__ Angles load_angles(const float* cos, const float* sin, int i, int n) {
  const int half = n / 2;
  Angles angles;
  if (half % kPack == 0) {
    const int at = i < half ? i : i < n ? i - half : half;
    angles = {load_pack(cos, at, half), load_pack(sin, at, half)};
  } else {
    WS_UNROLL
    for (int k = 0; k < kPack; ++k) {
      const int at = i + k < half ? i + k : i + k - half;
      angles.cos.v[k] = i + k < n ? cos[at] : 0.0f;
      angles.sin.v[k] = i + k < n ? sin[at] : 0.0f;
    }
  }
  WS_UNROLL
  for (int k = 0; k < kPack; ++k) angles.sin.v[k] = i + k < half ? -angles.sin.v[k] : angles.sin.v[k];
  return angles;
}

// ---- forward

// x rstd weight
__device__ __forceinline__ void normalise(Pack& x, float rstd, const Pack& weight) {
  WS_UNROLL
  for (int k = 0; k < kPack; ++k) x.v[k] = __fmul_rn(__fmul_rn(x.v[k], rstd), weight.v[k]);
}

// Element-wise own * cos + partner * sin, or, backward, - partner * sin. In each product and sum the order of the CPU.
template <bool kBackward>
__device__ __forceinline__ Pack turn(const Pack& own, const Pack& partner, const Pack& cos, const Pack& sin) {
  Pack turned;
  WS_UNROLL
  for (int k = 0; k < kPack; ++k) {
    turned.v[k] = __fadd_rn(__fmul_rn(own.v[k], cos.v[k]), __fmul_rn(partner.v[k], kBackward ? -sin.v[k] : sin.v[k]));
  }
  return turned;
}

// kInThread: heads of 128 elements. The partners of a thread's first pack are its second one, and one pair of angles
// serves both. Else partners are loaded apart.
template <int kPacks, bool kInThread>
struct Rotation {
  static_assert(!kInThread || kPacks == 2);
  static constexpr int kAngles = kInThread ? 1 : kPacks;
  Angles angles[kAngles];

  template <typename T>
  __device__ __forceinline__ Rotation(const Heads<T>& heads, int64_t token, int lane) {
    const int64_t at = heads.positions[token] * static_cast<int64_t>(heads.head_dim / 2);
    WS_UNROLL
    for (int p = 0; p < kAngles; ++p) {
      angles[p] = load_angles(heads.cos + at, heads.sin + at, p * kRowStep + lane * kPack, heads.head_dim);
    }
  }

  // In place. `partners` is used unless kInThread.
  template <bool kBackward>
  __device__ __forceinline__ void apply(Pack (&x)[kPacks], const Pack* partners) const {
    if constexpr (kInThread) {
      const Pack first = x[0];
      x[0] = turn<kBackward>(first, x[1], angles[0].cos, angles[0].sin);
      x[1] = turn<!kBackward>(x[1], first, angles[0].cos, angles[0].sin);
    } else {
      WS_UNROLL
      for (int p = 0; p < kPacks; ++p) x[p] = turn<kBackward>(x[p], partners[p], angles[p].cos, angles[p].sin);
    }
  }
};

template <typename T, int kPacks, bool kInThread>
__global__ void __launch_bounds__(kThreads) forward_kernel(T* out, Heads<T> heads) {
  const int64_t token = blockIdx.x;
  const int n = heads.head_dim;
  const int lane = threadIdx.x % kRowThreads;
  const int slot = threadIdx.x / kRowThreads;
  const T* row = heads.rows + token * heads.width();
  T* out_row = out + token * heads.width();
  const auto load_head = [&](RawPack<T>(&raw)[kPacks], int head) {
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) raw[p] = load_raw(row + head * n, p * kRowStep + lane * kPack, n);
  };
  // Threads past the last head repeat it, so that every warp is whole.
  const int last = heads.rotated() - 1;
  RawPack<T> next[kPacks];
  load_head(next, std::min(slot, last));
  const Rotation<kPacks, kInThread> rotation(heads, token, lane);
  for (int mine = slot; mine - slot <= last; mine += kHeadsAtOnce) {
    const int head = std::min(mine, last);
    const float* weight = heads.norm_of(head);
    Pack x[kPacks], partners[kInThread ? 1 : kPacks];
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      x[p] = widen(next[p]);
      if constexpr (!kInThread) partners[p] = load_partners(row + head * n, p * kRowStep + lane * kPack, n);
    }
    load_head(next, std::min(mine + kHeadsAtOnce, last));
    Pack sums{};
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      WS_UNROLL
      for (int k = 0; k < kPack; ++k) sums.v[k] = __fadd_rn(sums.v[k], __fmul_rn(x[p].v[k], x[p].v[k]));
    }
    // Outside of the condition: heads with and without a norm may share a warp. It also is the barrier after which
    // every thread of a head has read its partners, and may store.
    const float rstd = rstd_for<T>(row_sum(sums), n, heads.eps);
    if (weight != nullptr) {
      WS_UNROLL
      for (int p = 0; p < kPacks; ++p) {
        const int i = p * kRowStep + lane * kPack;
        normalise(x[p], rstd, load_pack(weight, i, n));
        if constexpr (!kInThread) normalise(partners[p], rstd, load_partners(weight, i, n));
      }
    }
    rotation.template apply<false>(x, partners);
    if (mine > last) continue;
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) store_pack(out_row + head * n, p * kRowStep + lane * kPack, n, x[p]);
  }
  if (out == heads.rows) return;
  for (int head = heads.rotated() + slot; head < heads.rotated() + heads.num_kv_heads; head += kHeadsAtOnce) {
    load_head(next, head);
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) store_raw(out_row + head * n, p * kRowStep + lane * kPack, n, next[p]);
  }
}

// ---- backward. A block takes the tokens of one group after the other.

constexpr int kGroups = 132 * 8;  // as many blocks as run at one time on a GPU of 132 multiprocessors

// The heads [first, first + count) of a token: `row` are the gradients, in place, x_row the rows of the forward pass.
template <typename T, int kPacks, bool kInThread>
__device__ __forceinline__ void backward_heads(T* row, const T* x_row, const float* weight, int first, int count, int n,
                                               float eps, const Rotation<kPacks, kInThread>& rotation,
                                               Pack (&dweight)[kPacks]) {
  const int lane = threadIdx.x % kRowThreads;
  const int slot = threadIdx.x / kRowThreads;
  for (int mine = slot; mine - slot < count; mine += kHeadsAtOnce) {
    const int64_t at = static_cast<int64_t>(first + std::min(mine, count - 1)) * n;
    Pack d[kPacks], x[kPacks], partners[kInThread ? 1 : kPacks];
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      const int i = p * kRowStep + lane * kPack;
      d[p] = load_pack(row + at, i, n);
      if constexpr (!kInThread) partners[p] = load_partners(row + at, i, n);
      if (weight != nullptr) x[p] = load_pack(x_row + at, i, n);
    }
    rotation.template apply<true>(d, partners);
    __syncwarp();  // every thread of a head has read its partners
    if (weight != nullptr) {
      Pack squares{}, dots{};
      WS_UNROLL
      for (int p = 0; p < kPacks; ++p) {
        const Pack w = load_pack(weight, p * kRowStep + lane * kPack, n);
        WS_UNROLL
        for (int k = 0; k < kPack; ++k) {
          squares.v[0] = __fmaf_rn(x[p].v[k], x[p].v[k], squares.v[0]);
          dots.v[0] = __fmaf_rn(d[p].v[k] * w.v[k], x[p].v[k], dots.v[0]);
        }
      }
      for (int mask = 1; mask < kRowThreads; mask *= 2) {
        squares.v[0] += __shfl_xor_sync(kWholeWarp, squares.v[0], mask);
        dots.v[0] += __shfl_xor_sync(kWholeWarp, dots.v[0], mask);
      }
      const float rstd = rstd_for<T>(squares.v[0], n, eps);
      const float shrink = -dots.v[0] * rstd * rstd / static_cast<float>(n);
      const float counted = mine < count ? rstd : 0.0f;  // a repeated head adds nothing
      WS_UNROLL
      for (int p = 0; p < kPacks; ++p) {
        const Pack w = load_pack(weight, p * kRowStep + lane * kPack, n);
        WS_UNROLL
        for (int k = 0; k < kPack; ++k) {
          dweight[p].v[k] = __fmaf_rn(d[p].v[k], x[p].v[k] * counted, dweight[p].v[k]);
          d[p].v[k] = rstd * __fmaf_rn(x[p].v[k], shrink, d[p].v[k] * w.v[k]);
        }
      }
    }
    if (mine >= count) continue;
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) store_pack(row + at, p * kRowStep + lane * kPack, n, d[p]);
  }
}

// partial [n] = the sum of dweight over the block's places for heads, in order. All threads call it.
template <int kPacks>
__device__ __forceinline__ void store_partial(float* partial, const Pack (&dweight)[kPacks], int n) {
  __shared__ float shared[kHeadsAtOnce][kMaxHeadDim];
  __syncthreads();  // the readers of the last call are done
  WS_UNROLL
  for (int p = 0; p < kPacks; ++p) {
    const int i = p * kRowStep + static_cast<int>(threadIdx.x) % kRowThreads * kPack;
    WS_UNROLL
    for (int k = 0; k < kPack; ++k) shared[threadIdx.x / kRowThreads][i + k] = dweight[p].v[k];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += kThreads) {
    float total = 0;
    for (int slot = 0; slot < kHeadsAtOnce; ++slot) total += shared[slot][i];
    partial[i] = total;
  }
}

template <typename T, int kPacks, bool kInThread>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(T* dqkv, Heads<T> heads, float* q_partial, float* k_partial) {
  const int n = heads.head_dim;
  Pack dq[kPacks] = {}, dk[kPacks] = {};
  for (int64_t token = blockIdx.x; token < heads.num_tokens; token += gridDim.x) {
    T* row = dqkv + token * heads.width();
    const T* x_row = heads.rows + token * heads.width();
    const Rotation<kPacks, kInThread> rotation(heads, token, threadIdx.x % kRowThreads);
    backward_heads<T, kPacks, kInThread>(row, x_row, heads.q_norm, 0, heads.num_heads, n, heads.eps, rotation, dq);
    backward_heads<T, kPacks, kInThread>(row, x_row, heads.k_norm, heads.num_heads, heads.num_kv_heads, n, heads.eps,
                                         rotation, dk);
  }
  if (heads.q_norm != nullptr) store_partial(q_partial + static_cast<int64_t>(blockIdx.x) * n, dq, n);
  if (heads.k_norm != nullptr) store_partial(k_partial + static_cast<int64_t>(blockIdx.x) * n, dk, n);
}

// ---- host

template <typename T>
Heads<T> make_heads(ConstTypedPointer qkv, const float* q_norm, const float* k_norm, const float* cos, const float* sin,
                    const int32_t* positions, const AttentionShape& shape, int64_t num_tokens, float eps) {
  return {static_cast<const T*>(qkv.data),
          q_norm,
          k_norm,
          cos,
          sin,
          positions,
          num_tokens,
          static_cast<int>(shape.num_heads),
          static_cast<int>(shape.num_kv_heads),
          static_cast<int>(shape.head_dim),
          eps};
}

// Calls f<kPacks, kInThread>() for the head size.
template <typename F>
void with_head_dim(const char* op, int64_t head_dim, F&& f) {
  WS_CHECK(head_dim <= kMaxHeadDim && head_dim % 2 == 0, kUnsupported, op,
           "heads of " + std::to_string(head_dim) + " elements; even sizes up to " + std::to_string(kMaxHeadDim) +
               " are supported");
  if (head_dim == 2 * kRowStep) {
    f.template operator()<2, true>();
  } else if (head_dim <= kRowStep) {
    f.template operator()<1, false>();
  } else if (head_dim <= 2 * kRowStep) {
    f.template operator()<2, false>();
  } else {
    f.template operator()<4, false>();
  }
}

}  // namespace

void qk_norm_rope_forward(Stream stream, TypedPointer out, ConstTypedPointer qkv, const float* q_norm,
                          const float* k_norm, const float* cos, const float* sin, const int32_t* positions,
                          const AttentionShape& shape, int64_t T, float eps) {
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    const Heads<E> heads = make_heads<E>(qkv, q_norm, k_norm, cos, sin, positions, shape, T, eps);
    with_head_dim("qk_norm_rope_forward", shape.head_dim, [&]<int kPacks, bool kInThread>() {
      launch(forward_kernel<E, kPacks, kInThread>, {static_cast<unsigned>(T), kThreads}, stream,
             static_cast<E*>(out.data), heads);
    });
  });
}

int64_t qk_norm_rope_backward_scratch(const AttentionShape& shape) { return 2 * kGroups * shape.head_dim; }

void qk_norm_rope_backward(Stream stream, TypedPointer dqkv, TypedPointer dq_norm, TypedPointer dk_norm,
                           ConstTypedPointer qkv, const float* q_norm, const float* k_norm, const float* cos,
                           const float* sin, const int32_t* positions, const AttentionShape& shape, int64_t T,
                           float eps, float* scratch) {
  const int64_t groups = std::min<int64_t>(T, kGroups);
  float* k_partial = scratch + kGroups * shape.head_dim;
  with_element_type(dqkv.dtype, [&](auto type) {
    using E = decltype(type);
    const Heads<E> heads = make_heads<E>(qkv, q_norm, k_norm, cos, sin, positions, shape, T, eps);
    with_head_dim("qk_norm_rope_backward", shape.head_dim, [&]<int kPacks, bool kInThread>() {
      launch(backward_kernel<E, kPacks, kInThread>, {static_cast<unsigned>(groups), kThreads}, stream,
             static_cast<E*>(dqkv.data), heads, scratch, k_partial);
    });
  });
  if (q_norm != nullptr) add_column_sums(stream, dq_norm, scratch, groups, shape.head_dim);
  if (k_norm != nullptr) add_column_sums(stream, dk_norm, k_partial, groups, shape.head_dim);
}

}  // namespace wideseek::cuda
