// Attention gradients: against a double reference, finite differences, over shared prefixes, and to the bit over
// threads.
#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/attention.h"

using namespace wideseek;

namespace {

std::vector<float> normal(int64_t n, std::mt19937& random) {
  std::normal_distribution<float> values;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = values(random);
  return x;
}

// A packed call: rows of [q | k | v], and slices into it. A slice with first_position > 0 reads blocks of another.
struct Call {
  AttentionShape shape;
  float scale;
  std::vector<float> qkv, dout;
  std::vector<std::vector<int32_t>> tables;
  std::vector<SequenceSlice> slices;
  int64_t num_blocks = 0;

  int64_t rows() const { return static_cast<int64_t>(qkv.size()) / shape.qkv_size(); }
  void add_slice(int64_t num_rows, int64_t first_position, std::vector<int32_t> table) {
    const int64_t first_row = slices.empty() ? 0 : slices.back().first_row + slices.back().num_rows;
    tables.push_back(std::move(table));
    slices.push_back({first_row, num_rows, first_position, nullptr});
    for (size_t s = 0; s < slices.size(); ++s) slices[s].block_table = tables[s].data();
    for (int32_t block : tables.back()) num_blocks = std::max<int64_t>(num_blocks, block + 1);
  }
  void fill(std::mt19937& random) {
    const int64_t count = slices.back().first_row + slices.back().num_rows;
    qkv = normal(count * shape.qkv_size(), random);
    dout = normal(count * shape.num_heads * shape.head_dim, random);
  }
};

struct Outcome {
  std::vector<float> out, lse, dqkv;
};

Outcome run(const Call& call, int num_threads, const std::vector<float>* qkv_instead = nullptr) {
  ThreadPool pool(num_threads);
  AttentionWorkspace workspace;
  const AttentionShape& shape = call.shape;
  const int64_t H = shape.num_heads, K = shape.num_kv_heads, D = shape.head_dim, ld = shape.qkv_size(), T = call.rows();
  const std::vector<float>& qkv = qkv_instead != nullptr ? *qkv_instead : call.qkv;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> keys(static_cast<size_t>(call.num_blocks * 16 * K * D), nan), values = keys, dkeys = keys,
                                                                                   dvalues = keys;
  const KvBlocks cache{keys.data(), values.data()}, dcache{dkeys.data(), dvalues.data()};
  const auto n = static_cast<int64_t>(call.slices.size());
  Outcome o{std::vector<float>(static_cast<size_t>(T * H * D)), std::vector<float>(static_cast<size_t>(T * H)),
            std::vector<float>(qkv.size(), nan)};
  kv_store(pool, cache, qkv.data() + H * D, ld, qkv.data() + (H + K) * D, ld, shape, call.slices.data(), n);
  attention_forward(pool, workspace, o.out.data(), H * D, o.lse.data(), qkv.data(), ld, cache, shape, call.scale,
                    call.slices.data(), n);
  attention_backward(pool, workspace, o.dqkv.data(), ld, dcache, call.dout.data(), H * D, o.out.data(), H * D,
                     o.lse.data(), qkv.data(), ld, cache, shape, call.scale, call.slices.data(), n);
  kv_gather_gradient(pool, o.dqkv.data() + H * D, ld, o.dqkv.data() + (H + K) * D, ld, dcache, shape,
                     call.slices.data(), n);
  return o;
}

// Rows that each token of a slice attends to, itself last: found through the blocks.
std::vector<std::vector<int64_t>> visible_rows(const Call& call) {
  std::vector<int64_t> row_of_slot(static_cast<size_t>(call.num_blocks * 16), -1);
  for (const SequenceSlice& slice : call.slices) {
    for (int64_t i = 0; i < slice.num_rows; ++i) {
      const int64_t position = slice.first_position + i;
      row_of_slot[static_cast<size_t>(slice.block_table[position / 16] * 16 + position % 16)] = slice.first_row + i;
    }
  }
  std::vector<std::vector<int64_t>> visible(static_cast<size_t>(call.rows()));
  for (const SequenceSlice& slice : call.slices) {
    for (int64_t i = 0; i < slice.num_rows; ++i) {
      for (int64_t j = 0; j <= slice.first_position + i; ++j) {
        visible[static_cast<size_t>(slice.first_row + i)].push_back(
            row_of_slot[static_cast<size_t>(slice.block_table[j / 16] * 16 + j % 16)]);
      }
    }
  }
  return visible;
}

// dqkv in double, by the textbook formula.
std::vector<double> reference_gradient(const Call& call) {
  const AttentionShape& shape = call.shape;
  const int64_t H = shape.num_heads, K = shape.num_kv_heads, D = shape.head_dim, ld = shape.qkv_size();
  std::vector<double> gradient(call.qkv.size());
  const auto visible = visible_rows(call);
  for (int64_t i = 0; i < call.rows(); ++i) {
    const auto& rows = visible[static_cast<size_t>(i)];
    for (int64_t h = 0; h < H; ++h) {
      const int64_t kv = h / (H / K);
      const float* q = call.qkv.data() + i * ld + h * D;
      const float* dout = call.dout.data() + (i * H + h) * D;
      const auto key = [&](int64_t row) { return row * ld + (H + kv) * D; };
      const auto value = [&](int64_t row) { return row * ld + (H + K + kv) * D; };
      std::vector<double> p, dp;
      double m = -1e300, l = 0, delta = 0;
      for (int64_t row : rows) {
        double s = 0, g = 0;
        for (int64_t d = 0; d < D; ++d) {
          s += static_cast<double>(q[d]) * call.qkv[static_cast<size_t>(key(row) + d)];
          g += static_cast<double>(dout[d]) * call.qkv[static_cast<size_t>(value(row) + d)];
        }
        p.push_back(s * call.scale);
        dp.push_back(g);
        m = std::max(m, p.back());
      }
      for (double& x : p) l += x = std::exp(x - m);
      for (size_t j = 0; j < p.size(); ++j) delta += (p[j] /= l) * dp[j];
      for (size_t j = 0; j < p.size(); ++j) {
        const double ds = p[j] * (dp[j] - delta) * call.scale;
        for (int64_t d = 0; d < D; ++d) {
          gradient[static_cast<size_t>(i * ld + h * D + d)] += ds * call.qkv[static_cast<size_t>(key(rows[j]) + d)];
          gradient[static_cast<size_t>(key(rows[j]) + d)] += ds * q[d];
          gradient[static_cast<size_t>(value(rows[j]) + d)] += p[j] * dout[d];
        }
      }
    }
  }
  return gradient;
}

std::vector<int32_t> range(int32_t begin, int64_t tokens) {
  std::vector<int32_t> table;
  for (int64_t i = 0; i * 16 < tokens; ++i) table.push_back(begin + static_cast<int32_t>(i));
  return table;
}

// A prompt of 48 tokens that three slices continue, one of which is continued by two more: blocks 0-2, then 3, 4, ...
Call forest(const AttentionShape& shape, std::mt19937& random) {
  Call call{shape, 0.3f, {}, {}, {}, {}};
  call.add_slice(48, 0, {2, 0, 1});
  call.add_slice(30, 48, {2, 0, 1, 3, 4});
  call.add_slice(16, 48, {2, 0, 1, 5});
  call.add_slice(1, 48, {2, 0, 1, 6});
  call.add_slice(20, 64, {2, 0, 1, 5, 8, 9});
  call.add_slice(5, 64, {2, 0, 1, 5, 7});
  call.fill(random);
  return call;
}

const AttentionShape kShapes[] = {{6, 2, 64}, {4, 4, 16}, {1, 1, 2}, {8, 1, 32}, {5, 5, 24}, {2, 1, 128}, {4, 2, 112}};

}  // namespace

