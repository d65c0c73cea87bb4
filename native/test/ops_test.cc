// The row operations of the CPU backend against plain loops in double, on widths with and without a vector tail.
#include "backend.h"
#include "check.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

std::vector<float> normals(uint64_t seed, int64_t count, double scale = 1.0) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(scale * philox_normal(seed, 7, i));
  return values;
}

}  // namespace

TEST(rms_norm_matches_its_formula_and_may_run_in_place) {
  const auto backend = create_backend("cpu", 2);
  for (const int64_t C : {1, 5, 16, 72, 131}) {
    const int64_t T = 9;
    std::vector<float> x = normals(1, T * C);
    const std::vector<float> weight = normals(2, C);
    std::vector<float> out(x.size());
    backend->rms_norm_forward(out.data(), x.data(), weight.data(), T, C, 1e-5f);
    for (int64_t t = 0; t < T; ++t) {
      double squares = 0;
      for (int64_t c = 0; c < C; ++c) squares += double{x[t * C + c]} * x[t * C + c];
      for (int64_t c = 0; c < C; ++c) {
        const double expected = x[t * C + c] / std::sqrt(squares / static_cast<double>(C) + 1e-5) * weight[c];
        CHECK_NEAR(out[t * C + c], expected, 1e-6 * (1 + std::fabs(expected)));
      }
    }
    backend->rms_norm_forward(x.data(), x.data(), weight.data(), T, C, 1e-5f);
    CHECK(same_bits(x, out));
  }
}

TEST(rotation_by_position_keeps_relative_angles) {
  const auto backend = create_backend("cpu", 1);
  const AttentionShape shape{1, 1, 10};
  std::vector<float> cos, sin;
  for (int position = 0; position < 40; ++position) {
    for (int pair = 0; pair < 5; ++pair) {
      cos.push_back(static_cast<float>(std::cos(position * std::pow(100.0, -pair / 5.0))));
      sin.push_back(static_cast<float>(std::sin(position * std::pow(100.0, -pair / 5.0))));
    }
  }
  const std::vector<float> row = normals(3, 30);
  const auto rotated = [&](int32_t position) {
    std::vector<float> out = row;
    backend->qk_norm_rope_forward(out.data(), out.data(), nullptr, nullptr, cos.data(), sin.data(), &position, shape, 1,
                                  0);
    return out;
  };
  CHECK(same_bits(rotated(0), row));
  const auto score = [&](int32_t query, int32_t key) {
    const std::vector<float> q = rotated(query), k = rotated(key);
    double sum = 0;
    for (int d = 0; d < 10; ++d) sum += double{q[d]} * k[10 + d];
    return sum;
  };
  CHECK_NEAR(score(13, 4), score(29, 20), 1e-5);
  CHECK(std::fabs(score(13, 4) - score(13, 5)) > 1e-3);
  CHECK(std::equal(row.begin() + 20, row.end(), rotated(17).begin() + 20));  // values are not rotated
}

TEST(swiglu_matches_its_formula_and_its_gradient_differences) {
  const auto backend = create_backend("cpu", 2);
  const int64_t T = 3, F = 37;
  std::vector<float> gate_up = normals(4, T * 2 * F, 2.0);
  const std::vector<float> dout = normals(5, T * F);
  std::vector<float> out(static_cast<size_t>(T * F));
  backend->swiglu_forward(out.data(), gate_up.data(), T, F);
  std::vector<float> gradient = gate_up;
  backend->swiglu_backward(gradient.data(), dout.data(), T, F);
  const auto value = [](double gate, double up) { return gate / (1 + std::exp(-gate)) * up; };
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t f = 0; f < F; ++f) {
      const double gate = gate_up[t * 2 * F + f], up = gate_up[t * 2 * F + F + f], d = dout[t * F + f];
      CHECK_NEAR(out[t * F + f], value(gate, up), 1e-6 * (1 + std::fabs(value(gate, up))));
      CHECK_NEAR(gradient[t * 2 * F + f], d * (value(gate + 1e-5, up) - value(gate - 1e-5, up)) / 2e-5, 1e-5);
      CHECK_NEAR(gradient[t * 2 * F + F + f], d * value(gate, 1), 1e-5);
    }
  }
}

