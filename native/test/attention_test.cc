// Attention against plain loops, batch invariance to the bit, garbage in unused lanes, and gradients.
#include "cpu/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/vector_math.h"

using namespace wideseek;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> normal(int64_t n, std::mt19937& random) {
  std::normal_distribution<float> values;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = values(random);
  return x;
}

bool same_bits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, sizeof(float) * static_cast<size_t>(n)) == 0;
}

// Blocks of one layer, all lanes NaN until stored.
struct Cache {
  std::vector<float> keys, values;
  Cache(int64_t num_blocks, const AttentionShape& shape)
      : keys(static_cast<size_t>(num_blocks * 16 * shape.num_kv_heads * shape.head_dim), kNaN), values(keys) {}
  KvBlocks blocks() { return {keys.data(), values.data()}; }
};

// Block numbers handed out in random order.
struct Blocks {
  std::vector<int32_t> free;
  Blocks(int64_t count, std::mt19937& random) {
    for (int64_t i = 0; i < count; ++i) free.push_back(static_cast<int32_t>(i));
    std::shuffle(free.begin(), free.end(), random);
  }
  std::vector<int32_t> take(int64_t tokens) {
    std::vector<int32_t> table;
    for (int64_t i = 0; i * 16 < tokens; ++i) {
      table.push_back(free.back());
      free.pop_back();
    }
    return table;
  }
};

// Queries, keys and values of one sequence of `length` tokens.
struct Sequence {
  int64_t length;
  std::vector<float> q, k, v;
  Sequence(int64_t n, const AttentionShape& shape, std::mt19937& random)
      : length(n),
        q(normal(n * shape.num_heads * shape.head_dim, random)),
        k(normal(n * shape.num_kv_heads * shape.head_dim, random)),
        v(normal(n * shape.num_kv_heads * shape.head_dim, random)) {}
};

struct Result {
  std::vector<float> out, lse;
};

// The algorithm of attention.h with the products as plain loops.
Result reference(const Sequence& sequence, const AttentionShape& shape, float scale) {
  const int64_t H = shape.num_heads, K = shape.num_kv_heads, D = shape.head_dim;
  Result result{std::vector<float>(sequence.q.size()), std::vector<float>(static_cast<size_t>(sequence.length * H))};
  for (int64_t i = 0; i < sequence.length; ++i) {
    for (int64_t h = 0; h < H; ++h) {
      const float* q = sequence.q.data() + (i * H + h) * D;
      const int64_t kv = h / (H / K);
      std::vector<float> p(static_cast<size_t>(i + 1));
      float m = -std::numeric_limits<float>::infinity();
      for (int64_t j = 0; j <= i; ++j) {
        float s = 0.0f;
        for (int64_t d = 0; d < D; ++d) s = std::fma(q[d], sequence.k[static_cast<size_t>((j * K + kv) * D + d)], s);
        p[static_cast<size_t>(j)] = s * scale;
        m = std::max(m, s * scale);
      }
      float lanes[16] = {};
      for (int64_t j = 0; j <= i; ++j) {
        float& value = p[static_cast<size_t>(j)];
        value = exp(value - m);
        lanes[j % 16] += value;
      }
      const float l = reduce_add(load(lanes));
      result.lse[static_cast<size_t>(i * H + h)] = m + log(l);
      for (int64_t d = 0; d < D; ++d) {
        float c = 0.0f;
        for (int64_t j = 0; j <= i; ++j)
          c = std::fma(p[static_cast<size_t>(j)], sequence.v[static_cast<size_t>((j * K + kv) * D + d)], c);
        result.out[static_cast<size_t>((i * H + h) * D + d)] = c * (1.0f / l);
      }
    }
  }
  return result;
}

// One piece of a sequence in a call.
struct Piece {
  const Sequence* sequence;
  const std::vector<int32_t>* table;
  int64_t begin, end;
};

