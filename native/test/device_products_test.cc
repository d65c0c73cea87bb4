// Products of linear layers on the device against the CPU backend and, where they are by our own kernels, against
// cuBLASLt; and that the bits of a row do not depend on how many rows are multiplied with it.
#include <cstdlib>

#include "parity.h"

using namespace parity;

namespace {

struct Layer {
  int64_t T, N, K;
  std::string text() const { return size_text({T, N, K}); }
};

// Sums of K products of variance 1 / K, as in a model.
Floats weights(uint64_t stream, int64_t rows, int64_t cols) {
  Floats all = values(stream, rows * cols);
  for (float& value : all) value /= std::sqrt(static_cast<float>(cols));
  return all;
}

// Values that bf16 holds: a bias is rounded to the activations' dtype before it is added.
Floats rounded(Floats floats) {
  for (float& value : floats) value = bf16_to_float(float_to_bf16(value));
  return floats;
}

// QKV, output, gate and up, down of Qwen3-0.6B and Qwen3-4B.
std::vector<Layer> layers() {
  return sizes<Layer>({{37, 24, 72}, {70, 33, 20}, {1, 5, 3}, {0, 8, 8}}, {{4096, 6144, 2560},
                                                                           {4096, 2560, 4096},
                                                                           {4096, 19456, 2560},
                                                                           {4096, 2560, 9728},
                                                                           {1000, 4096, 1024},
                                                                           {1000, 6144, 1024},
                                                                           {333, 1024, 3072}});
}

}  // namespace

TEST(device_products_equal_the_cpu) {
  for (const Layer& layer : layers()) {
    const auto [T, N, K] = layer;
    check_operation("linear" + layer.text(), [&, T = T, N = N, K = K](const Side& side) -> Outputs {
      const auto weight = side.weight(N, K, weights(1, N, K));
      const Array x = side.activations(values(2, T * K)), bias = side.floats(rounded(values(3, N)));
      const Array plain = side.blank(T * N), biased = side.blank(T * N), added = side.blank(T * N);
      const Array residual = side.activations(values(4, T * N)), in_place = side.activations(values(4, T * N));
      side.backend.linear_forward(plain, x, *weight, nullptr, {}, T);
      side.backend.linear_forward(biased, x, *weight, bias.fp32(), {}, T);
      side.backend.linear_forward(added, x, *weight, nullptr, residual, T);
      side.backend.linear_forward(in_place, x, *weight, nullptr, in_place, T);
      return {{"forward", plain, Promise::kSums},
              {"with bias", biased, Promise::kSums},
              {"with residual", added, Promise::kSums},
              {"onto residual", in_place, Promise::kSums}};
    });
  }
}

TEST(device_product_gradients_equal_the_cpu) {
  for (const Layer& layer : layers()) {
    const auto [T, N, K] = layer;
    check_operation("linear backward" + layer.text(), [&, T = T, N = N, K = K](const Side& side) -> Outputs {
      const auto weight = side.weight(N, K, weights(1, N, K));
      const Array x = side.activations(values(2, T * K)), dout = side.activations(values(3, T * N));
      const Array dx = side.blank(T * K), dweight = side.floats(values(4, N * K)), dbias = side.floats(values(5, N));
      side.backend.linear_backward_input(dx, dout, *weight, T);
      side.backend.linear_backward_weight(dweight, dout, x, T, N, K);
      side.backend.bias_backward(dbias, dout, T, N);
      return {{"dx", dx, Promise::kSums}, {"dweight", dweight, Promise::kSums}, {"dbias", dbias, Promise::kSums}};
    });
  }
}

