// Layers of experts: routing, grouped products and their sum, each against plain loops; and what such a model refuses.
#include "model/experts.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "check.h"
#include "cpu/gemm.h"
#include "model/router.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

std::vector<float> normals(uint64_t seed, int64_t count, double scale = 1.0) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(scale * philox_normal(seed, 7, i));
  return values;
}

MoeConfig experts_of(int64_t E, int64_t k, bool normalize) { return {E, k, 22, normalize, {true}}; }

// One layer of experts.
ModelConfig one_layer(const MoeConfig& moe) {
  ModelConfig config = odd_sizes();
  config.num_layers = 1;
  config.moe = moe;
  return config;
}

struct Memory {
  Memory(const Model::State& model, int64_t R) {
    Arena size(nullptr);
    plan(size, model, R);
    bytes = DeviceArray<std::byte>(model.backend, size.used());
    Arena arena(bytes.get());
    plan(arena, model, R);
  }
  void plan(Arena& arena, const Model::State& model, int64_t R) {
    scratch.normed = arena.take_floats(R * model.config.hidden_size);
    scratch.activation = arena.take_floats(activation_elements(model.config, R));
    scratch.gate_up = arena.take_floats(2 * activation_elements(model.config, R));
    scratch.experts = plan_experts(arena, model, R);
  }
  DeviceArray<std::byte> bytes;
  LayerScratch scratch{};
};

// residual + the experts' shares of x, all [R,C].
std::vector<float> run_experts(Model::State& model, const std::vector<float>& x, const std::vector<float>& residual) {
  const int64_t R = static_cast<int64_t>(x.size()) / model.config.hidden_size;
  Memory memory(model, R);
  std::copy(x.begin(), x.end(), memory.scratch.normed.fp32());
  std::vector<float> out = residual;
  experts_forward(model, model.table.layers[0], memory.scratch, out.data(), out.data(), R);
  return out;
}

// The parameter named `name`, widened.
struct Matrix {
  std::vector<float> values;
  int64_t cols;
  std::vector<double> times(const std::vector<double>& x) const {
    std::vector<double> out(values.size() / static_cast<size_t>(cols), 0.0);
    for (size_t i = 0; i < values.size(); ++i) out[i / cols] += values[i] * x[i % cols];
    return out;
  }
};
Matrix read_matrix(const Model& model, const std::string& name) {
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    const Parameter& parameter = model.parameters()[i];
    if (parameter.name != "model.layers.0.mlp." + name + ".weight") continue;
    std::vector<float> values(static_cast<size_t>(parameter.num_elements()));
    model.read_parameter(static_cast<int64_t>(i), values.data(), DType::kFloat32);
    return {std::move(values), parameter.shape[1]};
  }
  throw std::runtime_error("no parameter " + name);
}

// Shares of all E experts, 0 for those that are not chosen.
std::vector<double> reference_shares(const std::vector<double>& logits, const MoeConfig& moe) {
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  double all = 0, chosen = 0;
  for (const double logit : logits) all += std::exp(logit);
  for (int64_t j = 0; j < moe.experts_per_token; ++j) chosen += std::exp(logits[order[j]]);
  std::vector<double> shares(logits.size(), 0.0);
  for (int64_t j = 0; j < moe.experts_per_token; ++j) {
    shares[order[j]] = std::exp(logits[order[j]]) / (moe.normalize_shares ? chosen : all);
  }
  return shares;
}

void check_against_all_experts(const MoeConfig& moe, DType dtype, uint64_t seed) {
  Instance made = make_model(one_layer(moe), seed, 2, dtype);
  const int64_t R = 13, C = made.model->config().hidden_size;
  const std::vector<float> x = normals(seed, R * C), residual = normals(seed + 1, R * C);
  const std::vector<float> out = run_experts(made.model->state(), x, residual);
  const Matrix router = read_matrix(*made.model, "gate");
  std::vector<double> want(residual.begin(), residual.end());
  for (int64_t e = 0; e < moe.num_experts; ++e) {
    const std::string prefix = "experts." + std::to_string(e) + ".";
    const Matrix gate = read_matrix(*made.model, prefix + "gate_proj"),
                 up = read_matrix(*made.model, prefix + "up_proj"),
                 down = read_matrix(*made.model, prefix + "down_proj");
    for (int64_t r = 0; r < R; ++r) {
      const std::vector<double> row(x.begin() + r * C, x.begin() + (r + 1) * C);
      const std::vector<double> u = up.times(row);
      std::vector<double> hidden = gate.times(row);
      for (size_t f = 0; f < hidden.size(); ++f) hidden[f] = hidden[f] / (1 + std::exp(-hidden[f])) * u[f];
      const double share = reference_shares(router.times(row), moe)[e];
      const std::vector<double> y = down.times(hidden);
      for (int64_t c = 0; c < C; ++c) want[r * C + c] += share * y[c];
    }
  }
  for (size_t i = 0; i < out.size(); ++i) CHECK_NEAR(out[i], want[i], 2e-5 * (1 + std::fabs(want[i])));
}

}  // namespace

