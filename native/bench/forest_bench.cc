// What computing shared prefixes once saves: forward_backward over given batches with and without sharing, in turns, on
// random weights of a given shape, and how far the gradients of the two are apart. Arguments: [threads] [rounds].
// Standard input, numbers with spaces between: vocab_size hidden_size num_layers num_heads num_kv_heads head_dim
// intermediate_size max_positions; number of batches; for each its tokens T and sequences B, then T token ids, B + 1
// bounds and T loss weights. One JSON line per round and one of all.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <vector>

#include "train/prefix_forest.h"
#include "train/trainer.h"

using namespace wideseek;

namespace {

template <typename T>
T read_number() {
  T value{};
  if (!(std::cin >> value)) throw std::runtime_error("the input ends early or holds no number");
  return value;
}

template <typename T>
std::vector<T> read_numbers(int64_t count) {
  std::vector<T> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(read_number<T>());
  return values;
}

ModelConfig read_config() {
  ModelConfig config{};
  for (int64_t* size :
       {&config.vocab_size, &config.hidden_size, &config.num_layers, &config.num_heads, &config.num_kv_heads,
        &config.head_dim, &config.intermediate_size, &config.max_position_embeddings}) {
    *size = read_number<int64_t>();
  }
  config.rms_norm_eps = 1e-6;
  config.rope_theta = 1e4;
  config.tie_word_embeddings = true;
  config.qk_norm = true;
  return config;
}

struct Batch {
  std::vector<int32_t> token_ids, cu_seqlens;
  std::vector<float> loss_weights;
  PackedBatch view() const {
    return {static_cast<int64_t>(token_ids.size()),
            static_cast<int64_t>(cu_seqlens.size()) - 1,
            token_ids.data(),
            cu_seqlens.data(),
            loss_weights.data(),
            nullptr,
            nullptr,
            nullptr};
  }
  // Rows that a pass computes.
  int64_t num_rows(bool share) const {
    std::vector<int64_t> lengths;
    for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
      lengths.push_back(0);
      for (int32_t t = cu_seqlens[s]; t < cu_seqlens[s + 1]; ++t) {
        if (loss_weights[static_cast<size_t>(t)] != 0) lengths.back() = t - cu_seqlens[s];
      }
    }
    return build_prefix_forest(token_ids.data(), cu_seqlens.data(), lengths.data(),
                               static_cast<int64_t>(lengths.size()), share)
        .num_rows();
  }
};

std::vector<Batch> read_batches() {
  std::vector<Batch> batches(read_number<size_t>());
  for (Batch& batch : batches) {
    const auto tokens = read_number<int64_t>(), sequences = read_number<int64_t>();
    batch.token_ids = read_numbers<int32_t>(tokens);
    batch.cu_seqlens = read_numbers<int32_t>(sequences + 1);
    batch.loss_weights = read_numbers<float>(tokens);
  }
  return batches;
}

// One way to train on the batches.
struct Side {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Trainer> trainer;

  Side(const ModelConfig& config, int threads, int64_t max_tokens, bool share)
      : backend(create_backend("cpu", threads)) {
    model = std::make_unique<Model>(*backend, config, DType::kFloat32);
    model->initialize(1, 0.1);
    trainer = std::make_unique<Trainer>(*model, TrainerOptions{max_tokens, Recompute::kNone, DType::kFloat32, share});
  }
  // Of the processor, all threads: what else runs on the machine changes it least.
  double seconds_of(const std::vector<Batch>& batches) {
    trainer->zero_gradients();
    const std::clock_t start = std::clock();
    const LossSettings nll{LossKind::kNll, 1.0f, 0, 0, 0, 0};
    for (const Batch& batch : batches) trainer->forward_backward(batch.view(), nll, nullptr);
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  }
};

// ||a - b|| / ||b|| over all gradients.
double gradient_difference(Side& a, Side& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.model->parameters().size(); ++i) {
    std::vector<float> left(static_cast<size_t>(a.model->parameters()[i].num_elements())), right(left.size());
    a.trainer->read_tensor(TensorKind::kGradient, static_cast<int64_t>(i), left.data());
    b.trainer->read_tensor(TensorKind::kGradient, static_cast<int64_t>(i), right.data());
    for (size_t k = 0; k < left.size(); ++k) {
      difference += (double{left[k]} - right[k]) * (double{left[k]} - right[k]);
      norm += double{right[k]} * right[k];
    }
  }
  return std::sqrt(difference / norm);
}

void run(int threads, int rounds) {
  const ModelConfig config = read_config();
  const std::vector<Batch> batches = read_batches();
  int64_t packed = 0, shared_rows = 0, all_rows = 0, longest = 1;
  for (const Batch& batch : batches) {
    const auto tokens = static_cast<int64_t>(batch.token_ids.size());
    longest = std::max(longest, tokens);
    packed += tokens;
    shared_rows += batch.num_rows(true);
    all_rows += batch.num_rows(false);
  }
  Side shared(config, threads, longest, true), apart(config, threads, longest, false);
  shared.seconds_of(batches);
  apart.seconds_of(batches);
  for (int round = 0; round < rounds; ++round) {
    // In turns, so that a drift of the machine meets both alike.
    const bool shared_first = round % 2 == 0;
    const double first = (shared_first ? shared : apart).seconds_of(batches);
    const double second = (shared_first ? apart : shared).seconds_of(batches);
    std::printf("{\"shared_seconds\":%.6f,\"apart_seconds\":%.6f}\n", shared_first ? first : second,
                shared_first ? second : first);
    std::fflush(stdout);
  }
  std::printf("{\"packed_tokens\":%lld,\"rows_apart\":%lld,\"rows_shared\":%lld,\"gradient_difference\":%.3e}\n",
              static_cast<long long>(packed), static_cast<long long>(all_rows), static_cast<long long>(shared_rows),
              gradient_difference(shared, apart));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? std::atoi(argv[1]) : 2, argc > 2 ? std::atoi(argv[2]) : 5);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
  return 0;
}
