// A judging model as one function, beside `tableJudge`. Owns no scoring.
import { LlmJudge, type LlmJudgeOptionsInput, type RewardOptions, scoreEpisode } from "@wideseek/rewards";
import type { ChatModel, Episode, RewardBreakdown, Task } from "@wideseek/spec";

/**
 * Scores episodes by a language model: `openaiChatModel({...})` or a `LocalChatModel`. What it could not judge has
 * `judged: false` and no score; an abort is thrown. @throws WS_INVALID_ARGUMENT for impossible options
 */
export function llmJudge(
  model: ChatModel,
  options: LlmJudgeOptionsInput = {},
): (
  episode: Episode,
  task?: Task,
  settings?: Partial<RewardOptions> & { signal?: AbortSignal },
) => Promise<RewardBreakdown> {
  const judge = new LlmJudge({ model, options });
  return async (episode, task = episode.task, settings = {}) =>
    await scoreEpisode({ ...episode, task }, { ...settings, judge });
}