TEST(routing_takes_the_largest_and_of_equal_ones_the_first) {
  Random random(1);
  for (int trial = 0; trial < 200; ++trial) {
    const int64_t T = random.integer(1, 9), E = random.integer(1, 20), k = random.integer(1, E);
    const MoeConfig moe = experts_of(E, k, trial % 2 == 0);
    std::vector<float> logits;
    for (int64_t i = 0; i < T * E; ++i)
      logits.push_back(0.5f * static_cast<float>(random.integer(-3, 3)));  // many ties
    const Routing routing = route(logits.data(), T, moe);
    CHECK(routing.first_rows.front() == 0 && routing.first_rows.back() == T * k);
    for (int64_t t = 0; t < T; ++t) {
      const std::vector<double> want = reference_shares({logits.begin() + t * E, logits.begin() + (t + 1) * E}, moe);
      std::vector<double> got(static_cast<size_t>(E), 0.0);
      int64_t last = -1;
      for (int64_t j = t * k; j < (t + 1) * k; ++j) {
        const int32_t row = routing.token_rows[j];
        CHECK(routing.row_tokens[row] == t);
        const int64_t expert = std::upper_bound(routing.first_rows.begin(), routing.first_rows.end(), row) -
                               routing.first_rows.begin() - 1;
        CHECK(expert > last);
        last = expert;
        got[expert] = routing.shares[j];
      }
      for (int64_t e = 0; e < E; ++e) CHECK_NEAR(got[e], want[e], 1e-6);
    }
    for (int64_t e = 0; e < E; ++e) {
      CHECK(std::is_sorted(routing.row_tokens.begin() + routing.first_rows[e],
                           routing.row_tokens.begin() + routing.first_rows[e + 1]));
    }
  }
}

TEST(routing_of_what_is_not_a_number_stays_in_range_and_in_its_row) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> odd{nan, 1, nan, 2, infinity, nan, -infinity, 3}, fine = normals(2, 8);
  for (int64_t k = 1; k <= 8; ++k) {
    std::vector<float> logits = odd;
    logits.insert(logits.end(), fine.begin(), fine.end());
    const Routing both = route(logits.data(), 2, experts_of(8, k, true));
    const Routing alone = route(fine.data(), 1, experts_of(8, k, true));
    CHECK(both.first_rows.back() == 2 * k);
    for (int64_t j = 0; j < k; ++j) CHECK(both.shares[k + j] == alone.shares[j]);
  }
}

TEST(grouped_products_are_those_of_each_group) {
  const int64_t E = 5, N = 130, K = 70;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    ThreadPool one(1), three(3);
    std::vector<PackedWeight> weights;
    std::vector<const PackedWeight*> pointers;
    for (int64_t e = 0; e < E; ++e) {
      weights.emplace_back(N, K, dtype);
      weights.back().store_rows(one, 0, N, normals(10 + e, N * K).data());
    }
    for (const PackedWeight& weight : weights) pointers.push_back(&weight);
    for (const std::vector<int64_t>& first_rows :
         {std::vector<int64_t>{0, 3, 3, 20, 221, 222}, {0, 0, 0, 0, 0, 0}, {0, 0, 0, 500, 500, 500}}) {
      const int64_t rows = first_rows.back();
      const std::vector<float> x = normals(20, rows * K);
      std::vector<float> want(static_cast<size_t>(rows * N)), out(want.size());
      for (int64_t e = 0; e < E; ++e) {
        linear_forward(one, want.data() + first_rows[e] * N, N, x.data() + first_rows[e] * K, K, weights[e], nullptr,
                       nullptr, 0, first_rows[e + 1] - first_rows[e]);
      }
      for (ThreadPool* pool : {&one, &three}) {
        std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
        expert_linear_forward(*pool, out.data(), x.data(), pointers.data(), first_rows.data(), E);
        CHECK(same_bits(out, want));
      }
    }
  }
}

