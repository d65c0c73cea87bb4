// Episodes of the scripted expert over the real agents and tools: what the cold start learns from. Owns no script.
import { agentTexts, promptLanguage, runEpisode, ScriptedPolicy } from "@wideseek/agents";
import type { RunConfig } from "@wideseek/config";
import { copyDrill, expertReply, SeededRandom, TaskOrder } from "@wideseek/data";
import type { Episode, Task, Toolset, Trajectory } from "@wideseek/spec";
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

/** Most subagents of a team that is narrow on purpose. */
const NARROW_TEAM = 8;

/** Episode number `index` of an endless, seeded sequence. */
export function expertTraces(parts: ExpertTraceParts): (index: number, signal?: AbortSignal) => Promise<Episode> {
  const { config, chat, tools, tasks, split } = parts;
  const { agents, expert, run } = config;
  const { singleAgentShare, narrowTeamShare, ...quality } = expert;
  const order = new TaskOrder(run.seed, tasks.length);
  return async (index, signal) => {
    const task = tasks[order.at(index)] as Task;
    const seed = deriveSeed("expert", run.seed, split, index);
    const texts = agentTexts(agents.promptStyle, promptLanguage(task, agents.promptLanguage));
    const random = new SeededRandom("team", seed);
    const workflow = random.chance(singleAgentShare) ? "sa" : "mas";
    // The lead must also learn to answer from the reports of a team that was cut short.
    const limits = random.chance(narrowTeamShare)
      ? { ...agents.limits, maxSubagents: random.integer(1, NARROW_TEAM) }
      : agents.limits;
    const notices = { answerNotice: texts.answerNow, notRunNotice: texts.notRun(limits.maxSubagents) };
    const policy = new ScriptedPolicy({
      chat,
      maxContextTokens: Number.MAX_SAFE_INTEGER,
      reply: ({ text }) => expertReply(text, { seed, quality, ...notices }),
    });
    const style = { prompts: agents.promptStyle, promptLanguage: agents.promptLanguage };
    return await runEpisode({ policy, chat, tools, task, workflow, limits, ...style, seed, signal });
  };
}

/** Copying exercises on the ordinary tokens of a vocabulary, as trajectories of a single agent. */
export function copyDrills(chat: ChatTokenizer, seed: number): (index: number) => Trajectory {
  const control = new Set(chat.tokenizer.controlTokens.values());
  const vocabulary = Array.from({ length: chat.vocabSize }, (_, id) => id).filter((id) => !control.has(id));
  return (index) => {
    const { given, copied } = copyDrill(seed, index, vocabulary);
    return {
      agentId: "single",
      role: "single",
      prompt: "",
      segments: [
        { kind: "given", tokenIds: given },
        { kind: "sampled", tokenIds: copied, logprobs: new Float32Array(copied.length), policyVersion: 0n },
      ],
      stopReason: "answered",
      numTurns: 1,
      numSubagentCalls: 0,
      numSearches: 0,
      numAccesses: 0,
      numMalformedCalls: 0,
      answer: "",
      errors: [],
    };
  };
}
