// Log-probabilities, token losses and the optimizer on the device against the CPU backend: what is fp32, to the bit.
#include <cmath>
#include <limits>

#include "parity.h"

using namespace parity;

namespace {

struct Logits {
  int64_t R, V;
  std::string text() const { return size_text({R, V}); }
};

// Rows with one, several or no targets, two of them with the same token.
struct TargetsOf {
  Integers rows, tokens;
  TargetsOf(int64_t R, int64_t V) {
    for (int64_t r = 0; r < R; ++r) {
      for (int64_t k = 0; k < (r % 5 == 3 ? 0 : r % 3 == 1 ? 3 : 1); ++k) {
        rows.push_back(static_cast<int32_t>(r));
        tokens.push_back(static_cast<int32_t>((r * 31 + k / 2 * 17) % V));
      }
    }
  }
  int64_t count() const { return static_cast<int64_t>(rows.size()); }
};

Floats logit_values(int64_t count) {
  Floats all = values(1, count);
  for (float& value : all) value *= 4;
  if (count > 3) all[1] = -std::numeric_limits<float>::infinity();  // a token that cannot come
  return all;
}

constexpr float kTemperature = 0.7f;

}  // namespace

TEST(device_logprobs_equal_the_cpu) {
  for (const Logits& size : sizes<Logits>({{11, 515}, {9, 1100}, {3, 15}, {0, 100}}, {{1000, 151936}, {64, 151936}})) {
    const auto [R, V] = size;
    const TargetsOf targets(R, V);
    check_operation("logprob" + size.text(), [&, R = R, V = V](const Side& side) -> Outputs {
      const Array logits = side.floats(logit_values(R * V)), logprobs = side.blank_floats(targets.count());
      const Array max = side.blank_floats(R), log_sum = side.blank_floats(R), entropy = side.blank_floats(R);
      const Array dlogprobs = side.floats(values(2, targets.count())), dlogits = side.blank(R * V);
      const auto rows = side.integers(targets.rows), tokens = side.integers(targets.tokens);
      const Targets at{targets.count(), rows.get(), tokens.get()};
      side.backend.logprob_forward(logprobs.fp32(), max.fp32(), log_sum.fp32(), entropy.fp32(), logits.fp32(), at, R, V,
                                   kTemperature);
      side.backend.logprob_backward(dlogits, logits.fp32(), dlogprobs.fp32(), max.fp32(), log_sum.fp32(), at, R, V,
                                    kTemperature);
      side.backend.logprob_backward(logits, logits.fp32(), dlogprobs.fp32(), max.fp32(), log_sum.fp32(), at, R, V,
                                    kTemperature);  // in place
      return {{"logprobs", logprobs, Promise::kSameBits},   {"row_max", max, Promise::kSameBits},
              {"row_log_sum", log_sum, Promise::kSameBits}, {"row_entropy", entropy, Promise::kSameBits},
              {"dlogits", dlogits, Promise::kSameBits},     {"in place", logits, Promise::kSameBits}};
    });
  }
}

// The sampler's numbers are the trainer's.
TEST(device_logprobs_equal_the_samplers) {
  const int64_t R = device::is_real() ? 500 : 9, V = device::is_real() ? 151936 : 1100;
  const Floats logits = logit_values(R * V);
  check_rows_alone("logprob", R, 1, [&](const Side& side, const auto& check) {
    const Array on_device = side.floats(logits), max = side.blank_floats(R), log_sum = side.blank_floats(R);
    const Array entropy = side.blank_floats(R), logprobs = side.blank_floats(R);
    check([&](int64_t first, int64_t count) {
      Integers rows, tokens;
      for (int64_t r = 0; r < count; ++r) {
        rows.push_back(static_cast<int32_t>(r));
        tokens.push_back(static_cast<int32_t>((first + r) * 31 % V));
      }
      const auto device_rows = side.integers(rows), device_tokens = side.integers(tokens);
      logprobs.zero(0, count);
      side.backend.logprob_forward(logprobs.fp32(), max.fp32(), log_sum.fp32(), entropy.fp32(),
                                   on_device.fp32() + first * V, {count, device_rows.get(), device_tokens.get()}, count,
                                   V, kTemperature);
      const Floats got = logprobs.read(0, count);
      for (int64_t r = 0; r < count; ++r) {
        CHECK(got[r] == row_logprob(logits.data() + (first + r) * V, V, tokens[r], kTemperature));
      }
      return got;
    });
  });
}