// Logits are fp32 whatever the activations are.
TEST(device_lm_head_equals_the_cpu) {
  for (const Layer& layer : sizes<Layer>({{9, 301, 24}}, {{256, 151936, 2560}})) {
    const auto [T, V, C] = layer;
    check_operation("lm_head" + layer.text(), [&, T = T, V = V, C = C](const Side& side) -> Outputs {
      const auto weight = side.weight(V, C, weights(1, V, C));
      const Array x = side.activations(values(2, T * C)), logits = side.blank_floats(T * V);
      const Array dlogits = side.activations(values(3, T * V)), dx = side.blank(T * C),
                  dweight = side.floats(values(4, V * C));
      side.backend.linear_forward(logits, x, *weight, nullptr, {}, T);
      side.backend.linear_backward_input(dx, dlogits, *weight, T);
      side.backend.linear_backward_weight(dweight, dlogits, x, T, V, C);
      return {{"logits", logits, Promise::kSums}, {"dx", dx, Promise::kSums}, {"dweight", dweight, Promise::kSums}};
    });
  }
}

namespace {

// Onto a residual or, `as_logits`, in fp32.
void check_product_rows(const Layer& layer, bool as_logits) {
  const auto [T, N, K] = layer;
  check_rows_alone("linear" + layer.text(), T, N, [&, T = T, N = N, K = K](const Side& side, const auto& check) {
    const auto weight = side.weight(N, K, weights(1, N, K));
    const Array x = side.activations(values(2, T * K)), residual = side.activations(values(3, as_logits ? 0 : T * N));
    const Array out = as_logits ? side.blank_floats(T * N) : side.blank(T * N);
    check([&](int64_t first, int64_t count) {
      out.zero(first * N, count * N);
      side.backend.linear_forward(out + first * N, x + first * K, *weight, nullptr,
                                  as_logits ? ConstTypedPointer() : ConstTypedPointer(residual + first * N), count);
      return out.read(first * N, count * N);
    });
  });
}

}  // namespace

TEST(device_product_rows_do_not_depend_on_the_batch) {
  for (const Layer& layer : sizes<Layer>({{75, 24, 20}, {66, 5, 3}}, {{2600, 6144, 2560},
                                                                      {2600, 2560, 9728},
                                                                      {2600, 2560, 4096},
                                                                      {2600, 19456, 2560},
                                                                      {2600, 4096, 1024},
                                                                      {2600, 1024, 3072}})) {
    check_product_rows(layer, false);
  }
  for (const Layer& layer : sizes<Layer>({{70, 301, 20}}, {{1100, 151936, 2560}, {1100, 32000, 1024}})) {
    check_product_rows(layer, true);
  }
}

// Every way in which a forward product in bf16 is divided: sums of one chunk and of several, tiles of few rows and of
// many. The other rows are NaN.
TEST(device_product_rows_have_the_same_bits_at_every_number_of_rows) {
  const auto backend = device::create(DType::kBFloat16);
  const Side side(*backend, DType::kBFloat16);
  for (const Layer& layer : sizes<Layer>({{140, 56, 136}, {140, 56, 520}, {140, 40, 1096}}, {{1100, 6144, 2560},
                                                                                             {1100, 2560, 4096},
                                                                                             {1100, 19456, 2560},
                                                                                             {1100, 2560, 9728},
                                                                                             {1100, 1024, 2048},
                                                                                             {1100, 1536, 2048}})) {
    const auto [T, N, K] = layer;
    const auto weight = side.weight(N, K, weights(1, N, K));
    Floats x_floats = values(2, T * K);
    const Array x = side.activations(x_floats), residual = side.activations(values(3, T * N));
    const auto rows_of = [&, N = N, K = K](const Array& from, int64_t first, int64_t count) {
      const Array out = side.blank(count * N);
      side.backend.linear_forward(out, from + first * K, *weight, nullptr, residual + first * N, count);
      return out.read();
    };
    const Floats whole = rows_of(x, 0, T);
    for (int64_t row = 0; row < T; ++row) {
      if (row % 5 != 2) std::fill_n(x_floats.begin() + row * K, K, std::numeric_limits<float>::quiet_NaN());
    }
    const Array with_nan = side.activations(x_floats);
    for (const int64_t count : {1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 65, 128, 130, 257, 600}) {
      if (count > T) continue;
      const int64_t first = (T - count) / 2;
      const auto part = [&, N = N](int64_t from, int64_t rows) {
        return Floats(whole.begin() + from * N, whole.begin() + (from + rows) * N);
      };
      const std::string name = "linear" + layer.text() + ", " + std::to_string(count) + " rows";
      if (!same_bits(rows_of(x, first, count), part(first, count))) report(name, "other bits");
      const Floats beside_nan = rows_of(with_nan, first, count);
      for (int64_t row = 0; row < count; ++row) {
        if ((first + row) % 5 != 2) continue;
        const Floats got(beside_nan.begin() + row * N, beside_nan.begin() + (row + 1) * N);
        if (!same_bits(got, part(first + row, 1))) report(name, "other bits beside rows of NaN");
      }
    }
  }
}

