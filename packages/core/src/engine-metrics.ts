// What the engine counted, for TensorBoard. Owns the tags.
import type { ChatPolicy } from "./chat-policy.ts";

/** Counters of the engine under TensorBoard tags, summed since it was loaded. */
export async function engineMetrics(policy: ChatPolicy): Promise<Record<string, number>> {
  const stats = await policy.engineStats();
  return {
    "engine/computed_tokens": stats.numComputedTokens,
    "engine/generated_tokens": stats.numGeneratedTokens,
    "engine/cached_tokens": stats.numCachedTokens,
    "engine/draft_tokens": stats.numDraftTokens,
    "engine/right_drafts": stats.numRightDrafts,
    "engine/preemptions": stats.numPreemptions,
    "engine/decode_steps": stats.numSteps,
    "engine/cache_use": stats.maxBlocksUsed / stats.numBlocks,
    "engine/allocated_mib": stats.memory.allocatedMiB,
    "engine/peak_mib": stats.memory.peakMiB,
    "time/engine_generating_total": stats.generatingSeconds,
    "time/engine_training_total": stats.trainingSeconds,
  };
}