namespace {

Output number(const Side& side, const char* name, double value, Promise promise = Promise::kSums) {
  return {name, side.floats({static_cast<float>(value)}), promise};
}

void check_token_loss(int64_t count, const LossSettings& settings, bool with_ref) {
  check_operation("token_loss of " + std::to_string(count), DType::kFloat32, [&](const Side& side) -> Outputs {
    Floats behavior = values(1, count), ref = values(2, count), weights = values(3, count);
    const Floats logprobs = values(4, count);
    Integers rows;
    for (int64_t k = 0; k < count; ++k) {
      behavior[k] = logprobs[k] + 0.3f * behavior[k];
      ref[k] = logprobs[k] + 0.3f * ref[k];
      weights[k] = std::fabs(weights[k]) + 0.01f;
      rows.push_back(static_cast<int32_t>(k / 2));
    }
    const Array own = side.floats(logprobs), entropy = side.floats(values(5, count / 2 + 1));
    const Array weight = side.floats(weights), advantage = side.floats(values(6, count));
    const Array of_behavior = side.floats(behavior), of_ref = side.floats(ref), dlogprobs = side.blank_floats(count);
    const auto at = side.integers(rows);
    constexpr int64_t kFloats = sizeof(LossStats) / sizeof(float);
    const Array total = side.floats(Floats(kFloats));
    side.backend.token_loss(dlogprobs.fp32(), reinterpret_cast<LossStats*>(total.fp32()), own.fp32(), entropy.fp32(),
                            {count, at.get(), nullptr},
                            {weight.fp32(), advantage.fp32(), of_behavior.fp32(), with_ref ? of_ref.fp32() : nullptr},
                            settings);
    LossStats stats;
    side.backend.download(&stats, total.fp32(), sizeof(stats));
    return {{"dlogprobs", dlogprobs, Promise::kSameBits},
            number(side, "loss", stats.loss),
            number(side, "policy_loss", stats.policy_loss),
            number(side, "sum_ratio", stats.sum_ratio),
            number(side, "sum_kl_k3", stats.sum_kl_k3),
            number(side, "sum_ref_kl_k3", stats.sum_ref_kl_k3),
            number(side, "sum_entropy", stats.sum_entropy),
            number(side, "sum_nll", stats.sum_nll),
            number(side, "num_tokens", static_cast<double>(stats.num_tokens), Promise::kSameBits),
            number(side, "num_clipped_low", static_cast<double>(stats.num_clipped_low), Promise::kSameBits),
            number(side, "num_clipped_high", static_cast<double>(stats.num_clipped_high), Promise::kSameBits),
            number(side, "num_dual_clipped", static_cast<double>(stats.num_dual_clipped), Promise::kSameBits),
            number(side, "min_ratio", stats.min_ratio, Promise::kSameBits),
            number(side, "max_ratio", stats.max_ratio, Promise::kSameBits),
            number(side, "max_abs_logprob_diff", stats.max_abs_logprob_diff, Promise::kSameBits)};
  });
}

}  // namespace

TEST(device_token_loss_equals_the_cpu) {
  constexpr float kOff = std::numeric_limits<float>::infinity();
  for (const int64_t count : sizes<int64_t>({0, 1, 257, 700}, {100003})) {
    check_token_loss(count, {LossKind::kNll, 1, 0, 0, kOff, 0}, false);
    check_token_loss(count, {LossKind::kGrpo, 1, 0.2f, 0.28f, 1.5f, 0.1f}, true);
    check_token_loss(count, {LossKind::kGrpo, 1, 0.2f, 0.28f, kOff, 0}, false);
  }
}

TEST(device_sum_squares_equals_the_cpu) {
  for (const int64_t count : sizes<int64_t>({0, 1, 5001}, {100000007})) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      const auto backend = device::create(dtype), cpu = create_backend("cpu", device::cpu_threads());
      const Side side(*backend, dtype), reference(*cpu, dtype);
      const Array array = side.activations(values(1, count)), same = reference.activations(values(1, count));
      const auto [got, again] = device::twice([&] { return backend->sum_squares(array, count); });
      const double want = cpu->sum_squares(same, count);
      CHECK_NEAR(got, want, 1e-12 * want);
      CHECK(got == again);
      const float bad = std::numeric_limits<float>::infinity();
      if (count == 0 || dtype != DType::kFloat32) continue;
      backend->upload(array.fp32() + count - 1, &bad, sizeof(bad));
      CHECK(!std::isfinite(backend->sum_squares(array, count)));
    }
  }
}

TEST(device_adamw_equals_the_cpu) {
  struct Matrix {
    int64_t rows, cols;
  };
  for (const auto& [rows, cols] : sizes<Matrix>({{13, 79}, {1, 1}}, {{9728, 2560}})) {
    for (const bool with_master : {false, true}) {
      const int64_t count = rows * cols;
      const std::string name = "adamw of " + std::to_string(count) + (with_master ? ", master" : "");
      const auto operation = [&, rows = rows, cols = cols](const Side& side) -> Outputs {
        const auto weight = side.weight(rows, cols, values(1, count));
        const Array vector = side.floats(values(1, count)), out = side.blank_floats(count);
        Floats squares = values(4, count);
        for (float& value : squares) value *= value;
        std::vector<Array> states;  // master, gradients and moments of the matrix and of the vector
        for (int tensor = 0; tensor < 2; ++tensor) {
          for (const Floats& of : {values(1, count), values(2, count), values(3, count), squares}) {
            states.push_back(side.floats(of));
          }
        }
        for (const int64_t number : {1, 2}) {
          const AdamWStep step{1e-2, 0.9, 0.95, 1e-8, 0.1, 0.37, number};
          const auto state = [&](size_t first) -> AdamWState {
            return {with_master ? states[first].fp32() : nullptr, states[first + 1].pointer(), states[first + 2].fp32(),
                    states[first + 3].fp32()};
          };
          if (number == 2) {  // the first one set the gradients to zero
            side.backend.copy(states[1].fp32(), states[2].fp32(), count * 4);
            side.backend.copy(states[5].fp32(), states[6].fp32(), count * 4);
          }
          side.backend.adamw_matrix(*weight, state(0), step);
          side.backend.adamw_vector(vector.fp32(), side.values_of(), count, state(4), step);
        }
        side.backend.load_weight(*weight, 0, rows, out.fp32());
        Outputs outputs{{"matrix", out, Promise::kSameBits}, {"vector", vector, Promise::kSameBits}};
        for (const Array& state : states) outputs.emplace_back("state", state, Promise::kSameBits);
        return outputs;
      };
      check_operation(name, DType::kFloat32, operation);
      if (with_master) check_operation(name, DType::kBFloat16, operation);
    }
  }
}
