// The model: its parameter table, and that generation gives the trainer's log-probabilities to the bit.
#include "base/error.h"
#include "check.h"
#include "model/rope_table.h"
#include "tiny_generation.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

void check_bit_equality(const ModelConfig& config, DType dtype, int num_threads) {
  Instance made = make_model(config, 5, num_threads, dtype);
  const Batch batch = branching_batch(8, config.vocab_size);
  Trainer trainer(*made.model, {1024});
  std::vector<float> trained(batch.token_ids.size()), entropies(batch.token_ids.size());
  trainer.logprobs(batch.view(), 0.7f, trained.data(), entropies.data());
  for (uint64_t seed = 0; seed < 6; ++seed) {
    CHECK(same_bits(generate_logprobs(*made.model, *made.backend, batch, seed, 0.7f), trained));
  }
}

}  // namespace

TEST(generation_gives_the_trainers_logprobs_bit_for_bit) {
  check_bit_equality(odd_sizes(), DType::kFloat32, 1);
  check_bit_equality(odd_sizes(), DType::kFloat32, 2);
  check_bit_equality(odd_sizes(), DType::kBFloat16, 2);
  check_bit_equality(qwen2(), DType::kFloat32, 2);
  check_bit_equality(qwen3_moe(), DType::kFloat32, 1);
  check_bit_equality(qwen3_moe(), DType::kBFloat16, 2);
}

TEST(parameter_table_follows_the_architecture) {
  const Instance tied = make_model(qwen3(true), 1);
  const Instance untied = make_model(qwen3(false), 1);
  const Instance biased = make_model(qwen2(), 1);
  CHECK(tied.model->parameters().size() == 2 * 11 + 2);
  CHECK(untied.model->parameters().size() == 2 * 11 + 3);
  CHECK(biased.model->parameters().size() == 2 * 12 + 3);
  for (const Parameter& parameter : untied.model->parameters()) {
    CHECK(parameter.decayed == (parameter.shape.size() == 2));
    if (parameter.name == "model.layers.1.self_attn.k_proj.weight")
      CHECK(parameter.shape == (std::vector<int64_t>{12, 12}));
    if (parameter.name == "model.layers.0.mlp.up_proj.weight") CHECK(parameter.shape == (std::vector<int64_t>{20, 12}));
  }
}

TEST(parameter_table_lists_routers_and_experts) {
  const Instance made = make_model(qwen3_moe(), 1);
  const std::vector<Parameter>& parameters = made.model->parameters();
  CHECK(parameters.size() == 3 * 8 + 3 + 3 + 2 * (1 + 7 * 3));
  const auto shape = [&](const std::string& name) {
    const auto found =
        std::find_if(parameters.begin(), parameters.end(), [&](const Parameter& p) { return p.name == name; });
    return found == parameters.end() ? std::vector<int64_t>() : found->shape;
  };
  CHECK(shape("model.layers.0.mlp.gate.weight") == (std::vector<int64_t>{7, 72}));
  CHECK(shape("model.layers.2.mlp.experts.6.up_proj.weight") == (std::vector<int64_t>{22, 72}));
  CHECK(shape("model.layers.0.mlp.experts.0.down_proj.weight") == (std::vector<int64_t>{72, 22}));
  CHECK(shape("model.layers.1.mlp.down_proj.weight") == (std::vector<int64_t>{72, 150}));
  CHECK(shape("model.layers.1.mlp.gate.weight").empty() && shape("model.layers.0.mlp.up_proj.weight").empty());
}

TEST(parameters_are_written_and_read_back) {
  Instance made = make_model(qwen3_moe(), 1);
  for (size_t i = 0; i < made.model->parameters().size(); ++i) {
    std::vector<float> values(static_cast<size_t>(made.model->parameters()[i].num_elements()));
    for (size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(i * 1000 + k) * 0.5f;
    made.model->write_parameter(static_cast<int64_t>(i), values.data(), DType::kFloat32);
  }
  for (size_t i = 0; i < made.model->parameters().size(); ++i) {
    std::vector<float> values(static_cast<size_t>(made.model->parameters()[i].num_elements()));
    made.model->read_parameter(static_cast<int64_t>(i), values.data(), DType::kFloat32);
    for (size_t k = 0; k < values.size(); ++k) CHECK(values[k] == static_cast<float>(i * 1000 + k) * 0.5f);
  }
  CHECK_THROWS(made.model->write_parameter(1000, nullptr, DType::kFloat32));
}

TEST(half_precision_conversions_are_exact_and_round_to_even) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const bool is_nan16 = (bits & 0x7c00) == 0x7c00 && (bits & 0x3ff) != 0;
    const bool is_nan_b = (bits & 0x7f80) == 0x7f80 && (bits & 0x7f) != 0;
    if (!is_nan16) CHECK(float_to_fp16(fp16_to_float(half)) == half);
    if (!is_nan_b) CHECK(float_to_bf16(bf16_to_float(half)) == half);
  }
  CHECK(float_to_bf16(1.00390625f) == 0x3f80);  // halfway to the next: to even
  CHECK(float_to_bf16(1.01171875f) == 0x3f82);
  CHECK(float_to_fp16(2049.0f) == 0x6800);
  CHECK(float_to_fp16(2051.0f) == 0x6802);
  CHECK(float_to_fp16(65520.0f) == 0x7c00);
  CHECK(float_to_fp16(0x1p-25f) == 0);
}

