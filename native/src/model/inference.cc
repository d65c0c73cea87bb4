// The forward pass of generation: a packed batch of new tokens, whose keys and values are kept.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/error.h"
#include "model/experts.h"
#include "model/lm_head.h"
#include "model/model.h"
#include "model/state.h"

namespace wideseek {
namespace {

constexpr const char* kOp = "Model::forward";
// Most rows of a step that is recorded. More do not occur: they are the requests that generate at one time.
constexpr int64_t kMaxRecordedRows = 1024;

struct InferenceWorkspace {
  TypedPointer x, qkv, attention_output;     // max_rows rows
  TypedPointer normed, activation, gate_up;  // a chunk of them
  ExpertScratch experts;
  TypedPointer gathered;  // a chunk of LM-head rows
  float* logits;
};

InferenceWorkspace plan_inference(Arena& arena, const Model::State& model, int64_t max_rows) {
  const ModelConfig& config = model.config;
  const DType dtype = model.backend.activation_dtype();
  const int64_t layer_rows = std::min(max_rows, model.backend.chunk_sizes().layer_rows);
  const int64_t logit_rows = std::min(max_rows, lm_head_chunk_rows(model));
  InferenceWorkspace work{};
  work.x = arena.take(max_rows * config.hidden_size, dtype);
  work.qkv = arena.take(max_rows * model.attention.qkv_size(), dtype);
  work.attention_output = arena.take(max_rows * config.num_heads * config.head_dim, dtype);
  work.normed = arena.take(layer_rows * config.hidden_size, dtype);
  work.activation = arena.take(activation_elements(config, layer_rows), dtype);
  work.gate_up = arena.take(2 * activation_elements(config, layer_rows), dtype);
  work.experts = plan_experts(arena, model, layer_rows);
  work.gathered = arena.take(logit_rows * config.hidden_size, dtype);
  work.logits = arena.take_floats(logit_rows * config.vocab_size);
  return work;
}

// What is uploaded for each row, [rows] each, one after the other.
struct RowIndices {
  const int32_t *token_ids, *positions, *logit_rows;
};

void check_batch(const Model::State& state, const InferenceBatch& batch) {
  WS_CHECK(batch.num_rows <= state.max_rows && batch.num_logit_rows <= batch.num_rows, kInvalidArgument, kOp,
           "rows and logit rows: got " + std::to_string(batch.num_rows) + " and " +
               std::to_string(batch.num_logit_rows) + ", limit is the reserved " + std::to_string(state.max_rows));
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    const int64_t context = batch.sequences[s].first_position + batch.sequences[s].num_rows;
    WS_CHECK(context <= state.max_context, kInvalidArgument, kOp,
             "context: got " + std::to_string(context) + " tokens, limit is the reserved " +
                 std::to_string(state.max_context));
  }
  for (int64_t row = 0; row < batch.num_rows; ++row) {
    const int32_t token = batch.token_ids[row];
    WS_CHECK(token >= 0 && token < state.config.vocab_size, kInvalidArgument, kOp,
             "token id at row " + std::to_string(row) + ": got " + std::to_string(token) + ", vocab_size is " +
                 std::to_string(state.config.vocab_size));
  }
}

// Rows that the step gets: padded where it is one of many of its kind that may be recorded, 0 where it is not.
int64_t recorded_rows(const Model::State& state, const InferenceBatch& batch) {
  // Experts are chosen on the host.
  if (!batch.is_repeated || state.config.moe || batch.num_logit_rows != batch.num_rows) return 0;
  // If there are more rows than sequences, a row of no sequence lets the plan pad its tiles.
  const int64_t least = batch.num_rows + (batch.num_sequences < batch.num_rows ? 1 : 0);
  const int64_t most = std::min({state.max_rows, lm_head_chunk_rows(state), kMaxRecordedRows});
  const int64_t rows = std::min(state.backend.recorded_rows(least), most);
  return rows < least ? 0 : rows;
}

// Uploads the lists in one piece. Padding rows are token 0 at position 0, and give logits too.
RowIndices upload_indices(Model::State& state, const InferenceBatch& batch, int64_t rows) {
  std::vector<int32_t> indices(static_cast<size_t>(3 * rows), 0);
  int32_t *const positions = indices.data() + rows, *const logit_rows = positions + rows;
  std::copy(batch.token_ids, batch.token_ids + batch.num_rows, indices.data());
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    const SequenceSlice& slice = batch.sequences[s];
    for (int64_t i = 0; i < slice.num_rows; ++i)
      positions[slice.first_row + i] = static_cast<int32_t>(slice.first_position + i);
  }
  std::copy(batch.logit_rows, batch.logit_rows + batch.num_logit_rows, logit_rows);
  int32_t* const device = state.row_indices.get();
  state.backend.upload(device, indices.data(), static_cast<int64_t>(indices.size() * sizeof(int32_t)));
  return {device, device + rows, device + 2 * rows};
}

// One of `recordings`: other models, caches and plans have other addresses.
uint64_t recording_key(const Model::State& state, const KvBlocks& cache, const AttentionPlan& plan, int64_t rows) {
  uint64_t key = plan.recording_key();
  if (key == 0) return 0;
  for (const uint64_t part : {reinterpret_cast<uint64_t>(state.workspace.get()),
                              reinterpret_cast<uint64_t>(cache.keys.data), static_cast<uint64_t>(rows)}) {
    key = (key ^ part) * 0x9E3779B97F4A7C15u;
    key ^= key >> 32;
  }
  return key;
}

}  // namespace

