// The prefix cache against a plain model: what is findable, who holds references, nothing leaks.
#include "infer/block_manager.h"

#include <map>
#include <random>
#include <vector>

#include "base/error.h"
#include "test/check.h"

namespace {

using wideseek::BlockManager;
using wideseek::chain_hash;

constexpr int64_t kBlock = 4;

// A sequence as the scheduler would hold it.
struct Holder {
  std::vector<int32_t> tokens;
  std::vector<int32_t> table;
  std::vector<uint64_t> hashes;
};

// Takes cached blocks, allocates the rest and publishes all full blocks. False (nothing held) if there is no room.
bool hold(BlockManager& blocks, Holder& holder, int64_t& num_found) {
  num_found = 0;
  const int64_t num_full = static_cast<int64_t>(holder.tokens.size()) / kBlock;
  for (int64_t i = 0; i < num_full; ++i) {
    holder.hashes.push_back(chain_hash(i == 0 ? 0 : holder.hashes.back(), holder.tokens.data() + i * kBlock, kBlock));
  }
  for (int64_t i = 0; i < num_full; ++i) {
    const int32_t found = blocks.find(holder.hashes[i], i == 0 ? -1 : holder.table.back(), &holder.tokens[i * kBlock]);
    if (found < 0) break;
    blocks.add_reference(found);
    holder.table.push_back(found);
    ++num_found;
  }
  const int64_t total = (static_cast<int64_t>(holder.tokens.size()) + kBlock - 1) / kBlock;
  if (!blocks.allocate(total - num_found, holder.table)) {
    blocks.release(holder.table);
    return false;
  }
  for (int64_t i = num_found; i < num_full; ++i) {
    holder.table[i] = blocks.publish(holder.table[i], holder.hashes[i], i == 0 ? -1 : holder.table[i - 1],
                                     &holder.tokens[i * kBlock]);
  }
  return true;
}

}  // namespace

TEST(block_manager_shares_equal_prefixes) {
  BlockManager blocks(8, kBlock);
  Holder a{{1, 2, 3, 4, 5, 6, 7, 8, 9}, {}, {}};
  Holder b{{1, 2, 3, 4, 5, 6, 7, 8, 10}, {}, {}};
  Holder c{{9, 2, 3, 4, 5, 6, 7, 8, 10}, {}, {}};  // differs in the first block: nothing in common
  int64_t found = 0;
  CHECK(hold(blocks, a, found) && found == 0);
  CHECK(hold(blocks, b, found) && found == 2);
  CHECK(a.table[0] == b.table[0] && a.table[1] == b.table[1] && a.table[2] != b.table[2]);
  CHECK(blocks.num_referenced() == 4);
  CHECK(hold(blocks, c, found) && found == 0);
  CHECK(blocks.num_referenced() == 7);
  Holder d{{1, 2, 3, 4, 5, 6, 7, 8}, {}, {}};
  CHECK(hold(blocks, d, found) && found == 2);
  Holder too_much{{50, 51, 52, 53, 54, 55, 56, 57}, {}, {}};
  CHECK(!hold(blocks, too_much, found));
  CHECK(too_much.table.empty());
  for (Holder* holder : {&a, &b, &c, &d}) blocks.release(holder->table);
  CHECK(blocks.num_available() == 8);
  blocks.check_invariants();
  blocks.clear_cache();
  Holder again{{1, 2, 3, 4, 5}, {}, {}};
  CHECK(hold(blocks, again, found) && found == 0);
  blocks.check_invariants();
}

