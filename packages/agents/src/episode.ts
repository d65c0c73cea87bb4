// runEpisode: one attempt at one question. Owns who the agents are, their join, the time limit and the abort.
import {
  type AgentState,
  type ChatModel,
  type Episode,
  errorMessage,
  invalidInput,
  type Language,
  type PausedEpisode,
  type Policy,
  type Role,
  type SamplingSettings,
  type Task,
  type ToolCall,
  type Toolset,
  WideSeekError,
} from "@wideseek/spec";
import type { PromptMessage } from "@wideseek/text";
import { type Agent, type AgentChat, type AgentOutcome, type CallResult, runAgent } from "./agent-loop.ts";
import { EpisodeControl, PauseRequest } from "./episode-control.ts";
import { agentState, Delegation } from "./lead.ts";
import { agentBudget, type Limits, type LimitsInput, limitsSchema } from "./limits.ts";
import { runMessageAgent } from "./message-loop.ts";
import { type AgentTexts, agentTexts, type PromptLanguage, type PromptStyle, promptLanguage } from "./prompts.ts";

/** The published sampling, training and evaluation alike: the model's own distribution. */
export const defaultSampling: Readonly<SamplingSettings> = { temperature: 1, topP: 1, topK: 0, minP: 0 };

/** What an agent's turns come from: our engine in token ids, or any model in messages. */
export type AgentModel =
  | { kind: "tokens"; policy: Policy; chat: AgentChat; sampling?: SamplingSettings | undefined }
  /** Of the sampling settings such a model knows temperature and topP. */
  | { kind: "messages"; model: ChatModel; sampling?: Pick<SamplingSettings, "temperature" | "topP"> | undefined };

interface CommonRequest {
  tools: Toolset;
  task: Task;
  /** "mas": a lead and its subagents; "sa": one agent with the tools. */
  workflow?: "mas" | "sa" | undefined;
  limits?: LimitsInput | undefined;
  /** Unsigned 64 bits. */
  seed: bigint;
  /** Index within the group. */
  sample?: number | undefined;
  signal?: AbortSignal | undefined;
  prompts?: PromptStyle | undefined;
  /** Of prompts, hints and tool texts; default: that of the task. */
  promptLanguage?: PromptLanguage | undefined;
}

export interface EpisodeRequest extends CommonRequest {
  policy: Policy;
  chat: AgentChat;
  sampling?: SamplingSettings | undefined;
}

/** Lead and subagents with models of their own; a role that the workflow has not may be left out. */
export interface TeamRequest extends CommonRequest {
  models: Readonly<Partial<Record<Role, AgentModel>>>;
}

/**
 * Runs one episode to its end. Resolves for every bad rollout (`stopReason`, `errors`), and settles only when all
 * its agents have ended.
 * @throws `signal.reason` on abort; WS_CLOSED, WS_DEVICE_LOST and the like from a policy that cannot go on;
 *   WS_INVALID_ARGUMENT for impossible limits
 */
export async function runEpisode({ policy, chat, sampling, ...request }: EpisodeRequest): Promise<Episode> {
  const model = { kind: "tokens", policy, chat, sampling } as const;
  return await runTeam({ ...request, models: { lead: model, subagent: model, single: model } });
}

export interface PausableRequest extends EpisodeRequest {
  /**
   * When it aborts, each agent stops before it samples or runs the calls of its next turn. Calls that run are ended and
   * run again when the episode goes on.
   */
  pause?: AbortSignal | undefined;
  /** Goes on from here; task, sample, seed and workflow must be those of the request. */
  resume?: PausedEpisode | undefined;
}

/**
 * The same, but may stop at turn boundaries. Under unchanged weights a paused episode that goes on has the tokens of one
 * that never stopped.
 */
export async function runPausableEpisode({
  policy,
  chat,
  sampling,
  ...request
}: PausableRequest): Promise<Episode | PausedEpisode> {
  const model = { kind: "tokens", policy, chat, sampling } as const;
  return await run({ ...request, models: { lead: model, subagent: model, single: model } });
}

/** The same with a model for each role, of one kind or of both. Throws as `runEpisode`, and for a role without a model. */
export async function runTeam(request: TeamRequest): Promise<Episode> {
  // Nobody can ask it to pause.
  return (await run(request)) as Episode;
}

async function run(request: TeamRequest & Pick<PausableRequest, "pause" | "resume">): Promise<Episode | PausedEpisode> {
  const { task, workflow = "mas", models, seed, sample = 0, signal, pause, resume } = request;
  const limits = limitsSchema.safeParse(request.limits ?? {});
  if (!limits.success) throw invalidInput("limits", limits.error, request.limits);
  if (seed < 0n || seed >= 1n << 64n) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `runEpisode: seed ${seed}; must be within 0 and 2^64 - 1`);
  }
  const roles: readonly Role[] = workflow === "mas" ? ["lead", "subagent"] : ["single"];
  for (const role of roles) {
    if (models[role] !== undefined) continue;
    throw new WideSeekError("WS_INVALID_ARGUMENT", `runTeam: no model for role ${role} of workflow ${workflow}`);
  }
  signal?.throwIfAborted();

  const start = performance.now();
  const secondsBefore = resume?.seconds ?? 0;
  // Time that an episode lay paused does not count; a timer of 0 would be one of its own.
  const secondsLeft = Math.max(limits.data.episodeSeconds - secondsBefore, 0.001);
  using control = new EpisodeControl(secondsLeft, signal, pause);
  const language = promptLanguage(task, request.promptLanguage ?? "task");
  const texts = agentTexts(request.prompts ?? "full", language);
  const team = new Team(
    request.tools,
    task,
    { models, limits: limits.data, texts, language, episodeSeed: seed, control },
    resume,
  );
  const first = workflow === "mas" ? await team.runLead() : await team.runSingle();
  const seconds = secondsBefore + (performance.now() - start) / 1000;
  const facts = { task, sample, seed, workflow, seconds };
  if (first.paused) return { ...facts, paused: true, agents: [agentState(first), ...team.subagents] };
  return { ...facts, trajectories: [first.trajectory, ...team.subagents.map(({ trajectory }) => trajectory)] };
}

