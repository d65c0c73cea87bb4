// Episodes of the scripted expert over the real agents and tools: what the cold start learns from. Owns no script.
import { agentTexts, runEpisode, ScriptedPolicy } from "@wideseek/agents";
import type { RunConfig } from "@wideseek/config";
import { expertReply, TaskOrder } from "@wideseek/data";
import type { Episode, Task, Toolset } from "@wideseek/spec";
import type { ChatTokenizer } from "@wideseek/text";
import { deriveSeed } from "@wideseek/train";

export interface ExpertTraceParts {
  config: RunConfig;
  chat: ChatTokenizer;
  tools: Toolset;
  tasks: readonly Task[];
  /** Part of every seed: training and held-out traces differ. */
  split: "train" | "heldOut";
}

/** Episode number `index` of an endless, seeded sequence. */
export function expertTraces(parts: ExpertTraceParts): (index: number, signal?: AbortSignal) => Promise<Episode> {
  const { config, chat, tools, tasks, split } = parts;
  const { agents, expert, run } = config;
  const { singleAgentShare, ...quality } = expert;
  const order = new TaskOrder(run.seed, tasks.length);
  return async (index, signal) => {
    const task = tasks[order.at(index)] as Task;
    const seed = deriveSeed("expert", run.seed, split, index);
    const texts = agentTexts(agents.promptStyle, task.language);
    const notices = { answerNotice: texts.answerNow, notRunNotice: texts.notRun(agents.limits.maxSubagents) };
    const policy = new ScriptedPolicy({
      chat,
      maxContextTokens: Number.MAX_SAFE_INTEGER,
      reply: ({ text }) => expertReply(text, { seed, quality, ...notices }),
    });
    // The low bits of a seed are as random as any.
    const workflow = Number(seed % 10_000n) < singleAgentShare * 10_000 ? "sa" : "mas";
    const { limits, promptStyle: prompts } = agents;
    return await runEpisode({ policy, chat, tools, task, workflow, limits, prompts, seed, signal });
  };
}
