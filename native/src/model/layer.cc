// One decoder layer, forward and backward (HF modeling_qwen3.py Qwen3DecoderLayer, modeling_qwen2.py).
#include "model/state.h"

namespace wideseek {

void layer_forward(Model::State& model, int64_t layer, const LayerActivations& activations,
                   const LayerScratch& scratch, float* layer_output, const KvBlocks& cache, const RowBatch& batch) {
  Backend& backend = model.backend;
  const LayerTensors& tensors = model.table.layers[layer];
  const int64_t rows = batch.num_rows;
  const int64_t hidden = model.config.hidden_size;

  backend.rms_norm_forward(scratch.normed, activations.layer_input, model.vector(tensors.input_norm), rows, hidden,
                           model.eps());
  backend.linear_forward(activations.qkv, scratch.normed, model.matrix(tensors.qkv),
                         model.vector(tensors.qkv_bias), nullptr, rows);
  backend.qk_norm_rope_forward(scratch.qkv_rotated, activations.qkv, model.vector(tensors.q_norm),
                               model.vector(tensors.k_norm), model.rope_cos.get(), model.rope_sin.get(),
                               batch.positions, model.attention, rows, model.eps());
  backend.kv_store(cache, scratch.qkv_rotated, model.attention, batch.slices, batch.num_slices);
  backend.attention_forward(activations.attention_output, activations.lse, scratch.qkv_rotated, cache,
                            model.attention, batch.slices, batch.num_slices);
  backend.linear_forward(activations.residual, activations.attention_output, model.matrix(tensors.o), nullptr,
                         activations.layer_input, rows);

  backend.rms_norm_forward(scratch.normed, activations.residual, model.vector(tensors.post_attention_norm), rows,
                           hidden, model.eps());
  backend.linear_forward(activations.gate_up, scratch.normed, model.matrix(tensors.gate_up), nullptr, nullptr, rows);
  if (layer_output == nullptr) return;
  backend.swiglu_forward(scratch.activation, activations.gate_up, rows, model.config.intermediate_size);
  backend.linear_forward(layer_output, scratch.activation, model.matrix(tensors.down), nullptr,
                         activations.residual, rows);
}

void layer_backward(Model::State& model, int64_t layer, const LayerActivations& activations,
                    const LayerScratch& scratch, float* dx, float* gradients, const KvBlocks& cache,
                    const KvBlocks& dcache, const RowBatch& batch) {
  Backend& backend = model.backend;
  const LayerTensors& tensors = model.table.layers[layer];
  const int64_t rows = batch.num_rows;
  const int64_t hidden = model.config.hidden_size;
  const int64_t intermediate = model.config.intermediate_size;
  const int64_t attention_size = model.attention.num_heads * model.attention.head_dim;
  const int64_t qkv_size = model.attention.qkv_size();
  const auto gradient = [&](int64_t tensor) {
    return tensor < 0 ? nullptr : gradients + model.table.tensors[tensor].gradient_offset;
  };

  // MLP: residual + down(silu(gate) * up).
  backend.swiglu_forward(scratch.activation, activations.gate_up, rows, intermediate);
  backend.linear_backward_weight(gradient(tensors.down), dx, scratch.activation, rows, hidden, intermediate);
  backend.linear_backward_input(scratch.activation, dx, model.matrix(tensors.down), rows);
  backend.swiglu_backward(activations.gate_up, scratch.activation, rows, intermediate);
  backend.rms_norm_forward(scratch.normed, activations.residual, model.vector(tensors.post_attention_norm), rows,
                           hidden, model.eps());
  backend.linear_backward_weight(gradient(tensors.gate_up), activations.gate_up, scratch.normed, rows,
                                 2 * intermediate, hidden);
  backend.linear_backward_input(scratch.normed, activations.gate_up, model.matrix(tensors.gate_up), rows);
  backend.rms_norm_backward(dx, gradient(tensors.post_attention_norm), scratch.normed, activations.residual,
                            model.vector(tensors.post_attention_norm), rows, hidden, model.eps());

  // Attention: the rotated rows and the cache are computed again, which is cheaper than keeping them.
  backend.linear_backward_weight(gradient(tensors.o), dx, activations.attention_output, rows, hidden,
                                 attention_size);
  backend.linear_backward_input(scratch.dattention, dx, model.matrix(tensors.o), rows);
  backend.qk_norm_rope_forward(scratch.qkv_rotated, activations.qkv, model.vector(tensors.q_norm),
                               model.vector(tensors.k_norm), model.rope_cos.get(), model.rope_sin.get(),
                               batch.positions, model.attention, rows, model.eps());
  backend.kv_store(cache, scratch.qkv_rotated, model.attention, batch.slices, batch.num_slices);
  backend.attention_backward(scratch.dqkv, scratch.dattention, activations.attention_output, activations.lse,
                             scratch.qkv_rotated, cache, dcache, model.attention, batch.slices,
                             batch.num_slices);
  backend.qk_norm_rope_backward(scratch.dqkv, gradient(tensors.q_norm), gradient(tensors.k_norm), activations.qkv,
                                model.vector(tensors.q_norm), model.vector(tensors.k_norm), model.rope_cos.get(),
                                model.rope_sin.get(), batch.positions, model.attention, rows, model.eps());
  backend.rms_norm_forward(scratch.normed, activations.layer_input, model.vector(tensors.input_norm), rows, hidden,
                           model.eps());
  backend.linear_backward_weight(gradient(tensors.qkv), scratch.dqkv, scratch.normed, rows, qkv_size, hidden);
  if (tensors.qkv_bias >= 0) backend.bias_backward(gradient(tensors.qkv_bias), scratch.dqkv, rows, qkv_size);
  backend.linear_backward_input(scratch.normed, scratch.dqkv, model.matrix(tensors.qkv), rows);
  backend.rms_norm_backward(dx, gradient(tensors.input_norm), scratch.normed, activations.layer_input,
                            model.vector(tensors.input_norm), rows, hidden, model.eps());
}

}  // namespace wideseek
