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
  let_next_kernel_begin();
  wait_for_earlier_kernels();
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

// ---- backward. A block takes the query heads, or the key heads, of the tokens of one group after the other, and reads
// the next heads while it computes: rows are read and written once, so enough of them must be on their way.

constexpr int kGroups = 132 * 8;  // as many blocks as run at one time on a GPU of 132 multiprocessors

// A thread's part of a head's gradient and of its row of the forward pass.
template <typename T, int kPacks>
struct HeldHead {
  RawPack<T> d[kPacks], x[kPacks];
};

// The heads of one kind, and the tokens of one group.
template <typename T>
struct Share {
  T* rows;          // gradients, in place, from the first head of the kind on
  const T* x_rows;  // likewise
  const float* weight;
  int64_t first_token, stride, num_tokens, width;
  int num_heads, head_dim;

  // Of head `head`, 0 past the last one and past the last token; x is 0 without a norm.
  template <int kPacks>
  __device__ __forceinline__ HeldHead<T, kPacks> load(int64_t token, int head) const {
    const bool is_there = token < num_tokens && head < num_heads;
    const int64_t at = is_there ? token * width + head * head_dim : 0;
    HeldHead<T, kPacks> held;
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      const int i = p * kRowStep + static_cast<int>(threadIdx.x) % kRowThreads * kPack;
      held.d[p] = load_raw(rows + at, is_there ? i : head_dim, head_dim);
      held.x[p] = load_raw(x_rows + at, is_there && weight != nullptr ? i : head_dim, head_dim);
    }
    return held;
  }
};

// d [n] of a head, after the rotation back, becomes the gradient of its row; adds to the thread's part of dweight.
template <typename T, int kPacks>
__device__ __forceinline__ void norm_backward(Pack (&d)[kPacks], const Pack (&x)[kPacks], const float* weight, int n,
                                              float eps, Pack (&dweight)[kPacks]) {
  const int lane = threadIdx.x % kRowThreads;
  float squares = 0, dots = 0;
  WS_UNROLL
  for (int p = 0; p < kPacks; ++p) {
    const Pack w = load_pack(weight, p * kRowStep + lane * kPack, n);
    WS_UNROLL
    for (int k = 0; k < kPack; ++k) {
      squares = __fmaf_rn(x[p].v[k], x[p].v[k], squares);
      dots = __fmaf_rn(d[p].v[k] * w.v[k], x[p].v[k], dots);
    }
  }
  for (int mask = 1; mask < kRowThreads; mask *= 2) {
    squares += __shfl_xor_sync(kWholeWarp, squares, mask);
    dots += __shfl_xor_sync(kWholeWarp, dots, mask);
  }
  const float rstd = rstd_for<T>(squares, n, eps);
  const float shrink = -dots * rstd * rstd / static_cast<float>(n);
  WS_UNROLL
  for (int p = 0; p < kPacks; ++p) {
    const Pack w = load_pack(weight, p * kRowStep + lane * kPack, n);
    WS_UNROLL
    for (int k = 0; k < kPack; ++k) {
      dweight[p].v[k] = __fmaf_rn(d[p].v[k], x[p].v[k] * rstd, dweight[p].v[k]);
      d[p].v[k] = rstd * __fmaf_rn(x[p].v[k], shrink, d[p].v[k] * w.v[k]);
    }
  }
}

