// Every operation of backend.h on the device against the CPU backend, apart from products, attention and losses
// (device_products_test.cc, device_attention_test.cc, device_loss_test.cc).
#include "parity.h"

using namespace parity;

namespace {

constexpr float kEps = 1e-6f;

struct RowsOf {
  int64_t T, C;
  std::string text() const { return size_text({T, C}); }
};

}  // namespace

TEST(device_memory_copies_and_refuses) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const auto backend = device::create(dtype);
    const Side side(*backend, dtype);
    CHECK(backend->name() == "cuda" && backend->activation_dtype() == dtype);
    const Floats source = values(1, 1003);
    const Array from = side.floats(source), to = side.blank_floats(1003);
    backend->copy(to.fp32() + 1, from.fp32(), 1002 * 4);
    backend->zero(to.fp32(), 2 * 4);
    const Floats got = to.read();
    CHECK(got[0] == 0 && got[1] == 0);
    CHECK(same_bits({got.begin() + 2, got.end()}, {source.begin() + 1, source.begin() + 1002}));
    CHECK(reinterpret_cast<uintptr_t>(from.pointer().data) % 64 == 0);
    const MemoryInfo before = backend->memory_info();
    CHECK_THROWS(backend->allocate(int64_t{1} << 50));
    CHECK(backend->memory_info().allocated_bytes == before.allocated_bytes);
    CHECK(same_bits(from.read(), source));  // and works as before
    backend->free(nullptr);
    backend->synchronize();
  }
}

TEST(device_weights_and_vectors_are_stored) {
  for (const RowsOf& size : sizes<RowsOf>({{37, 24}, {5, 7}, {1, 1}}, {{9728, 2560}})) {
    check_operation("store and load" + size.text(), [&](const Side& side) -> Outputs {
      const auto weight = side.weight(size.T, size.C, values(1, size.T * size.C));
      const Array part = side.floats(values(2, size.C)), out = side.blank_floats(size.T * size.C);
      side.backend.store_weight(*weight, size.T / 2, 1, part.fp32());
      side.backend.load_weight(*weight, 0, size.T, out.fp32());
      const Array vector = side.blank_floats(size.C);
      side.backend.store_vector(vector.fp32(), part.fp32(), size.C, side.values_of());
      return {{"weight", out, Promise::kSameBits}, {"vector", vector, Promise::kSameBits}};
    });
  }
}

TEST(device_embedding_equals_the_cpu) {
  struct Size {
    int64_t V, T, C;
  };
  for (const auto& [V, T, C] : sizes<Size>({{50, 70, 24}, {7, 40, 13}, {9, 0, 16}}, {{151936, 4096, 2560}})) {
    const Integers tokens = integers(3, T, V);
    check_operation("embedding", [&, V = V, T = T, C = C](const Side& side) -> Outputs {
      const auto table = side.weight(V, C, values(1, V * C));
      const auto ids = side.integers(tokens);
      const Array out = side.blank(T * C), dout = side.activations(values(2, T * C)),
                  dtable = side.floats(values(4, V * C));
      side.backend.embedding_forward(out, *table, ids.get(), T);
      side.backend.embedding_backward(dtable, dout, ids.get(), T, C);
      return {{"out", out, Promise::kSameBits}, {"dtable", dtable, Promise::kSums}};
    });
  }
}

TEST(device_rms_norm_equals_the_cpu) {
  for (const RowsOf& size :
       sizes<RowsOf>({{7, 75}, {33, 72}, {1, 64}, {0, 64}}, {{4096, 2560}, {1000, 128}, {513, 5120}})) {
    const auto [T, C] = size;
    check_operation("rms_norm" + size.text(), [&, T = T, C = C](const Side& side) -> Outputs {
      const Array x = side.activations(values(1, T * C)), out = side.blank(T * C), weight = side.floats(values(2, C));
      const Array dout = side.activations(values(3, T * C)), dx = side.activations(values(4, T * C));
      const Array dweight = side.floats(values(5, C)), in_place = side.activations(values(1, T * C));
      side.backend.rms_norm_forward(out, x, weight.fp32(), T, C, kEps);
      side.backend.rms_norm_forward(in_place, in_place, weight.fp32(), T, C, kEps);
      side.backend.rms_norm_backward(dx, dweight, dout, x, weight.fp32(), T, C, kEps);
      return {{"out", out, Promise::kSameBits},
              {"in place", in_place, Promise::kSameBits},
              {"dx", dx, Promise::kSums},
              {"dweight", dweight, Promise::kSums}};
    });
  }
}