TEST(logprobs_entropies_and_their_gradient_match_a_softmax_in_double) {
  const auto backend = create_backend("cpu", 2);
  const int64_t R = 4, V = 211;
  const float temperature = 0.7f;
  std::vector<float> logits = normals(6, R * V, 5.0);
  logits[3] = -std::numeric_limits<float>::infinity();  // a forbidden token is probability 0, not NaN
  const std::vector<int32_t> rows{0, 0, 1, 3, 3}, tokens{5, 9, 0, 210, 210};
  const Targets targets{5, rows.data(), tokens.data()};
  const std::vector<float> dlogprobs{0.5f, -1.0f, 2.0f, 0.25f, 0.25f};
  std::vector<float> logprobs(5), row_max(R), log_sum(R), entropy(R);
  backend->logprob_forward(logprobs.data(), row_max.data(), log_sum.data(), entropy.data(), logits.data(), targets, R,
                           V, temperature);
  std::vector<float> gradient(logits.size()), in_place = logits;
  for (std::vector<float>* out : {&gradient, &in_place}) {
    backend->logprob_backward(out->data(), out == &gradient ? logits.data() : in_place.data(), dlogprobs.data(),
                              row_max.data(), log_sum.data(), targets, R, V, temperature);
  }
  CHECK(gradient == in_place);
  for (int64_t r = 0; r < R; ++r) {
    double total = 0, expected_entropy = 0;
    for (int64_t v = 0; v < V; ++v) total += std::exp(double{logits[r * V + v]} / temperature);
    for (int64_t v = 0; v < V; ++v) {
      const double p = std::exp(double{logits[r * V + v]} / temperature) / total;
      if (p > 0) expected_entropy -= p * std::log(p);
      double expected = 0;
      for (int k = 0; k < 5; ++k) {
        if (rows[k] == r) expected += dlogprobs[k] * ((tokens[k] == v ? 1.0 : 0.0) - p) / temperature;
      }
      CHECK_NEAR(gradient[r * V + v], expected, 2e-6);
    }
    CHECK_NEAR(entropy[r], expected_entropy, 1e-5);
    for (int k = 0; k < 5; ++k) {
      if (rows[k] != r) continue;
      CHECK_NEAR(logprobs[k], double{logits[r * V + tokens[k]]} / temperature - std::log(total), 1e-5);
      CHECK(logprobs[k] == row_logprob(logits.data() + r * V, V, tokens[k], temperature));
    }
  }
}

TEST(grpo_loss_follows_the_clipped_objective) {
  const auto backend = create_backend("cpu", 1);
  struct Case {
    double ratio, advantage, objective, dobjective;
  };
  // clip [0.8, 1.28], dual clip 3; J and r dJ/dr of every branch.
  const Case cases[] = {{1.0, 2.0, 2.0, 2.0},   {1.1, 1.0, 1.1, 1.1},    {1.5, 1.0, 1.28, 0.0}, {0.5, 1.0, 0.5, 0.5},
                        {0.5, -1.0, -0.8, 0.0}, {1.5, -1.0, -1.5, -1.5}, {4.0, -1.0, -3.0, 0.0}};
  for (const Case& c : cases) {
    const float logprob = -1.0f, weight = 0.5f, advantage = static_cast<float>(c.advantage);
    const float behavior = static_cast<float>(-1.0 - std::log(c.ratio)), ref = -1.4f, entropy = 0.25f;
    const int32_t row = 0, token = 0;
    LossStats stats{};
    float dlogprob = 0;
    backend->token_loss(&dlogprob, &stats, &logprob, &entropy, {1, &row, &token},
                        {&weight, &advantage, &behavior, &ref}, {LossKind::kGrpo, 1.0f, 0.2f, 0.28f, 3.0f, 0.1f});
    const double kl = std::exp(-0.4) + 0.4 - 1;
    CHECK_NEAR(stats.loss, 0.5 * (-c.objective + 0.1 * kl), 1e-6);
    CHECK_NEAR(stats.policy_loss, 0.5 * -c.objective, 1e-6);
    CHECK_NEAR(stats.sum_ref_kl_k3, kl, 1e-6);
    CHECK_NEAR(dlogprob, 0.5 * (-c.dobjective + 0.1 * (1 - std::exp(-0.4))), 1e-6);
    CHECK(stats.num_clipped_low == (c.advantage < 0 && c.ratio < 0.8));
    CHECK(stats.num_clipped_high == (c.advantage > 0 && c.ratio > 1.28));
    CHECK(stats.num_dual_clipped == (c.advantage < 0 && c.ratio > 3));
    CHECK_NEAR(stats.sum_kl_k1, -std::log(c.ratio), 1e-6);
    CHECK_NEAR(stats.sum_entropy, 0.25, 0);
  }
}

TEST(sum_of_squares_is_in_double_and_shows_what_is_not_finite) {
  const auto backend = create_backend("cpu", 2);
  std::vector<float> values = normals(8, 40000, 1e-3);
  double expected = 0;
  for (const float value : values) expected += double{value} * value;
  CHECK_NEAR(backend->sum_squares(values.data(), 40000), expected, 1e-12 * expected);
  values[39999] = 1e30f;  // its square is no float
  CHECK_NEAR(backend->sum_squares(values.data(), 40000), double{1e30f} * double{1e30f}, 1e48);
  values[12345] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(backend->sum_squares(values.data(), 40000)));
}

TEST(memory_is_counted_and_refused_with_its_size) {
  const auto backend = create_backend("cpu", 1);
  {
    const DeviceArray<float> array(*backend, 1000);
    CHECK(backend->memory_info().allocated_bytes == 4000);
  }
  CHECK(backend->memory_info().allocated_bytes == 0);
  CHECK(backend->memory_info().peak_bytes == 4000);
  CHECK_THROWS(backend->allocate(int64_t{1} << 60));
}