TEST(gradients_match_the_textbook_formula) {
  std::mt19937 random(1);
  for (const AttentionShape& shape : kShapes) {
    Call packed{shape, 0.3f, {}, {}, {}, {}};
    packed.add_slice(70, 0, range(3, 70));
    packed.add_slice(1, 0, range(0, 1));
    packed.add_slice(17, 0, range(1, 17));
    packed.fill(random);
    for (const Call& call : {packed, forest(shape, random)}) {
      const Outcome got = run(call, 2);
      const std::vector<double> want = reference_gradient(call);
      double scale = 0;
      for (double x : want) scale = std::max(scale, std::fabs(x));
      for (size_t i = 0; i < want.size(); ++i) CHECK_NEAR(got.dqkv[i], want[i], 4e-6 * scale);
    }
  }
}

TEST(gradients_match_finite_differences) {
  std::mt19937 random(2);
  Call call = forest({4, 2, 8}, random);
  const auto loss = [&](const std::vector<float>& qkv) {
    const Outcome o = run(call, 1, &qkv);
    double sum = 0;
    for (size_t i = 0; i < o.out.size(); ++i) sum += static_cast<double>(o.out[i]) * call.dout[i];
    return sum;
  };
  const Outcome got = run(call, 1);
  for (int probe = 0; probe < 60; ++probe) {
    const size_t at = random() % call.qkv.size();
    std::vector<float> up = call.qkv, down = call.qkv;
    constexpr float kStep = 1.0f / 64;
    up[at] += kStep;
    down[at] -= kStep;
    CHECK_NEAR(got.dqkv[at], (loss(up) - loss(down)) / (static_cast<double>(up[at]) - down[at]), 2e-3);
  }
}

