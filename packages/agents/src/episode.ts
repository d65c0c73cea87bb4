// runEpisode: one attempt at one question. Owns who the agents are, their join, the time limit and the abort.
import {
  type Episode,
  errorMessage,
  invalidInput,
  type Policy,
  type SamplingSettings,
  type Task,
  type ToolCall,
  type Toolset,
  WideSeekError,
} from "@wideseek/spec";
import type { PromptMessage } from "@wideseek/text";
import {
  type Agent,
  type AgentChat,
  type AgentEnvironment,
  type AgentOutcome,
  type CallResult,
  runAgent,
} from "./agent-loop.ts";
import { EpisodeControl } from "./episode-control.ts";
import { Delegation } from "./lead.ts";
import { agentBudget, type LimitsInput, limitsSchema } from "./limits.ts";
import { agentTexts, type PromptStyle } from "./prompts.ts";

/** The published sampling, training and evaluation alike: the model's own distribution. */
export const defaultSampling: Readonly<SamplingSettings> = { temperature: 1, topP: 1, topK: 0, minP: 0 };

export interface EpisodeRequest {
  policy: Policy;
  chat: AgentChat;
  tools: Toolset;
  task: Task;
  /** "mas": a lead and its subagents; "sa": one agent with the tools. */
  workflow?: "mas" | "sa" | undefined;
  limits?: LimitsInput | undefined;
  sampling?: SamplingSettings | undefined;
  /** Unsigned 64 bits. */
  seed: bigint;
  /** Index within the group. */
  sample?: number | undefined;
  signal?: AbortSignal | undefined;
  prompts?: PromptStyle | undefined;
}

/**
 * Runs one episode to its end. Resolves for every bad rollout (`stopReason`, `errors`), and settles only when all
 * its agents have ended.
 * @throws `signal.reason` on abort; WS_CLOSED, WS_DEVICE_LOST and the like from a policy that cannot go on;
 *   WS_INVALID_ARGUMENT for impossible limits
 */
export async function runEpisode(request: EpisodeRequest): Promise<Episode> {
  const { policy, chat, task, workflow = "mas", seed, sample = 0, signal, sampling = defaultSampling } = request;
  const limits = limitsSchema.safeParse(request.limits ?? {});
  if (!limits.success) throw invalidInput("limits", limits.error, request.limits);
  if (seed < 0n || seed >= 1n << 64n) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `runEpisode: seed ${seed}; must be within 0 and 2^64 - 1`);
  }
  signal?.throwIfAborted();

  const start = performance.now();
  using control = new EpisodeControl(limits.data.episodeSeconds, signal);
  const texts = agentTexts(request.prompts ?? "full", task.language);
  const environment: AgentEnvironment = {
    policy,
    chat,
    limits: limits.data,
    sampling,
    texts,
    episodeSeed: seed,
    control,
  };
  const team = new Team(request.tools, task, environment);
  const first = workflow === "mas" ? await team.runLead() : await team.runSingle();
  return {
    task,
    sample,
    seed,
    workflow,
    trajectories: [first.trajectory, ...team.subagentTrajectories],
    seconds: (performance.now() - start) / 1000,
  };
}

/** Builds the agents of one episode. */
class Team {
  readonly #tools: Toolset;
  readonly #task: Task;
  readonly #environment: AgentEnvironment;
  readonly #delegation: Delegation;

  constructor(tools: Toolset, task: Task, environment: AgentEnvironment) {
    this.#tools = tools;
    this.#task = task;
    this.#environment = environment;
    const { limits, texts, control } = environment;
    this.#delegation = new Delegation(limits, texts, task.language, async (agentId, subtask) => {
      try {
        return await this.#runSubagent(agentId, subtask);
      } catch (error) {
        // The episode is lost; its other agents need not work to their ends.
        control.fail(error);
        throw error;
      }
    });
  }

  get subagentTrajectories(): Episode["trajectories"] {
    return [...this.#delegation.trajectories];
  }

  runLead(): Promise<AgentOutcome> {
    const { limits, texts } = this.#environment;
    return this.#run({
      agentId: "lead",
      role: "lead",
      prompt: this.#task.question,
      definitions: [texts.createSubAgents(limits.maxSubagentsPerCall)],
      runCalls: (calls) => this.#delegation.runCalls(calls),
    });
  }

  runSingle(): Promise<AgentOutcome> {
    return this.#run({
      agentId: "single",
      role: "single",
      prompt: this.#task.question,
      definitions: this.#tools.definitions("single", this.#task.language),
      runCalls: (calls) => this.#runTools(calls, "single"),
    });
  }

  #runSubagent(agentId: string, subtask: string): Promise<AgentOutcome> {
    return this.#run({
      agentId,
      role: "subagent",
      prompt: subtask,
      definitions: this.#tools.definitions("subagent", this.#task.language),
      runCalls: (calls) => this.#runTools(calls, "subagent"),
    });
  }

  #run(agent: Omit<Agent, "messages">): Promise<AgentOutcome> {
    const { texts, limits, policy } = this.#environment;
    const { maxTurns } = agentBudget(limits, agent.role, policy.maxContextTokens);
    const hint = maxTurns === 1 ? texts.answerNow : texts.firstTurn(maxTurns);
    const content = texts.userMessage(agent.role, this.#task.question, agent.prompt);
    const messages: PromptMessage[] = [
      { role: "system", content: texts.systemPrompt(agent.role, this.#task.kind) },
      { role: "user", content: hint === "" ? content : `${content}\n\n${hint}` },
    ];
    return runAgent({ ...agent, messages }, this.#environment);
  }

  async #runTools(calls: readonly ToolCall[], role: "subagent" | "single"): Promise<CallResult[]> {
    const { control, texts } = this.#environment;
    const context = { role, language: this.#task.language, signal: control.signal };
    // Joined before anything is thrown: no tool outlives its turn.
    const outcomes = await Promise.allSettled(calls.map(async (call) => this.#tools.run(call, context)));
    control.signal.throwIfAborted();
    return outcomes.map((outcome) => {
      if (outcome.status === "rejected") {
        // A toolset must not reject; one that does costs the agent this result, not the episode.
        const text = texts.toolFailed(errorMessage(outcome.reason));
        const failures = [`tool: ${errorMessage(outcome.reason)}`];
        return { text, malformed: false, numSubagentCalls: 0, numSearches: 0, numAccesses: 0, failures };
      }
      const { text, malformed = false, numSearches, numAccesses, failures } = outcome.value;
      return { text, malformed, numSubagentCalls: 0, numSearches, numAccesses, failures };
    });
  }
}