// partial [n] = the sum of dweight over the block's places for heads, in order. Once in a kernel, by all threads.
template <int kPacks>
__device__ __forceinline__ void store_partial(float* partial, const Pack (&dweight)[kPacks], int n) {
  __shared__ float shared[kHeadsAtOnce][kMaxHeadDim];
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

template <typename T>
__device__ __forceinline__ Share<T> share_of_block(T* dqkv, const Heads<T>& heads, int64_t q_groups) {
  const bool is_q = blockIdx.x < q_groups;
  const int64_t first = is_q ? 0 : static_cast<int64_t>(heads.num_heads) * heads.head_dim;
  return {dqkv + first,
          heads.rows + first,
          is_q ? heads.q_norm : heads.k_norm,
          is_q ? blockIdx.x : blockIdx.x - q_groups,
          is_q ? q_groups : gridDim.x - q_groups,
          heads.num_tokens,
          heads.width(),
          is_q ? heads.num_heads : heads.num_kv_heads,
          heads.head_dim};
}

// Blocks [0, q_groups) have the query heads, the others the key heads. partial [gridDim.x, n] of dq_norm, dk_norm.
template <typename T, int kPacks, bool kInThread>
__global__ void __launch_bounds__(kThreads, kPacks == 1 || kInThread ? 8 : 4)
    backward_kernel(T* dqkv, Heads<T> heads, float* partial, int64_t q_groups) {
  constexpr bool kAhead = kPacks <= 2;  // else there are no registers for it
  const int n = heads.head_dim;
  const int lane = threadIdx.x % kRowThreads, slot = threadIdx.x / kRowThreads;
  const Share<T> share = share_of_block(dqkv, heads, q_groups);
  Pack dweight[kPacks] = {};
  HeldHead<T, kPacks> held;
  if constexpr (kAhead) held = share.template load<kPacks>(share.first_token, slot);
  for (int64_t token = share.first_token; token < share.num_tokens; token += share.stride) {
    const Rotation<kPacks, kInThread> rotation(heads, token, lane);
    for (int head = slot; head - slot < share.num_heads; head += kHeadsAtOnce) {
      T* row = share.rows + token * share.width + head * n;
      const bool is_there = head < share.num_heads;
      if constexpr (!kAhead) held = share.template load<kPacks>(token, head);
      Pack d[kPacks], x[kPacks], partners[kInThread ? 1 : kPacks];
      WS_UNROLL
      for (int p = 0; p < kPacks; ++p) {
        d[p] = widen(held.d[p]);
        x[p] = widen(held.x[p]);
        if constexpr (!kInThread) partners[p] = load_partners(row, is_there ? p * kRowStep + lane * kPack : n, n);
      }
      if constexpr (kAhead) {
        const bool same_token = head - slot + kHeadsAtOnce < share.num_heads;
        held = share.template load<kPacks>(same_token ? token : token + share.stride,
                                           same_token ? head + kHeadsAtOnce : slot);
      }
      rotation.template apply<true>(d, partners);
      __syncwarp();  // every thread of a head has read its partners
      if (share.weight != nullptr) norm_backward<T>(d, x, share.weight, n, heads.eps, dweight);
      if (!is_there) continue;
      WS_UNROLL
      for (int p = 0; p < kPacks; ++p) store_pack(row, p * kRowStep + lane * kPack, n, d[p]);
    }
  }
  if (share.weight != nullptr) store_partial(partial + static_cast<int64_t>(blockIdx.x) * n, dweight, n);
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
      launch_early(forward_kernel<E, kPacks, kInThread>, {static_cast<unsigned>(T), kThreads}, stream,
                   static_cast<E*>(out.data), heads);
    });
  });
}

int64_t qk_norm_rope_backward_scratch(const AttentionShape& shape) { return kGroups * shape.head_dim; }

void qk_norm_rope_backward(Stream stream, TypedPointer dqkv, TypedPointer dq_norm, TypedPointer dk_norm,
                           ConstTypedPointer qkv, const float* q_norm, const float* k_norm, const float* cos,
                           const float* sin, const int32_t* positions, const AttentionShape& shape, int64_t T,
                           float eps, float* scratch) {
  // As many blocks as each kind has heads, so that all end at one time.
  const int64_t k_share = kGroups * shape.num_kv_heads / (shape.num_heads + shape.num_kv_heads);
  const int64_t k_groups = std::min(T, std::max<int64_t>(1, k_share));
  const int64_t q_groups = std::min(T, kGroups - k_groups);
  with_element_type(dqkv.dtype, [&](auto type) {
    using E = decltype(type);
    const Heads<E> heads = make_heads<E>(qkv, q_norm, k_norm, cos, sin, positions, shape, T, eps);
    with_head_dim("qk_norm_rope_backward", shape.head_dim, [&]<int kPacks, bool kInThread>() {
      launch(backward_kernel<E, kPacks, kInThread>, {static_cast<unsigned>(q_groups + k_groups), kThreads}, stream,
             static_cast<E*>(dqkv.data), heads, scratch, q_groups);
    });
  });
  if (q_norm != nullptr) add_column_sums(stream, dq_norm, scratch, q_groups, shape.head_dim);
  if (k_norm != nullptr) {
    add_column_sums(stream, dk_norm, scratch + q_groups * shape.head_dim, k_groups, shape.head_dim);
  }
}

}  // namespace wideseek::cuda