TEST(device_products_are_those_of_cublaslt) {
  const auto own = device::create(DType::kBFloat16);
  ::setenv("WIDESEEK_PRODUCTS", "cublaslt", 1);
  const auto library = device::create(DType::kBFloat16);
  ::unsetenv("WIDESEEK_PRODUCTS");
  for (const Layer& layer : sizes<Layer>({{9, 56, 520}}, {{1, 6144, 2560},
                                                          {8, 2560, 9728},
                                                          {64, 19456, 2560},
                                                          {256, 2560, 4096},
                                                          {4096, 19456, 2560},
                                                          {4096, 2560, 9728},
                                                          {12000, 2560, 4096}})) {
    const auto [T, N, K] = layer;
    const auto run = [&, T = T, N = N, K = K](Backend& backend) {
      const Side side(backend, DType::kBFloat16);
      const auto weight = side.weight(N, K, weights(1, N, K));
      const Array x = side.activations(values(2, T * K)), out = side.activations(values(3, T * N));
      const Array logits = side.blank_floats(T * N);
      side.backend.linear_forward(out, x, *weight, nullptr, out, T);
      side.backend.linear_forward(logits, x, *weight, nullptr, {}, T);
      return Outputs{{"onto residual", out, Promise::kSums}, {"fp32", logits, Promise::kSums}};
    };
    const Outputs got = run(*own), want = run(*library);
    for (size_t i = 0; i < got.size(); ++i) compare("linear" + layer.text() + " " + got[i].name, got[i], want[i]);
  }
}

TEST(device_experts_give_a_row_the_bits_that_it_has_alone) {
  constexpr int64_t kRows[] = {3, 0, 70, 1, 8, 0, 5};
  constexpr int64_t kExperts = std::size(kRows);
  const auto backend = device::create(DType::kBFloat16);
  const Side side(*backend, DType::kBFloat16);
  for (const Layer& layer : sizes<Layer>({{0, 40, 136}, {0, 40, 840}}, {{0, 1536, 2048}, {0, 2048, 768}})) {
    const auto [T, N, K] = layer;
    std::vector<std::unique_ptr<Weight>> experts;
    std::vector<const Weight*> pointers;
    std::vector<int64_t> first_rows{0};
    for (int64_t e = 0; e < kExperts; ++e) {
      experts.push_back(side.weight(N, K, weights(static_cast<uint64_t>(e + 5), N, K)));
      pointers.push_back(experts.back().get());
      first_rows.push_back(first_rows.back() + kRows[e]);
    }
    const int64_t R = first_rows.back();
    const Array x = side.activations(values(2, R * K)), together = side.blank(R * N), alone = side.blank(R * N);
    side.backend.expert_linear_forward(together, x, pointers.data(), first_rows.data(), kExperts);
    for (int64_t e = 0; e < kExperts; ++e) {
      for (int64_t row = first_rows[e]; row < first_rows[e + 1]; ++row)
        side.backend.linear_forward(alone + row * N, x + row * K, *pointers[e], nullptr, {}, 1);
    }
    if (!same_bits(together.read(), alone.read())) report("experts" + layer.text(), "other bits than alone");
  }
}