// Packs the pieces, stores their keys and values and attends.
Result run(ThreadPool& pool, AttentionWorkspace& workspace, Cache& cache, const std::vector<Piece>& pieces,
           const AttentionShape& shape, float scale, bool with_lse = true) {
  const int64_t H = shape.num_heads, K = shape.num_kv_heads, D = shape.head_dim, ld = shape.qkv_size();
  std::vector<SequenceSlice> slices;
  int64_t rows = 0;
  for (const Piece& piece : pieces) {
    slices.push_back({rows, piece.end - piece.begin, piece.begin, piece.table->data()});
    rows += piece.end - piece.begin;
  }
  std::vector<float> qkv(static_cast<size_t>(rows * ld));
  for (size_t s = 0; s < pieces.size(); ++s) {
    for (int64_t i = 0; i < slices[s].num_rows; ++i) {
      float* row = qkv.data() + (slices[s].first_row + i) * ld;
      const int64_t at = pieces[s].begin + i;
      std::copy_n(pieces[s].sequence->q.data() + at * H * D, H * D, row);
      std::copy_n(pieces[s].sequence->k.data() + at * K * D, K * D, row + H * D);
      std::copy_n(pieces[s].sequence->v.data() + at * K * D, K * D, row + (H + K) * D);
    }
  }
  const auto count = static_cast<int64_t>(slices.size());
  kv_store(pool, cache.blocks(), qkv.data() + H * D, ld, qkv.data() + (H + K) * D, ld, shape, slices.data(), count);
  Result result{std::vector<float>(static_cast<size_t>(rows * H * D), kNaN),
                std::vector<float>(static_cast<size_t>(rows * H), kNaN)};
  attention_forward(pool, workspace, result.out.data(), H * D, with_lse ? result.lse.data() : nullptr, qkv.data(), ld,
                    cache.blocks(), shape, scale, slices.data(), count);
  return result;
}

const AttentionShape kShapes[] = {{6, 2, 64}, {4, 4, 16},  {1, 1, 2},   {8, 1, 32},
                                  {5, 5, 24}, {2, 1, 128}, {4, 2, 112}, {9, 3, 40}};

}  // namespace

TEST(forward_is_the_stated_algorithm_to_the_bit) {
  std::mt19937 random(1);
  for (int num_threads : {1, 2}) {
    ThreadPool pool(num_threads);
    AttentionWorkspace workspace;
    for (const AttentionShape& shape : kShapes) {
      const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
      for (int64_t length : {1, 2, 15, 16, 17, 50, 130}) {
        Sequence sequence(length, shape, random);
        Blocks blocks(length / 16 + 3, random);
        const std::vector<int32_t> table = blocks.take(length);
        Cache cache(length / 16 + 3, shape);
        const Result want = reference(sequence, shape, scale);
        const Result got = run(pool, workspace, cache, {{&sequence, &table, 0, length}}, shape, scale);
        CHECK(same_bits(got.out.data(), want.out.data(), static_cast<int64_t>(want.out.size())));
        CHECK(same_bits(got.lse.data(), want.lse.data(), static_cast<int64_t>(want.lse.size())));
        const Result no_lse = run(pool, workspace, cache, {{&sequence, &table, 0, length}}, shape, scale, false);
        CHECK(same_bits(no_lse.out.data(), want.out.data(), static_cast<int64_t>(want.out.size())));
      }
    }
  }
}