TEST(gradients_do_not_depend_on_threads_to_the_bit) {
  std::mt19937 random(3);
  for (const AttentionShape& shape : kShapes) {
    const Call call = forest(shape, random);
    const Outcome one = run(call, 1);
    for (int num_threads : {2, 5}) {
      const Outcome other = run(call, num_threads);
      CHECK(std::memcmp(one.dqkv.data(), other.dqkv.data(), one.dqkv.size() * sizeof(float)) == 0);
    }
  }
}

// The same tokens once as a tree over shared blocks and once as separate sequences.
TEST(a_shared_prefix_gets_the_sum_of_the_unshared_gradients) {
  std::mt19937 random(4);
  const AttentionShape shape{6, 2, 32};
  Call tree{shape, 0.2f, {}, {}, {}, {}};
  tree.add_slice(32, 0, {0, 1});
  tree.add_slice(20, 32, {0, 1, 2, 3});
  tree.add_slice(9, 32, {0, 1, 4});
  tree.fill(random);
  // The prefix has its own loss once only: in the first copy.
  Call flat{shape, 0.2f, {}, {}, {}, {}};
  flat.add_slice(52, 0, {0, 1, 2, 3});
  flat.add_slice(41, 0, {4, 5, 6});
  const int64_t ld = shape.qkv_size(), row = shape.num_heads * shape.head_dim;
  const auto rows = [&](const std::vector<float>& x, int64_t width, int64_t begin, int64_t end) {
    return std::vector<float>(x.begin() + begin * width, x.begin() + end * width);
  };
  const auto append = [](std::vector<float>& to, const std::vector<float>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(flat.qkv, rows(tree.qkv, ld, 0, 52));
  append(flat.qkv, rows(tree.qkv, ld, 0, 32));
  append(flat.qkv, rows(tree.qkv, ld, 52, 61));
  append(flat.dout, rows(tree.dout, row, 0, 52));
  append(flat.dout, std::vector<float>(static_cast<size_t>(32 * row), 0.0f));
  append(flat.dout, rows(tree.dout, row, 52, 61));
  const Outcome shared = run(tree, 2), separate = run(flat, 2);
  CHECK(std::memcmp(shared.out.data(), separate.out.data(), static_cast<size_t>(52 * row) * sizeof(float)) == 0);
  CHECK(std::memcmp(shared.out.data() + 52 * row, separate.out.data() + 84 * row,
                    static_cast<size_t>(9 * row) * sizeof(float)) == 0);
  for (int64_t i = 0; i < 61; ++i) {
    for (int64_t d = 0; d < ld; ++d) {
      const auto at = [&](int64_t r) { return static_cast<double>(separate.dqkv[static_cast<size_t>(r * ld + d)]); };
      const double want = i < 32 ? at(i) + at(52 + i) : i < 52 ? at(i) : at(32 + i);
      CHECK_NEAR(shared.dqkv[static_cast<size_t>(i * ld + d)], want, 2e-5);
    }
  }
}

// Many waves: the chain of a block goes on over wave borders, so small and large batches agree where they overlap.
TEST(long_sequences_take_several_waves) {
  std::mt19937 random(5);
  Call call{{2, 2, 16}, 0.25f, {}, {}, {}, {}};
  for (int s = 0; s < 3; ++s) call.add_slice(1500, 0, range(s * 94, 1500));
  call.fill(random);
  const Outcome all = run(call, 2);
  for (int s = 0; s < 3; ++s) {
    Call one{call.shape, call.scale, {}, {}, {}, {}};
    one.add_slice(1500, 0, range(0, 1500));
    const int64_t ld = call.shape.qkv_size();
    one.qkv.assign(call.qkv.begin() + s * 1500 * ld, call.qkv.begin() + (s + 1) * 1500 * ld);
    one.dout.assign(call.dout.begin() + s * 1500 * 32, call.dout.begin() + (s + 1) * 1500 * 32);
    const Outcome alone = run(one, 1);
    CHECK(std::memcmp(alone.dqkv.data(), all.dqkv.data() + s * 1500 * ld, alone.dqkv.size() * sizeof(float)) == 0);
  }
}
