// One decoder layer, forward and backward (HF modeling_qwen3.py Qwen3DecoderLayer, modeling_qwen2.py; forward only,
// modeling_qwen3_moe.py).
// Around attention, rows are taken through the operations some at a time (ChunkSizes), so that what one operation
// writes is still in the cache when the next one reads it, and scratch stays small.
#include <algorithm>

#include "model/experts.h"
#include "model/state.h"

namespace wideseek {
namespace {

template <typename F>
void for_each_chunk(const Backend& backend, int64_t rows, F&& f) {
  const int64_t step = backend.chunk_sizes().layer_rows;
  for (int64_t first = 0; first < rows; first += step) f(first, std::min(step, rows - first));
}

// gate_up [R,2F] of the rows after attention. normed [R,C] is overwritten.
void gate_up_forward(Model::State& model, const LayerTensors& tensors, TypedPointer normed, TypedPointer gate_up,
                     ConstTypedPointer residual, int64_t rows) {
  model.backend.rms_norm_forward(normed, residual, model.vector(tensors.post_attention_norm), rows,
                                 model.config.hidden_size, model.eps());
  model.backend.linear_forward(gate_up, normed, model.matrix(tensors.gate_up), nullptr, {}, rows);
}

}  // namespace

void layer_forward(Model::State& model, int64_t layer, const LayerActivations& activations, const LayerScratch& scratch,
                   TypedPointer layer_output, const KvBlocks& cache, const RowBatch& batch) {
  Backend& backend = model.backend;
  const LayerTensors& tensors = model.table.layers[layer];
  const int64_t hidden = model.config.hidden_size;
  const int64_t intermediate = model.config.intermediate_size;
  const int64_t attention_size = model.attention.num_heads * model.attention.head_dim;
  const int64_t qkv_size = model.attention.qkv_size();

  for_each_chunk(backend, batch.num_rows, [&](int64_t first, int64_t count) {
    const TypedPointer qkv = activations.qkv + first * qkv_size;
    backend.rms_norm_forward(scratch.normed, activations.layer_input + first * hidden, model.vector(tensors.input_norm),
                             count, hidden, model.eps());
    backend.linear_forward(qkv, scratch.normed, model.matrix(tensors.qkv), model.vector(tensors.qkv_bias), {}, count);
    backend.qk_norm_rope_forward(scratch.qkv_rotated + first * qkv_size, qkv, model.vector(tensors.q_norm),
                                 model.vector(tensors.k_norm), model.rope_cos.get(), model.rope_sin.get(),
                                 batch.positions + first, model.attention, count, model.eps());
  });
  backend.kv_store(cache, scratch.qkv_rotated, batch.attention);
  backend.attention_forward(activations.attention_output, activations.lse, scratch.qkv_rotated, cache, batch.attention);

  for_each_chunk(backend, batch.num_rows, [&](int64_t first, int64_t count) {
    const TypedPointer residual = activations.residual + first * hidden;
    backend.linear_forward(residual, activations.attention_output + first * attention_size, model.matrix(tensors.o),
                           nullptr, activations.layer_input + first * hidden, count);
    if (tensors.router >= 0) {
      backend.rms_norm_forward(scratch.normed, residual, model.vector(tensors.post_attention_norm), count, hidden,
                               model.eps());
      experts_forward(model, tensors, scratch, layer_output + first * hidden, residual, count);
      return;
    }
    if (!layer_output && !activations.gate_up) return;
    const TypedPointer gate_up = activations.gate_up ? activations.gate_up + first * 2 * intermediate : scratch.gate_up;
    gate_up_forward(model, tensors, scratch.normed, gate_up, residual, count);
    if (!layer_output) return;
    backend.swiglu_forward(scratch.activation, gate_up, count, intermediate);
    backend.linear_forward(layer_output + first * hidden, scratch.activation, model.matrix(tensors.down), nullptr,
                           residual, count);
  });
}

void layer_backward(Model::State& model, int64_t layer, const LayerActivations& activations,
                    const LayerScratch& scratch, TypedPointer dx, TypedPointer gradients, const KvBlocks& cache,
                    const KvBlocks& dcache, const RowBatch& batch) {
  Backend& backend = model.backend;
  const LayerTensors& tensors = model.table.layers[layer];
  const int64_t hidden = model.config.hidden_size;
  const int64_t intermediate = model.config.intermediate_size;
  const int64_t attention_size = model.attention.num_heads * model.attention.head_dim;
  const int64_t qkv_size = model.attention.qkv_size();
  const auto gradient = [&](int64_t tensor) {
    return tensor < 0 ? TypedPointer() : gradients + model.table.tensors[tensor].gradient_offset;
  };

  // What is cheap is computed again rather than kept: the normed rows, silu(gate) * up, the rotated rows, the KV
  // blocks.
  for_each_chunk(backend, batch.num_rows, [&](int64_t first, int64_t count) {
    const TypedPointer dout = dx + first * hidden;
    const TypedPointer gate_up = activations.gate_up ? activations.gate_up + first * 2 * intermediate : scratch.gate_up;
    const ConstTypedPointer residual = activations.residual + first * hidden;
    if (!activations.gate_up) gate_up_forward(model, tensors, scratch.normed, gate_up, residual, count);
    // MLP: residual + down(silu(gate) * up).
    backend.swiglu_forward(scratch.activation, gate_up, count, intermediate);
    backend.linear_backward_weight(gradient(tensors.down), dout, scratch.activation, count, hidden, intermediate);
    backend.linear_backward_input(scratch.activation, dout, model.matrix(tensors.down), count);
    backend.swiglu_backward(gate_up, scratch.activation, count, intermediate);
    backend.rms_norm_forward(scratch.normed, residual, model.vector(tensors.post_attention_norm), count, hidden,
                             model.eps());
    backend.linear_backward_weight(gradient(tensors.gate_up), gate_up, scratch.normed, count, 2 * intermediate, hidden);
    backend.linear_backward_input(scratch.normed, gate_up, model.matrix(tensors.gate_up), count);
    backend.rms_norm_backward(dout, gradient(tensors.post_attention_norm), scratch.normed, residual,
                              model.vector(tensors.post_attention_norm), count, hidden, model.eps());
    // Attention: layer_input + o(attention).
    backend.linear_backward_weight(gradient(tensors.o), dout, activations.attention_output + first * attention_size,
                                   count, hidden, attention_size);
    backend.linear_backward_input(scratch.dattention + first * attention_size, dout, model.matrix(tensors.o), count);
    backend.qk_norm_rope_forward(scratch.qkv_rotated + first * qkv_size, activations.qkv + first * qkv_size,
                                 model.vector(tensors.q_norm), model.vector(tensors.k_norm), model.rope_cos.get(),
                                 model.rope_sin.get(), batch.positions + first, model.attention, count, model.eps());
  });
  backend.kv_store(cache, scratch.qkv_rotated, batch.attention);
  backend.attention_backward(scratch.dqkv, scratch.dattention, activations.attention_output, activations.lse,
                             scratch.qkv_rotated, cache, dcache, batch.attention);

  for_each_chunk(backend, batch.num_rows, [&](int64_t first, int64_t count) {
    const TypedPointer dqkv = scratch.dqkv + first * qkv_size;
    const ConstTypedPointer layer_input = activations.layer_input + first * hidden;
    backend.qk_norm_rope_backward(dqkv, gradient(tensors.q_norm), gradient(tensors.k_norm),
                                  activations.qkv + first * qkv_size, model.vector(tensors.q_norm),
                                  model.vector(tensors.k_norm), model.rope_cos.get(), model.rope_sin.get(),
                                  batch.positions + first, model.attention, count, model.eps());
    backend.rms_norm_forward(scratch.normed, layer_input, model.vector(tensors.input_norm), count, hidden, model.eps());
    backend.linear_backward_weight(gradient(tensors.qkv), dqkv, scratch.normed, count, qkv_size, hidden);
    if (tensors.qkv_bias >= 0) backend.bias_backward(gradient(tensors.qkv_bias), dqkv, count, qkv_size);
    backend.linear_backward_input(scratch.normed, dqkv, model.matrix(tensors.qkv), count);
    backend.rms_norm_backward(dx + first * hidden, gradient(tensors.input_norm), scratch.normed, layer_input,
                              model.vector(tensors.input_norm), count, hidden, model.eps());
  });
}

}  // namespace wideseek
