// Who uses which block of the KV cache: references, the prefix cache over full blocks, least-recently-used eviction.
// Pure bookkeeping; owns no tensor.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace wideseek {

// Chained hash of block number i: it covers tokens [0, (i+1) * block_tokens).
uint64_t chain_hash(uint64_t parent_hash, const int32_t* tokens, int64_t num_tokens);

// A block is free (no reference, content worthless), in use (one reference per sequence), or cached (no reference,
// content can be found again until evicted). A published block's parent is referenced whenever the block is, so the
// parent is always evicted after it and a chain is never broken in the middle.
class BlockManager {
 public:
  BlockManager(int64_t num_blocks, int64_t block_tokens);

  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t block_tokens() const { return block_tokens_; }
  // Blocks that allocate() can hand out: free or cached.
  int64_t num_available() const { return num_available_; }
  int64_t num_referenced() const { return num_blocks() - num_available_; }
  int64_t num_cached() const { return static_cast<int64_t>(published_.size()); }
  int64_t max_referenced() const { return max_referenced_; }

  // Appends `count` blocks with one reference each; false and unchanged if fewer are available.
  bool allocate(int64_t count, std::vector<int32_t>& table);
  // Drops one reference of every block from number `num_kept` on, and shortens the table to that.
  void release(std::vector<int32_t>& table, int64_t num_kept = 0);

  // The cached block with content `tokens` [block_tokens] after `parent` (-1: first block), or -1. Takes no reference.
  int32_t find(uint64_t hash, int32_t parent, const int32_t* tokens) const;
  void add_reference(int32_t block);
  // Makes a full, computed block findable. If an equal block is already published, the caller's reference moves to
  // that one, whose id is returned: equal content has equal bits, so sharing it changes nothing.
  int32_t publish(int32_t block, uint64_t hash, int32_t parent, const int32_t* tokens);
  // Forgets all content (the weights changed). Referenced blocks stay allocated.
  void clear_cache();

  // Throws kInternal if a count, a list or the cache is inconsistent; for tests.
  void check_invariants() const;

 private:
  static constexpr int32_t kNone = -1;
  struct Block {
    int32_t num_references = 0;
    bool published = false;
    uint64_t hash = 0;
    uint64_t uid = 0;         // identity of the published content; never reused
    uint64_t parent_uid = 0;  // 0: first block of a sequence
    std::vector<int32_t> tokens;
    int32_t newer = kNone;  // neighbours in the list of unreferenced blocks
    int32_t older = kNone;
  };

  uint64_t uid_of(int32_t parent) const { return parent == kNone ? 0 : blocks_[parent].uid; }
  bool matches(const Block& block, uint64_t parent_uid, const int32_t* tokens) const;
  void unpublish(int32_t block);
  void link_newest(int32_t block);
  void link_oldest(int32_t block);
  void unlink(int32_t block);
  void drop_reference(int32_t block);

  int64_t block_tokens_;
  std::vector<Block> blocks_;
  std::unordered_map<uint64_t, int32_t> published_;  // hash -> block
  int32_t newest_ = kNone;
  int32_t oldest_ = kNone;
  int64_t num_available_ = 0;
  int64_t max_referenced_ = 0;
  uint64_t next_uid_ = 1;
};

}  // namespace wideseek