TEST(block_manager_merges_equal_blocks_computed_twice) {
  BlockManager blocks(4, kBlock);
  const std::vector<int32_t> tokens = {1, 2, 3, 4};
  const uint64_t hash = chain_hash(0, tokens.data(), kBlock);
  std::vector<int32_t> a, b;
  CHECK(blocks.allocate(1, a) && blocks.allocate(1, b));
  CHECK(blocks.publish(a[0], hash, -1, tokens.data()) == a[0]);
  b[0] = blocks.publish(b[0], hash, -1, tokens.data());
  CHECK(b[0] == a[0]);
  CHECK(blocks.num_referenced() == 1);
  blocks.release(a);
  CHECK(blocks.num_referenced() == 1);
  blocks.release(b);
  CHECK(blocks.num_referenced() == 0);
  blocks.check_invariants();
}

TEST(block_manager_collision_of_hashes_shares_nothing) {
  BlockManager blocks(4, kBlock);
  const std::vector<int32_t> tokens = {1, 2, 3, 4}, others = {5, 6, 7, 8};
  std::vector<int32_t> a, b;
  CHECK(blocks.allocate(1, a) && blocks.allocate(2, b));
  CHECK(blocks.publish(a[0], 77, -1, tokens.data()) == a[0]);
  CHECK(blocks.find(77, -1, others.data()) == -1);
  CHECK(blocks.publish(b[0], 77, -1, others.data()) == b[0]);    // stays private
  CHECK(blocks.publish(b[1], 78, b[0], tokens.data()) == b[1]);  // no identity without a parent
  CHECK(blocks.num_cached() == 1);
  CHECK(blocks.find(78, b[0], tokens.data()) == -1);
  std::vector<int32_t> c;
  CHECK(blocks.allocate(1, c));
  CHECK(blocks.publish(c[0], 79, a[0], others.data()) == c[0]);
  CHECK(blocks.find(79, a[0], others.data()) == c[0]);
  CHECK(blocks.find(79, -1, others.data()) == -1);  // the same tokens after something else
  for (auto* table : {&a, &b, &c}) blocks.release(*table);
  blocks.check_invariants();
}

TEST(block_manager_refuses_double_release) {
  BlockManager blocks(2, kBlock);
  std::vector<int32_t> table;
  CHECK(blocks.allocate(1, table));
  std::vector<int32_t> copy = table;
  blocks.release(table);
  CHECK_THROWS(blocks.release(copy));
  CHECK_THROWS(BlockManager(0, kBlock));
}

// Random holders over a small alphabet, so that prefixes coincide often and eviction is constant. Content is tracked by
// a plain map from block to token prefix: a found block must hold exactly the tokens of the asking sequence.
TEST(block_manager_random_schedules) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    BlockManager blocks(1 + random() % 24, kBlock);
    std::map<int32_t, std::vector<int32_t>> content;
    std::vector<Holder> holders;
    for (int step = 0; step < 200; ++step) {
      if (holders.empty() || random() % 5 < 3) {
        Holder holder;
        const size_t length = 1 + random() % 30;
        for (size_t i = 0; i < length; ++i) holder.tokens.push_back(i % kBlock == 0 ? random() % 2 : 0);
        int64_t found = 0;
        const int64_t available = blocks.num_available();
        if (hold(blocks, holder, found)) {
          for (int64_t i = 0; (i + 1) * kBlock <= static_cast<int64_t>(length); ++i) {
            const std::vector<int32_t> prefix(holder.tokens.begin(), holder.tokens.begin() + (i + 1) * kBlock);
            if (i < found) CHECK(content[holder.table[i]] == prefix);
            content[holder.table[i]] = prefix;
          }
          holders.push_back(std::move(holder));
        } else {
          CHECK(blocks.num_available() == available);
        }
      } else {
        const size_t index = random() % holders.size();
        blocks.release(holders[index].table);
        holders.erase(holders.begin() + static_cast<int64_t>(index));
      }
      if (random() % 50 == 0 && holders.empty()) blocks.clear_cache();
      blocks.check_invariants();
    }
    for (Holder& holder : holders) blocks.release(holder.table);
    CHECK(blocks.num_available() == blocks.num_blocks());
    blocks.check_invariants();
  }
}