namespace {

struct HeadsOf {
  AttentionShape shape;
  int64_t T;
  bool norms;
};

void check_qk_norm_rope(const HeadsOf& size) {
  const auto& [shape, T, norms] = size;
  const int64_t D = shape.head_dim, width = T * shape.qkv_size(), positions = 4096;
  check_operation("qk_norm_rope", [&, T = T, norms = norms, shape = shape](const Side& side) -> Outputs {
    const Array qkv = side.activations(values(1, width)), out = side.blank(width);
    const Array in_place = side.activations(values(1, width)), dqkv = side.activations(values(2, width));
    const Array q = side.floats(values(3, D)), k = side.floats(values(4, D));
    const Array cos = side.floats(values(5, positions * D / 2)), sin = side.floats(values(6, positions * D / 2));
    const Array dq = side.floats(values(7, D)), dk = side.floats(values(8, D));
    const auto at = side.integers(integers(9, T, positions));
    const float* q_norm = norms ? q.fp32() : nullptr;
    const float* k_norm = norms ? k.fp32() : nullptr;
    for (const Array* to : {&out, &in_place}) {
      side.backend.qk_norm_rope_forward(*to, to == &out ? qkv : in_place, q_norm, k_norm, cos.fp32(), sin.fp32(),
                                        at.get(), shape, T, kEps);
    }
    side.backend.qk_norm_rope_backward(dqkv, dq, dk, qkv, q_norm, k_norm, cos.fp32(), sin.fp32(), at.get(), shape, T,
                                       kEps);
    return {{"out", out, Promise::kSameBits},
            {"in place", in_place, Promise::kSameBits},
            {"dqkv", dqkv, Promise::kSums},
            {"dq_norm", dq, Promise::kSums},
            {"dk_norm", dk, Promise::kSums}};
  });
}

}  // namespace

TEST(device_qk_norm_rope_equals_the_cpu) {
  for (const HeadsOf& size :
       sizes<HeadsOf>({{{4, 2, 20}, 9, true}, {{2, 1, 64}, 5, true}, {{3, 3, 6}, 7, false}, {{1, 1, 128}, 0, true}},
                      {{{32, 8, 128}, 4096, true}, {{28, 4, 128}, 1000, false}, {{14, 2, 64}, 4096, false}})) {
    check_qk_norm_rope(size);
  }
}

TEST(device_swiglu_equals_the_cpu) {
  for (const RowsOf& size : sizes<RowsOf>({{5, 24}, {4, 21}, {0, 8}}, {{4096, 9728}, {1000, 3072}})) {
    const auto [T, F] = size;
    check_operation("swiglu" + size.text(), [&, T = T, F = F](const Side& side) -> Outputs {
      const Array gate_up = side.activations(values(1, T * 2 * F)), dout = side.activations(values(2, T * F));
      const Array out = side.blank(T * F);
      side.backend.swiglu_forward(out, gate_up, T, F);
      side.backend.swiglu_backward(gate_up, dout, T, F);
      return {{"out", out, Promise::kSameBits}, {"dgate_up", gate_up, Promise::kSameBits}};
    });
  }
}

