// A trie over whole blocks of token ids, built in batch order.
#include "train/prefix_forest.h"

#include <algorithm>
#include <unordered_map>

namespace wideseek {
namespace {

constexpr int64_t kBlockTokens = kKvBlockTokens;

struct Block {
  int64_t parent;  // block before it on the path, -1 for a first block
  const int32_t* token_ids;
  int64_t first_row;
};

uint64_t hash_block(int64_t parent, const int32_t* token_ids) {
  uint64_t hash = static_cast<uint64_t>(parent) + 0x9E3779B97F4A7C15u;
  for (int64_t i = 0; i < kBlockTokens; ++i) {
    hash = (hash ^ static_cast<uint32_t>(token_ids[i])) * 0xBF58476D1CE4E5B9u;
    hash ^= hash >> 29;
  }
  return hash;
}

}  // namespace

PrefixForest build_prefix_forest(const int32_t* token_ids, const int32_t* cu_seqlens, const int64_t* lengths,
                                 int64_t num_sequences, bool share) {
  PrefixForest forest;
  forest.rows.assign(static_cast<size_t>(cu_seqlens[num_sequences]), -1);
  forest.block_tables.resize(static_cast<size_t>(num_sequences));
  std::vector<Block> blocks;
  std::unordered_multimap<uint64_t, int64_t> full_blocks;  // hash -> block

  for (int64_t s = 0; s < num_sequences; ++s) {
    const int32_t* tokens = token_ids + cu_seqlens[s];
    int32_t* rows = forest.rows.data() + cu_seqlens[s];
    std::vector<int32_t>& table = forest.block_tables[s];
    const int64_t length = lengths[s];
    int64_t parent = -1;
    int64_t shared = 0;  // leading tokens whose rows exist already
    bool on_known_path = share;
    for (int64_t at = 0; at < length; at += kBlockTokens) {
      const int64_t count = std::min(kBlockTokens, length - at);
      const bool is_full = count == kBlockTokens;
      const uint64_t hash = is_full ? hash_block(parent, tokens + at) : 0;
      int64_t block = -1;
      if (is_full && on_known_path) {
        const auto [first, last] = full_blocks.equal_range(hash);
        for (auto candidate = first; candidate != last && block < 0; ++candidate) {
          const Block& known = blocks[candidate->second];
          if (known.parent == parent && std::equal(tokens + at, tokens + at + count, known.token_ids)) {
            block = candidate->second;
          }
        }
      }
      if (block >= 0) {
        shared += count;
      } else {
        on_known_path = false;
        block = static_cast<int64_t>(blocks.size());
        blocks.push_back({parent, tokens + at, forest.num_rows()});
        if (is_full) full_blocks.emplace(hash, block);
        for (int64_t i = 0; i < count; ++i) {
          forest.token_ids.push_back(tokens[at + i]);
          forest.positions.push_back(static_cast<int32_t>(at + i));
        }
      }
      for (int64_t i = 0; i < count; ++i) rows[at + i] = static_cast<int32_t>(blocks[block].first_row + i);
      table.push_back(static_cast<int32_t>(block));
      parent = block;
    }
    if (shared < length) {
      forest.slices.push_back({forest.num_rows() - (length - shared), length - shared, shared, table.data()});
    }
  }
  forest.num_blocks = static_cast<int64_t>(blocks.size());
  return forest;
}

}  // namespace wideseek
