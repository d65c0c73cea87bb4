// runEpisode as people call it: the tokenizer comes with the policy, limits have short names. Owns no agent behaviour.
import { type EpisodeRequest as AgentRequest, type LimitsInput, runEpisode as runAgents } from "@wideseek/agents";
import type { Episode, Policy } from "@wideseek/spec";
import { CorpusTools } from "./corpus-tools.ts";

export interface EpisodeRequest extends Omit<AgentRequest, "policy" | "chat" | "limits"> {
  policy: Policy & { readonly chat: AgentRequest["chat"] };
  limits?: LimitsInput | undefined;
  /** Short for `limits.maxSubagents`, the width of the team. */
  maxSubagents?: number | undefined;
}

/**
 * One attempt at `task`. Resolves for every bad rollout (`stopReason`, `errors`).
 * @throws `signal.reason` on abort, WS_IO and WS_INVALID_ARGUMENT for a corpus that cannot be read, what a broken
 *   engine rejects with
 */
export async function runEpisode({ maxSubagents, ...request }: EpisodeRequest): Promise<Episode> {
  if (request.tools instanceof CorpusTools) await request.tools.ready();
  const limits = { ...request.limits, ...(maxSubagents !== undefined && { maxSubagents }) };
  return await runAgents({ ...request, chat: request.policy.chat, limits });
}
