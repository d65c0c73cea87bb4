// What the attention kernels need to know about a batch, computed once for all layers: which rows a thread block takes,
// where their keys lie, and for the backward pass which rows attend to which keys. Owns the lists on the device.
//
// Query rows are packed: the queries of one kv head's group of query heads at one position stand one after the other,
// so that a tile of few positions is still a full tile and the heads share what they read. In the forward pass, tiles
// of queries and of keys begin at multiples of their size in the POSITION: a row's order of summation is that of its
// position alone.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

constexpr int kTileRows = 128;  // packed query rows of a query tile, at most
// Keys are reduced span by span (attention_parts.h). Shorter spans fill the device with fewer sequences and share more;
// each costs a block that has all 128 rows some 1,000 cycles of shared memory, where 1,024 keys take 20,000.
constexpr int kSpanKeys = 1024;
constexpr int kMaxKeyTileBlocks = 8;  // blocks of a key tile of the backward pass, at most

// Rows [row, row + num_rows) of the batch at positions [position, ...) of a sequence.
struct QueryTile {
  int32_t row, num_rows, position;
  int32_t table;   // where the sequence's block table begins in `tables`
  int32_t length;  // positions of the sequence whose keys are stored
};

// Rows [row, row + num_rows) at positions [position, ...): all rows of one slice that may attend to a key tile.
struct QueryRange {
  int32_t row, num_rows, position;
};

// Blocks at consecutive positions that the same slices attend to.
struct KeyTile {
  int32_t position, num_keys;
  int32_t first_range, num_ranges;
  int32_t blocks[kMaxKeyTileBlocks];
};

// What the backward pass knows of one head of one row before it begins.
struct alignas(8) RowStatistic {
  float lse_log2;  // log2 sum exp of the scaled scores
  float delta;     // dot(dout, out)
};
constexpr float kLog2E = 1.4426950408889634f;

// The lists of the forward pass. Kernels take it by value; pointers are device memory.
struct QueryTiles {
  const QueryTile* tiles;    // longest first
  const int32_t* tables;     // block tables of all slices
  const int32_t* row_slots;  // [num_rows] block * 16 + place in the block; -1 for a row of no slice
  int64_t num_tiles, num_rows;
};

// The lists of the backward pass.
struct KeyTiles {
  const KeyTile* tiles;      // most work first
  const QueryRange* ranges;  // in order of slices for every tile
  const int32_t* key_rows;   // [num_tiles, tile_keys] row that stored the key; -1 if none of the batch did
  int64_t num_tiles;
  int32_t tile_keys;  // 64, or 128 for kernels of compute capability 9.0
};

// The shape as kernels take it.
struct Heads {
  int32_t num_heads, num_kv_heads, head_dim;
  int32_t group;       // query heads of a kv head
  uint32_t per_group;  // r / group == r * per_group >> 16 for r < 2 * kTileRows, if group <= kTileRows
  int32_t tile_positions;

  explicit Heads(const AttentionShape& shape);
  __host__ __device__ int64_t qkv_size() const { return int64_t{num_heads + 2 * num_kv_heads} * head_dim; }
  __host__ __device__ int64_t out_size() const { return int64_t{num_heads} * head_dim; }
};

// Most that the lists of slices take whose sequences have `tokens` tokens together, shared ones counted each time, and
// of the forward pass alone, of `rows` rows whose tables have `kv_blocks` blocks, one table for each row counted.
int64_t attention_plan_bytes(int64_t tokens, bool backward);
int64_t forward_plan_bytes(int64_t rows, int64_t kv_blocks);

// Whether thread blocks take single spans of query tiles; no result depends on it. kNever is kAsNeeded where a block
// has too little shared memory to merge spans.
enum class Splitting { kAsNeeded, kNever, kAlways };

struct QueryParts;

// Device memory for the lists of one plan at a time, taken before a run, so that a step allocates nothing.
class PlanArena {
 public:
  explicit PlanArena(Backend& backend) : backend_(backend) {}
  // Not while a plan has it.
  void reserve(int64_t bytes);

 private:
  friend class PlanMemory;
  Backend& backend_;
  DeviceArray<int32_t> memory_;
  bool is_lent_ = false;
};

// The lists of one plan: in the arena, or in memory of their own if there is none, another plan has it or it is small.
class PlanMemory {
 public:
  PlanMemory(Backend& backend, PlanArena* arena);
  ~PlanMemory();
  PlanMemory(const PlanMemory&) = delete;
  PlanMemory& operator=(const PlanMemory&) = delete;
  // Null for none.
  int32_t* take(int64_t words);
  // Whether all that was taken is in the arena, and so where the next plan's will be.
  bool is_in_arena() const { return arena_ != nullptr && own_.empty(); }

 private:
  Backend& backend_;
  PlanArena* arena_;
  int64_t used_ = 0;  // of the arena
  std::vector<DeviceArray<int32_t>> own_;
};

class CudaAttentionPlan final : public AttentionPlan {
 public:
  CudaAttentionPlan(Backend& backend, const AttentionShape& shape, const SequenceSlice* slices, int64_t num_slices,
                    int64_t num_rows, PlanArena* arena, Splitting splitting);
  ~CudaAttentionPlan() override;

  uint64_t recording_key() const override;
  const Heads& heads() const { return heads_; }
  const QueryTiles& query_tiles() const { return query_tiles_; }
  const QueryParts& query_parts() const { return *query_parts_; }
  // Listed at the first call, since generation never asks. Throws kInvalidArgument if two rows are stored to one place,
  // or slices have a block at different positions.
  const KeyTiles& key_tiles() const;

 private:
  Backend& backend_;
  Heads heads_;
  const SequenceSlice* slices_;
  int64_t num_slices_;
  mutable PlanMemory memory_;
  QueryTiles query_tiles_{};
  std::unique_ptr<QueryParts> query_parts_;
  bool may_be_recorded_ = false;
  mutable KeyTiles key_tiles_{};
  mutable bool has_key_tiles_ = false;
};

std::unique_ptr<AttentionPlan> plan_attention(Backend& backend, const AttentionShape& shape,
                                              const SequenceSlice* slices, int64_t num_slices, int64_t num_rows = 0,
                                              PlanArena* arena = nullptr, Splitting splitting = Splitting::kAsNeeded);

// The plan as this device made it.
const CudaAttentionPlan& cuda_plan(const AttentionPlan& plan);

}  // namespace wideseek::cuda