TEST(combined_rows_are_one_chain_from_the_residual) {
  const auto backend = create_backend("cpu", 2);
  for (const int64_t C : {1, 16, 37}) {
    const int64_t T = 6, k = 3;
    const std::vector<float> residual = normals(1, T * C), values = normals(2, T * k * C), shares = normals(3, T * k);
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < T * k; ++i) rows.push_back(i * 5 % static_cast<int32_t>(T * k));
    std::vector<float> want = residual, out(want.size()), in_place = residual;
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t j = t * k; j < (t + 1) * k; ++j) {
        for (int64_t c = 0; c < C; ++c) want[t * C + c] = std::fma(values[rows[j] * C + c], shares[j], want[t * C + c]);
      }
    }
    backend->combine_rows(out.data(), residual.data(), values.data(), rows.data(), shares.data(), T, k, C);
    backend->combine_rows(in_place.data(), in_place.data(), values.data(), rows.data(), shares.data(), T, k, C);
    CHECK(same_bits(out, want));
    CHECK(same_bits(in_place, want));
  }
}

TEST(experts_match_a_loop_over_all_of_them) {
  Random random(4);
  for (int trial = 0; trial < 12; ++trial) {
    const int64_t E = random.integer(1, 12), k = random.integer(1, E);
    check_against_all_experts(experts_of(E, k, trial % 2 == 0), trial % 3 == 0 ? DType::kBFloat16 : DType::kFloat32,
                              static_cast<uint64_t>(30 + trial));
  }
}

TEST(a_row_of_experts_does_not_depend_on_its_batch) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Instance one = make_model(one_layer(experts_of(9, 4, true)), 3, 1, dtype);
    Instance two = make_model(one_layer(experts_of(9, 4, true)), 3, 2, dtype);
    const int64_t R = 200, C = one.model->config().hidden_size;
    const std::vector<float> x = normals(5, R * C), residual = normals(6, R * C);
    const std::vector<float> all = run_experts(one.model->state(), x, residual);
    Random random(7);
    for (int trial = 0; trial < 60; ++trial) {
      const int64_t count = trial < 20 ? 1 : random.integer(1, 60), first = random.integer(0, R - count);
      const auto part = [&](const std::vector<float>& rows) {
        return std::vector<float>(rows.begin() + first * C, rows.begin() + (first + count) * C);
      };
      Model::State& model = (trial % 2 == 0 ? one : two).model->state();
      CHECK(same_bits(run_experts(model, part(x), part(residual)), part(all)));
    }
  }
}

TEST(training_a_mixture_of_experts_is_refused_and_not_planned) {
  const ModelConfig config = qwen3_moe();
  const Batch batch = branching_batch(8, config.vocab_size);
  Instance made = make_model(config, 5, 1, DType::kBFloat16);
  const int64_t before = made.backend->memory_info().allocated_bytes;
  Trainer trainer(*made.model, {1024});
  std::vector<float> logprobs(batch.token_ids.size()), entropies(batch.token_ids.size());
  trainer.logprobs(batch.view(), 1.0f, logprobs.data(), entropies.data());
  const auto refused = [](auto&& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code() == ErrorCode::kUnsupported && std::string(error.what()).find("mixture") != std::string::npos;
    }
    return false;
  };
  CHECK(refused([&] { trainer.forward_backward(batch.view(), grpo(), nullptr); }));
  CHECK(refused([&] { trainer.optimizer_step({0.01, 1.0, 0.9, 0.999, 1e-8, 0.1}); }));
  trainer.zero_gradients();
  const int64_t taken = made.backend->memory_info().allocated_bytes - before;
  // Beside the positions' table, which the model owns.
  const int64_t table = made.model->state().rope_cos.bytes() + made.model->state().rope_sin.bytes();
  CHECK(taken - table == Trainer::planned_bytes(*made.model, {1024}));
  CHECK(read(trainer, *made.model, TensorKind::kWeight, 0).size() > 0);
}
