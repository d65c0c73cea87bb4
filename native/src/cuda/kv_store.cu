// Copies rows of keys and values in the widest words that a head's row is made of.
#include "cuda/kv_store.h"

namespace wideseek::cuda {
namespace {

constexpr int kBlock = 256;

struct Store {
  void* keys;
  void* values;
  const void* qkv;
  const int32_t* row_slots;
  uint32_t num_words;   // of all rows' keys
  uint32_t row_words;   // of a row's keys
  uint32_t head_words;  // of one head's key
  int64_t qkv_words;    // of a row of qkv
  int64_t key_word;     // where the keys begin in it
};

// Thread i copies word i of the keys and word i of the values. kOperandD: D of the operand tiles that blocks are, or 0.
template <typename Word, int kOperandD>
__global__ void store_kernel(Store store) {
  let_next_kernel_begin();
  wait_for_earlier_kernels();
  const uint32_t i = blockIdx.x * kBlock + threadIdx.x;
  if (i >= store.num_words) return;
  const uint32_t row = i / store.row_words, in_row = i % store.row_words;
  const int32_t slot = store.row_slots[row];
  if (slot < 0) return;
  constexpr int kTokens = static_cast<int>(kKvBlockTokens);
  const Word* source = static_cast<const Word*>(store.qkv) + row * store.qkv_words + store.key_word + in_row;
  const Word key = source[0], value = source[store.row_words];
  const uint32_t head = in_row / store.head_words, in_head = in_row % store.head_words;
  const int64_t num_kv_heads = store.row_words / store.head_words;
  int64_t to = (slot / kTokens * num_kv_heads + head) * kTokens * store.head_words;
  if constexpr (kOperandD > 0) {
    to += operand_chunk<kOperandD>(slot % kTokens, static_cast<int>(in_head));
  } else {
    to += slot % kTokens * store.head_words + in_head;
  }
  static_cast<Word*>(store.keys)[to] = key;
  static_cast<Word*>(store.values)[to] = value;
}

template <typename Word, int kOperandD = 0>
void store_words(Stream stream, const KvBlocks& cache, ConstTypedPointer qkv, const CudaAttentionPlan& plan) {
  const Heads& heads = plan.heads();
  const int64_t head_words = heads.head_dim * dtype_bytes(qkv.dtype) / static_cast<int64_t>(sizeof(Word));
  const int64_t row_words = head_words * heads.num_kv_heads;
  const int64_t num_words = row_words * plan.query_tiles().num_rows;
  WS_CHECK(num_words < int64_t{1} << 32, kUnsupported, "kv_store",
           std::to_string(plan.query_tiles().num_rows) + " rows at once are too many");
  const Store store{cache.keys.data,
                    cache.values.data,
                    qkv.data,
                    plan.query_tiles().row_slots,
                    static_cast<uint32_t>(num_words),
                    static_cast<uint32_t>(row_words),
                    static_cast<uint32_t>(head_words),
                    head_words * (heads.num_heads + 2 * heads.num_kv_heads),
                    head_words * heads.num_heads};
  launch_early(store_kernel<Word, kOperandD>, {static_cast<unsigned>(ceil_div<int64_t>(num_words, kBlock)), kBlock},
               stream, store);
}

}  // namespace

void kv_store(Stream stream, const KvBlocks& cache, ConstTypedPointer qkv, const AttentionPlan& plan) {
  const CudaAttentionPlan& own = cuda_plan(plan);
  const int64_t head_bytes = own.heads().head_dim * dtype_bytes(qkv.dtype);
  if (uses_tensor_cores(qkv.dtype, own.heads())) {
    if (own.heads().head_dim == 64) {
      store_words<uint4, 64>(stream, cache, qkv, own);
    } else {
      store_words<uint4, 128>(stream, cache, qkv, own);
    }
  } else if (head_bytes % sizeof(uint4) == 0) {
    store_words<uint4>(stream, cache, qkv, own);
  } else if (head_bytes % sizeof(uint32_t) == 0) {
    store_words<uint32_t>(stream, cache, qkv, own);
  } else {
    store_words<uint16_t>(stream, cache, qkv, own);
  }
}

}  // namespace wideseek::cuda