void Model::reserve_inference(int64_t max_rows, int64_t max_context) {
  State& state = *state_;
  WS_CHECK(max_rows > 0 && max_context > 0, kInvalidArgument, "Model::reserve_inference",
           "max_rows and max_context: got " + std::to_string(max_rows) + " and " + std::to_string(max_context) +
               ", must be at least 1");
  state.reserve_positions(max_context);
  const bool is_enough = max_rows <= state.max_rows && max_context <= state.max_context;
  state.max_context = std::max(state.max_context, max_context);
  if (is_enough) return;
  if (max_rows > state.max_rows) {
    state.max_rows = 0;
    state.workspace = DeviceArray<std::byte>();
    Arena size(nullptr);
    plan_inference(size, state, max_rows);
    state.workspace = DeviceArray<std::byte>(state.backend, size.used());
    state.row_indices = DeviceArray<int32_t>(state.backend, 3 * max_rows);
    state.max_rows = max_rows;
  }
  const int64_t table = (state.max_context + kKvBlockTokens - 1) / kKvBlockTokens;
  state.backend.reserve({state.attention, state.config.hidden_size, state.max_rows,
                         std::min(state.max_rows, lm_head_chunk_rows(state)), false,
                         std::min(state.max_rows, kMaxRecordedRows) * table, state.max_context});
}

void Model::forward(const InferenceBatch& batch, KvCache& cache, const UseLogits& use) {
  forward(batch, cache, use, {});
}

void Model::forward(const InferenceBatch& batch, KvCache& cache, const UseLogits& use, const UseLayer& use_layer) {
  State& state = *state_;
  Backend& backend = state.backend;
  check_batch(state, batch);
  if (batch.num_rows == 0) return;
  const int64_t padded = recorded_rows(state, batch), rows = std::max(padded, batch.num_rows);
  Arena arena(state.workspace.get());
  const InferenceWorkspace work = plan_inference(arena, state, state.max_rows);
  const RowIndices indices = upload_indices(state, batch, rows);
  const auto attention = backend.plan_attention(state.attention, batch.sequences, batch.num_sequences, rows);
  const RowBatch row_batch{rows, indices.token_ids, indices.positions, *attention};
  const LayerActivations activations{work.x, work.qkv, work.attention_output, nullptr, work.x, {}};
  const LayerScratch scratch{work.normed, work.activation, work.gate_up, work.qkv, {}, {}, work.experts};
  const auto run_layers = [&] {
    backend.embedding_forward(work.x, state.matrix(state.table.embedding), indices.token_ids, rows);
    if (use_layer) use_layer(-1, work.x);
    for (int64_t layer = 0; layer < state.config.num_layers; ++layer) {
      layer_forward(state, layer, activations, scratch, work.x, cache.layer(layer).blocks, row_batch);
      if (use_layer) use_layer(layer, work.x);
    }
  };
  const auto compute_logits = [&](int64_t first, int64_t count) {
    // The gathered rows are normed in place.
    lm_head_logits(state, work.logits, work.gathered, work.gathered, work.x, indices.logit_rows + first, count);
  };

  const uint64_t key = padded == 0 ? 0 : recording_key(state, cache.layer(0).blocks, *attention, rows);
  if (key != 0) {
    backend.replay(key, [&] {
      run_layers();
      compute_logits(0, rows);
    });
    use(0, batch.num_logit_rows, work.logits);
    return;
  }
  run_layers();
  const int64_t chunk_rows = lm_head_chunk_rows(state);
  for (int64_t first = 0; first < batch.num_logit_rows; first += chunk_rows) {
    const int64_t count = std::min(chunk_rows, batch.num_logit_rows - first);
    compute_logits(first, count);
    use(first, count, work.logits);
  }
}

std::string Model::find_not_finite(const std::vector<int32_t>& token_ids, const std::vector<int32_t>& block_table,
                                   KvCache& cache) {
  const State& state = *state_;
  const auto num_tokens = static_cast<int64_t>(token_ids.size());
  // -1: the embedding; num_layers: what comes after the layers.
  int64_t found = state.config.num_layers + 1;
  for (int64_t first = 0; first < num_tokens && found >= 0; first += state.max_rows) {
    const int64_t count = std::min(state.max_rows, num_tokens - first);
    const SequenceSlice slice{0, count, first, block_table.data()};
    const auto note = [&](int64_t place, ConstTypedPointer values, int64_t elements) {
      if (place < found && !std::isfinite(state.backend.sum_squares(values, elements))) found = place;
    };
    const auto last = static_cast<int32_t>(count - 1);
    forward(
        {token_ids.data() + first, count, &slice, 1, &last, 1}, cache,
        [&](int64_t, int64_t, const float* logits) { note(state.config.num_layers, logits, state.config.vocab_size); },
        [&](int64_t layer, ConstTypedPointer x) { note(layer, x, count * state.config.hidden_size); });
  }
  if (found > state.config.num_layers) return "computed again all are finite, so the device may be at fault";
  if (found == state.config.num_layers) return "all layers are finite, it began in the final norm or the LM head";
  if (found < 0) return "it began in the embedding";
  return "it began in layer " + std::to_string(found) + " (model.layers." + std::to_string(found) + ")";
}

}  // namespace wideseek
