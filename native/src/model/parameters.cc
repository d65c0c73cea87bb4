// Builds the parameter table of a Qwen3, Qwen3-MoE or Qwen2 decoder (names: HF modeling_qwen3.py,
// modeling_qwen3_moe.py, modeling_qwen2.py).
#include "model/parameters.h"

#include <utility>

namespace wideseek {
namespace {

class TableBuilder {
 public:
  int64_t add_tensor(int64_t rows, int64_t cols, bool is_matrix) {
    StoredTensor tensor{rows, cols, is_matrix, is_matrix, table_.num_flat_elements};
    table_.num_flat_elements += (tensor.num_elements() + 15) / 16 * 16;
    table_.tensors.push_back(tensor);
    return static_cast<int64_t>(table_.tensors.size()) - 1;
  }
  int64_t add_matrix(int64_t rows, int64_t cols) { return add_tensor(rows, cols, true); }
  int64_t add_vector(int64_t size) { return add_tensor(size, 1, false); }

  void name(const std::string& name, int64_t tensor, int64_t first_row, int64_t rows) {
    const StoredTensor& stored = table_.tensors[tensor];
    Parameter parameter{name, {rows}, stored.decayed};
    if (stored.is_matrix) parameter.shape.push_back(stored.cols);
    table_.parameters.push_back(std::move(parameter));
    table_.placements.push_back({tensor, first_row});
  }
  void name(const std::string& label, int64_t tensor) { name(label, tensor, 0, table_.tensors[tensor].rows); }

  MlpTensors add_mlp(const std::string& prefix, int64_t hidden, int64_t intermediate) {
    const MlpTensors mlp{add_matrix(2 * intermediate, hidden), add_matrix(hidden, intermediate)};
    name(prefix + "gate_proj.weight", mlp.gate_up, 0, intermediate);
    name(prefix + "up_proj.weight", mlp.gate_up, intermediate, intermediate);
    name(prefix + "down_proj.weight", mlp.down);
    return mlp;
  }

  // Router and experts, as many as `moe` says.
  void add_experts(LayerTensors& layer, const std::string& prefix, int64_t hidden, const MoeConfig& moe) {
    layer.gate_up = layer.down = -1;
    layer.router = add_matrix(moe.num_experts, hidden);
    name(prefix + "gate.weight", layer.router);
    for (int64_t expert = 0; expert < moe.num_experts; ++expert) {
      layer.experts.push_back(
          add_mlp(prefix + "experts." + std::to_string(expert) + ".", hidden, moe.intermediate_size));
    }
  }

  ParameterTable& table() { return table_; }

 private:
  ParameterTable table_{};
};

}  // namespace

int64_t Parameter::num_elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

ParameterTable make_parameter_table(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t q_size = config.num_heads * config.head_dim;
  const int64_t kv_size = config.num_kv_heads * config.head_dim;
  TableBuilder builder;
  ParameterTable& table = builder.table();

  table.embedding = builder.add_matrix(config.vocab_size, hidden);
  builder.name("model.embed_tokens.weight", table.embedding);
  for (int64_t index = 0; index < config.num_layers; ++index) {
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    LayerTensors layer{};
    layer.qkv = builder.add_matrix(q_size + 2 * kv_size, hidden);
    layer.qkv_bias = config.qkv_bias ? builder.add_vector(q_size + 2 * kv_size) : -1;
    const auto name_projection = [&](const char* projection, int64_t first_row, int64_t rows) {
      builder.name(prefix + "self_attn." + projection + ".weight", layer.qkv, first_row, rows);
      if (config.qkv_bias) {
        builder.name(prefix + "self_attn." + projection + ".bias", layer.qkv_bias, first_row, rows);
      }
    };
    name_projection("q_proj", 0, q_size);
    name_projection("k_proj", q_size, kv_size);
    name_projection("v_proj", q_size + kv_size, kv_size);
    layer.o = builder.add_matrix(hidden, q_size);
    builder.name(prefix + "self_attn.o_proj.weight", layer.o);
    layer.q_norm = layer.k_norm = -1;
    if (config.qk_norm) {
      layer.q_norm = builder.add_vector(config.head_dim);
      layer.k_norm = builder.add_vector(config.head_dim);
      builder.name(prefix + "self_attn.q_norm.weight", layer.q_norm);
      builder.name(prefix + "self_attn.k_norm.weight", layer.k_norm);
    }
    if (config.has_experts(index)) {
      builder.add_experts(layer, prefix + "mlp.", hidden, *config.moe);
    } else {
      const MlpTensors mlp = builder.add_mlp(prefix + "mlp.", hidden, config.intermediate_size);
      layer.gate_up = mlp.gate_up;
      layer.down = mlp.down;
      layer.router = -1;
    }
    layer.input_norm = builder.add_vector(hidden);
    builder.name(prefix + "input_layernorm.weight", layer.input_norm);
    layer.post_attention_norm = builder.add_vector(hidden);
    builder.name(prefix + "post_attention_layernorm.weight", layer.post_attention_norm);
    table.layers.push_back(std::move(layer));
  }
  table.final_norm = builder.add_vector(hidden);
  builder.name("model.norm.weight", table.final_norm);
  table.lm_head = table.embedding;
  if (!config.tie_word_embeddings) {
    table.lm_head = builder.add_matrix(config.vocab_size, hidden);
    builder.name("lm_head.weight", table.lm_head);
  }
  return std::move(table);
}

}  // namespace wideseek
