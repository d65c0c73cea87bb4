// Products of linear layers on the device against the CPU backend, and that the bits of a row do not depend on how many
// rows are multiplied with it.
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