TEST(device_rows_are_gathered_and_scattered) {
  for (const RowsOf& size : sizes<RowsOf>({{31, 48}, {8, 7}, {0, 16}}, {{3000, 2560}})) {
    const auto [R, C] = size;
    Integers rows;  // distinct, for no R is a multiple of 7; in no order
    for (int64_t r = 0; r < R; ++r) rows.push_back(static_cast<int32_t>(40 + r * 7 % R));
    const int64_t all = (R + 40) * C;
    check_operation("rows" + size.text(), [&, R = R, C = C](const Side& side) -> Outputs {
      const Array x = side.activations(values(1, all)), from = side.activations(values(2, R * C)),
                  out = side.blank(R * C);
      const auto at = side.integers(rows);
      side.backend.gather_rows(out, x, at.get(), R, C);
      side.backend.scatter_rows(x, from, at.get(), R, C);
      return {{"gathered", out, Promise::kSameBits}, {"scattered", x, Promise::kSameBits}};
    });
  }
}

TEST(device_rows_of_experts_are_combined) {
  struct Size {
    int64_t T, k, C;
  };
  for (const Size& size : device::is_real() ? std::vector<Size>{{3000, 8, 2048}, {1, 8, 2048}}
                                            : std::vector<Size>{{9, 3, 40}, {5, 9, 7}, {1, 1, 8}, {0, 2, 16}}) {
    const auto [T, k, C] = size;
    Integers rows = integers(1, T * k, T * k);
    check_operation("combine_rows " + std::to_string(T) + " x " + std::to_string(k) + " x " + std::to_string(C),
                    [&, T = T, k = k, C = C](const Side& side) -> Outputs {
                      const Array residual = side.activations(values(2, T * C)),
                                  from = side.activations(values(3, T * k * C)), shares = side.floats(values(4, T * k)),
                                  out = side.blank(T * C);
                      const auto at = side.integers(rows);
                      side.backend.combine_rows(out, residual, from, at.get(), shares.fp32(), T, k, C);
                      side.backend.combine_rows(residual, residual, from, at.get(), shares.fp32(), T, k, C);
                      return {{"out", out, Promise::kSameBits}, {"in place", residual, Promise::kSameBits}};
                    });
  }
}

// ---- a row depends on itself alone

TEST(device_rows_depend_on_themselves_alone) {
  const int64_t T = device::is_real() ? 2600 : 75, C = device::is_real() ? 2560 : 72;
  check_rows_alone("rms_norm", T, C, [&](const Side& side, const auto& check) {
    const Array x = side.activations(values(1, T * C)), weight = side.floats(values(2, C)), out = side.blank(T * C);
    check([&](int64_t first, int64_t count) {
      out.zero(first * C, count * C);
      side.backend.rms_norm_forward(out + first * C, x + first * C, weight.fp32(), count, C, kEps);
      return out.read(first * C, count * C);
    });
  });
  check_rows_alone("swiglu", T, C, [&](const Side& side, const auto& check) {
    const Array x = side.activations(values(1, T * 2 * C)), out = side.blank(T * C);
    check([&](int64_t first, int64_t count) {
      out.zero(first * C, count * C);
      side.backend.swiglu_forward(out + first * C, x + first * 2 * C, count, C);
      return out.read(first * C, count * C);
    });
  });
  const AttentionShape shape = device::is_real() ? AttentionShape{32, 8, 128} : AttentionShape{2, 1, 20};
  const int64_t width = shape.qkv_size(), D = shape.head_dim;
  check_rows_alone("qk_norm_rope", T, width, [&](const Side& side, const auto& check) {
    const Array x = side.activations(values(1, T * width)), norm = side.floats(values(2, D));
    const Array cos = side.floats(values(3, 99 * D / 2)), sin = side.floats(values(4, 99 * D / 2));
    const Array out = side.blank(T * width);
    const auto at = side.integers(integers(5, T, 99));
    check([&](int64_t first, int64_t count) {
      out.zero(first * width, count * width);
      side.backend.qk_norm_rope_forward(out + first * width, x + first * width, norm.fp32(), norm.fp32(), cos.fp32(),
                                        sin.fp32(), at.get() + first, shape, count, kEps);
      return out.read(first * width, count * width);
    });
  });
}