TEST(initialization_is_counter_based_and_normal) {
  // Known answer of the Philox authors (Random123, kat_vectors): counter and key all ones.
  const auto known = philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u});
  CHECK(known[0] == 0x408f276du && known[1] == 0x41c83b0eu && known[2] == 0xa20bc7c6u && known[3] == 0x6d5451fdu);
  double sum = 0, squares = 0, fourth = 0;
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i) {
    const double value = philox_normal(1, 2, static_cast<uint64_t>(i));
    sum += value;
    squares += value * value;
    fourth += value * value * value * value;
  }
  CHECK_NEAR(sum / kCount, 0, 0.01);
  CHECK_NEAR(squares / kCount, 1, 0.015);
  CHECK_NEAR(fourth / kCount, 3, 0.1);
  for (double x = 0.001; x <= 1; x += 0.00137) {
    CHECK_NEAR(rng_detail::log_exact_order(x), std::log(x), 4e-16 * (1 + std::fabs(std::log(x))));
    CHECK_NEAR(rng_detail::cos_turns(x - 0.001), std::cos(6.283185307179586 * (x - 0.001)), 1e-15);
  }
}

TEST(configurations_out_of_range_are_refused_by_field) {
  const auto message = [](ModelConfig config) -> std::string {
    try {
      validate(config);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  ModelConfig config = qwen3(true);
  CHECK(message(config).empty());
  config.num_kv_heads = 3;
  CHECK(message(config).starts_with("num_key_value_heads: got 3"));
  config = qwen3_moe();
  CHECK(message(config).empty());
  config.moe->experts_per_token = 8;
  CHECK(message(config).starts_with("num_experts_per_tok: got 8"));
  config = qwen3_moe();
  config.moe->layers.pop_back();
  CHECK(message(config).starts_with("layers with experts: got 2"));
  config = qwen3(true);
  config.head_dim = 7;
  CHECK(message(config).starts_with("head_dim: got 7"));
  config = qwen3(true);
  config.rms_norm_eps = 0;
  CHECK(message(config).starts_with("rms_norm_eps"));
  config = qwen3(true);
  config.vocab_size = int64_t{1} << 40;
  CHECK(message(config).starts_with("vocab_size"));
}

TEST(forward_refuses_what_was_not_reserved) {
  Instance made = make_model(qwen3(true), 1);
  KvCache cache(*made.backend, made.model->config(), 4);
  made.model->reserve_inference(4, 32);
  CHECK_THROWS(made.model->reserve_inference(4, 513));
  const int32_t table[] = {0, 1, 2};
  const int32_t rows[] = {0};
  std::vector<int32_t> tokens(5, 1);
  int64_t num_seen = 0;
  const auto use = [&](int64_t, int64_t count, const float*) { num_seen += count; };
  SequenceSlice slice{0, 5, 0, table};
  CHECK_THROWS(made.model->forward({tokens.data(), 5, &slice, 1, rows, 1}, cache, use));
  slice = {0, 1, 32, table};
  CHECK_THROWS(made.model->forward({tokens.data(), 1, &slice, 1, rows, 1}, cache, use));
  slice = {0, 1, 0, table};
  tokens[0] = 19;
  CHECK_THROWS(made.model->forward({tokens.data(), 1, &slice, 1, rows, 1}, cache, use));
  tokens[0] = 18;
  made.model->forward({tokens.data(), 1, &slice, 1, rows, 1}, cache, use);
  CHECK(num_seen == 1);
}

TEST(backend_registry_names_what_this_build_has) {
  CHECK_THROWS(create_backend("cuda", 1));
  CHECK_THROWS(create_backend("tpu", 1));
  CHECK_THROWS(create_backend("cpu", 0));
}
