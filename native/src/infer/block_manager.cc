// Reference counts and the prefix cache; see the header for the states of a block.
#include "infer/block_manager.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace wideseek {
namespace {

constexpr const char* kOp = "blockManager";

uint64_t mix(uint64_t value) {  // finaliser of SplitMix64
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

}  // namespace

uint64_t chain_hash(uint64_t parent_hash, const int32_t* tokens, int64_t num_tokens) {
  uint64_t hash = mix(parent_hash + 0x9E3779B97F4A7C15u);
  for (int64_t i = 0; i < num_tokens; ++i) {
    hash = mix(hash ^ (static_cast<uint32_t>(tokens[i]) + 0x9E3779B97F4A7C15u));
  }
  return hash;
}

BlockManager::BlockManager(int64_t num_blocks, int64_t block_tokens) : block_tokens_(block_tokens) {
  WS_CHECK(num_blocks > 0 && num_blocks <= INT32_MAX, kInvalidArgument, kOp,
           "the KV cache needs 1 to 2^31-1 blocks, got " + std::to_string(num_blocks));
  blocks_.resize(static_cast<size_t>(num_blocks));
  for (int32_t block = 0; block < num_blocks; ++block) link_newest(block);
}

bool BlockManager::allocate(int64_t count, std::vector<int32_t>& table) {
  if (count > num_available_) return false;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t block = oldest_;
    unlink(block);
    if (blocks_[block].published) unpublish(block);
    blocks_[block].num_references = 1;
    table.push_back(block);
  }
  max_referenced_ = std::max(max_referenced_, num_referenced());
  return true;
}

void BlockManager::release(std::vector<int32_t>& table, int64_t num_kept) {
  // Last block first: it becomes the older one, so a prefix outlives what follows it.
  for (; static_cast<int64_t>(table.size()) > num_kept; table.pop_back()) drop_reference(table.back());
}

int32_t BlockManager::find(uint64_t hash, int32_t parent, const int32_t* tokens) const {
  if (parent != kNone && !blocks_[parent].published) return kNone;
  const auto found = published_.find(hash);
  if (found == published_.end() || !matches(blocks_[found->second], uid_of(parent), tokens)) return kNone;
  return found->second;
}

void BlockManager::add_reference(int32_t block) {
  if (blocks_[block].num_references++ == 0) unlink(block);
  max_referenced_ = std::max(max_referenced_, num_referenced());
}

int32_t BlockManager::publish(int32_t block, uint64_t hash, int32_t parent, const int32_t* tokens) {
  Block& entry = blocks_[block];
  WS_CHECK(entry.num_references > 0 && !entry.published, kInternal, kOp, "only a private block can be published");
  // Without a published parent the content has no identity; that happens only after a collision of hashes.
  if (parent != kNone && !blocks_[parent].published) return block;
  const auto [found, inserted] = published_.try_emplace(hash, block);
  if (!inserted) {
    const int32_t other = found->second;
    if (!matches(blocks_[other], uid_of(parent), tokens)) return block;
    add_reference(other);
    drop_reference(block);
    return other;
  }
  entry.published = true;
  entry.hash = hash;
  entry.uid = next_uid_++;
  entry.parent_uid = uid_of(parent);
  entry.tokens.assign(tokens, tokens + block_tokens_);
  return block;
}

void BlockManager::clear_cache() {
  while (!published_.empty()) {
    const int32_t block = published_.begin()->second;
    unpublish(block);
  }
}

bool BlockManager::matches(const Block& block, uint64_t parent_uid, const int32_t* tokens) const {
  return block.parent_uid == parent_uid && std::equal(block.tokens.begin(), block.tokens.end(), tokens);
}

void BlockManager::unpublish(int32_t block) {
  Block& entry = blocks_[block];
  published_.erase(entry.hash);
  entry.published = false;
  entry.uid = 0;
  entry.tokens.clear();
}

void BlockManager::link_newest(int32_t block) {
  blocks_[block].older = newest_;
  blocks_[block].newer = kNone;
  (newest_ == kNone ? oldest_ : blocks_[newest_].newer) = block;
  newest_ = block;
  ++num_available_;
}

void BlockManager::link_oldest(int32_t block) {
  blocks_[block].newer = oldest_;
  blocks_[block].older = kNone;
  (oldest_ == kNone ? newest_ : blocks_[oldest_].older) = block;
  oldest_ = block;
  ++num_available_;
}

void BlockManager::unlink(int32_t block) {
  Block& entry = blocks_[block];
  (entry.newer == kNone ? newest_ : blocks_[entry.newer].older) = entry.older;
  (entry.older == kNone ? oldest_ : blocks_[entry.older].newer) = entry.newer;
  entry.newer = entry.older = kNone;
  --num_available_;
}

void BlockManager::drop_reference(int32_t block) {
  Block& entry = blocks_[block];
  WS_CHECK(entry.num_references > 0, kInternal, kOp, "block released twice");
  if (--entry.num_references > 0) return;
  // Worthless content is handed out before anything worth keeping.
  if (entry.published) {
    link_newest(block);
  } else {
    link_oldest(block);
  }
}

void BlockManager::check_invariants() const {
  int64_t listed = 0;
  int32_t previous = kNone;
  for (int32_t block = oldest_; block != kNone; block = blocks_[block].newer) {
    WS_CHECK(blocks_[block].num_references == 0, kInternal, kOp, "a referenced block is listed as available");
    WS_CHECK(blocks_[block].older == previous, kInternal, kOp, "broken list of available blocks");
    previous = block;
    WS_CHECK(++listed <= num_blocks(), kInternal, kOp, "cycle in the list of available blocks");
  }
  WS_CHECK(previous == newest_ && listed == num_available_, kInternal, kOp, "available blocks miscounted");
  int64_t unreferenced = 0;
  int64_t published = 0;
  std::unordered_map<uint64_t, const Block*> by_uid;
  for (const Block& block : blocks_) {
    unreferenced += block.num_references == 0;
    published += block.published;
    if (block.published) by_uid[block.uid] = &block;
  }
  WS_CHECK(unreferenced == num_available_, kInternal, kOp, "an unreferenced block is not listed");
  WS_CHECK(published == num_cached(), kInternal, kOp, "published blocks miscounted");
  for (const auto& [hash, block] : published_) {
    WS_CHECK(blocks_[block].published && blocks_[block].hash == hash, kInternal, kOp, "stale cache entry");
  }
  for (const auto& [uid, block] : by_uid) {
    if (block->parent_uid == 0) continue;
    const auto parent = by_uid.find(block->parent_uid);
    WS_CHECK(parent != by_uid.end(), kInternal, kOp, "a parent was evicted before its child");
    WS_CHECK(parent->second->num_references >= (block->num_references > 0 ? 1 : 0), kInternal, kOp,
             "a referenced block has an unreferenced parent");
  }
}

}  // namespace wideseek
