// The offline judge as one function. Owns no scoring.
import { type RewardOptions, RuleJudge, scoreEpisode } from "@wideseek/rewards";
import type { Episode, RewardBreakdown, Task } from "@wideseek/spec";

const judge: RuleJudge = new RuleJudge();

/** Scores an episode by rules, without a model: tables by item F1, facts by exact meaning. */
export async function tableJudge(
  episode: Episode,
  task: Task = episode.task,
  options: Partial<RewardOptions> = {},
): Promise<RewardBreakdown> {
  return await scoreEpisode({ ...episode, task }, { ...options, judge });
}