/** What all agents of an episode share. */
interface TeamEnvironment {
  models: TeamRequest["models"];
  limits: Limits;
  texts: AgentTexts;
  language: Language;
  episodeSeed: bigint;
  control: EpisodeControl;
}

/** Builds the agents of one episode. */
class Team {
  readonly #tools: Toolset;
  readonly #task: Task;
  readonly #environment: TeamEnvironment;
  readonly #delegation: Delegation;
  readonly #first: AgentState | undefined;

  constructor(tools: Toolset, task: Task, environment: TeamEnvironment, resume: PausedEpisode | undefined) {
    const [first, ...subagents] = resume?.agents ?? [];
    this.#first = first;
    this.#tools = tools;
    this.#task = task;
    this.#environment = environment;
    const { limits, texts, language, control } = environment;
    const runSubagent = async (
      agentId: string,
      subtask: string,
      before: AgentState | undefined,
    ): Promise<AgentOutcome> => {
      try {
        return await this.#runSubagent(agentId, subtask, before);
      } catch (error) {
        // The episode is lost; its other agents need not work to their ends.
        control.fail(error);
        throw error;
      }
    };
    const numStarted = first?.trajectory.numSubagentCalls;
    this.#delegation = new Delegation(limits, texts, language, runSubagent, subagents, numStarted);
  }

  /** In order of creation. */
  get subagents(): readonly AgentState[] {
    return this.#delegation.agents;
  }

  runLead(): Promise<AgentOutcome> {
    const { limits, texts } = this.#environment;
    return this.#run({
      agentId: "lead",
      role: "lead",
      prompt: this.#task.question,
      definitions: [texts.createSubAgents(limits.maxSubagentsPerCall)],
      runCalls: (calls) => this.#delegation.runCalls(calls),
      resume: this.#first,
    });
  }

  runSingle(): Promise<AgentOutcome> {
    return this.#run({
      agentId: "single",
      role: "single",
      prompt: this.#task.question,
      definitions: this.#tools.definitions("single", this.#environment.language),
      runCalls: (calls, wereAbandoned) => this.#runTools(calls, "single", wereAbandoned),
      resume: this.#first,
    });
  }

  #runSubagent(agentId: string, subtask: string, resume: AgentState | undefined): Promise<AgentOutcome> {
    return this.#run({
      agentId,
      role: "subagent",
      prompt: subtask,
      definitions: this.#tools.definitions("subagent", this.#environment.language),
      runCalls: (calls, wereAbandoned) => this.#runTools(calls, "subagent", wereAbandoned),
      resume,
    });
  }

  #run(agent: Omit<Agent, "messages">): Promise<AgentOutcome> {
    const { models, texts, limits, language: _, ...shared } = this.#environment;
    // Both roles of the workflow were checked before the first agent began.
    const model = models[agent.role] as AgentModel;
    const maxContextTokens = model.kind === "tokens" ? model.policy.maxContextTokens : Number.POSITIVE_INFINITY;
    const { maxTurns } = agentBudget(limits, agent.role, maxContextTokens);
    const hint = maxTurns === 1 ? texts.answerNow : texts.firstTurn(maxTurns);
    const content = texts.userMessage(agent.role, this.#task.question, agent.prompt);
    const messages: PromptMessage[] = [
      { role: "system", content: texts.systemPrompt(agent.role, this.#task.kind) },
      { role: "user", content: hint === "" ? content : `${content}\n\n${hint}` },
    ];
    if (model.kind === "messages") {
      const { sampling = defaultSampling } = model;
      return runMessageAgent({ ...agent, messages }, { ...shared, model: model.model, sampling, limits, texts });
    }
    const { policy, chat, sampling = defaultSampling } = model;
    return runAgent({ ...agent, messages }, { ...shared, policy, chat, sampling, limits, texts });
  }

  async #runTools(
    calls: readonly ToolCall[],
    role: "subagent" | "single",
    wereAbandoned: boolean,
  ): Promise<CallResult[]> {
    const { control, texts, language } = this.#environment;
    const pause = wereAbandoned ? undefined : control.pause;
    const signal = pause ? AbortSignal.any([control.signal, pause]) : control.signal;
    const context = { role, language, signal };
    // Joined before anything is thrown: no tool outlives its turn.
    const outcomes = await Promise.allSettled(calls.map(async (call) => this.#tools.run(call, context)));
    control.signal.throwIfAborted();
    // What an ended call says of itself is not what the tool would have said.
    if (pause?.aborted) throw new PauseRequest("the calls of this turn were ended");
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