// Random chunkings of random sequences into random calls, in random blocks, give the bits of the whole sequence at
// once.
TEST(a_query_does_not_depend_on_chunks_blocks_or_neighbours) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 24; ++trial) {
    const AttentionShape shape = kShapes[trial % 8];
    const int64_t row = shape.num_heads * shape.head_dim;
    const float scale = 0.125f;
    std::vector<std::unique_ptr<Sequence>> sequences;
    std::vector<Result> want;
    Blocks blocks(200, random);
    std::vector<std::vector<int32_t>> tables;
    ThreadPool pool(1 + trial % 2);
    AttentionWorkspace workspace;
    for (int s = 0; s < 4; ++s) {
      const int64_t length = 1 + static_cast<int64_t>(random() % 170);
      sequences.push_back(std::make_unique<Sequence>(length, shape, random));
      tables.push_back(blocks.take(length));
      Cache whole(12, shape);
      Blocks other(12, random);
      const std::vector<int32_t> table = other.take(length);
      want.push_back(run(pool, workspace, whole, {{sequences.back().get(), &table, 0, length}}, shape, scale));
    }
    Cache cache(200, shape);
    std::vector<int64_t> done(4, 0);
    for (bool left = true; left;) {
      std::vector<Piece> pieces;
      std::vector<size_t> who;
      left = false;
      for (size_t s = 0; s < 4; ++s) {
        const int64_t rest = sequences[s]->length - done[s];
        if (rest == 0) continue;
        left = true;
        if (random() % 3 == 0) continue;
        const int64_t limit = random() % 2 ? 1 : 70;
        const int64_t count = 1 + static_cast<int64_t>(random() % static_cast<uint32_t>(std::min(rest, limit)));
        pieces.push_back({sequences[s].get(), &tables[s], done[s], done[s] + count});
        who.push_back(s);
        done[s] += count;
      }
      const Result got = run(pool, workspace, cache, pieces, shape, scale);
      int64_t at = 0;
      for (size_t i = 0; i < pieces.size(); ++i) {
        const int64_t begin = pieces[i].begin, count = pieces[i].end - begin;
        CHECK(same_bits(got.out.data() + at * row, want[who[i]].out.data() + begin * row, count * row));
        CHECK(same_bits(got.lse.data() + at * shape.num_heads, want[who[i]].lse.data() + begin * shape.num_heads,
                        count * shape.num_heads));
        at += count;
      }
    }
  }
}

TEST(long_contexts_split_the_score_buffer_without_changing_bits) {
  std::mt19937 random(3);
  const AttentionShape shape{8, 1, 16};
  const int64_t length = 3000;
  Sequence sequence(length, shape, random);
  Blocks blocks(200, random);
  const std::vector<int32_t> table = blocks.take(length);
  Cache cache(200, shape);
  ThreadPool pool(2);
  AttentionWorkspace workspace;
  const Result got = run(pool, workspace, cache, {{&sequence, &table, 0, length}}, shape, 0.25f);
  const Result last = run(pool, workspace, cache, {{&sequence, &table, length - 1, length}}, shape, 0.25f);
  CHECK(same_bits(last.out.data(), got.out.data() + (length - 1) * 128, 128));
  const Result want = reference(sequence, shape, 0.25f);
  CHECK(same_bits(got.out.data(), want.out.data(), length * 128));
}

TEST(later_tokens_of_any_value_do_not_reach_earlier_queries) {
  std::mt19937 random(4);
  const AttentionShape shape{2, 1, 32};
  Sequence sequence(40, shape, random);
  const Result want = reference(sequence, shape, 0.2f);
  std::fill(sequence.k.begin() + 21 * 32, sequence.k.end(), std::numeric_limits<float>::infinity());
  std::fill(sequence.v.begin() + 21 * 32, sequence.v.end(), kNaN);
  Blocks blocks(5, random);
  const std::vector<int32_t> table = blocks.take(40);
  Cache cache(5, shape);
  ThreadPool pool(2);
  AttentionWorkspace workspace;
  const Result got = run(pool, workspace, cache, {{&sequence, &table, 0, 40}}, shape, 0.2f);
  CHECK(same_bits(got.out.data(), want.out.data(), 21 * 64));
  CHECK(std::isnan(got.out[21 * 64]));
}

TEST(rejects_shapes_and_slices_that_make_no_sense) {
  ThreadPool pool(1);
  AttentionWorkspace workspace;
  CHECK_THROWS(workspace.reserve(pool, {5, 2, 16}, 10));
  const int32_t table[] = {0};
  const SequenceSlice slice{0, 1, -1, table};
  Cache cache(1, {1, 1, 16});
  float q[16] = {}, out[16];
  CHECK_THROWS(
      attention_forward(pool, workspace, out, 16, nullptr, q, 16, cache.blocks(), {1, 1, 16}, 1.0f, &slice, 1));
}
