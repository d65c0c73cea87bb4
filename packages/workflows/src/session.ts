// One episode of a workflow while it runs: its agents, their models, the lookups. Owns counts and time limits of lookups.
import type { EpisodeControl } from "@wideseek/agents";
import {
  countCalls,
  errorMessage,
  type SearchBackend,
  type SearchHit,
  type Task,
  WideSeekError,
  withoutControlText,
} from "@wideseek/spec";
import { AgentRecord } from "./agent-record.ts";
import { estimatedTokens } from "./token-cut.ts";
import type { WorkflowModel } from "./workflow.ts";

/** What was found, or why nothing could be looked up, for the model to read. */
export type Lookup<T> = { found: T } | { failure: string };

export class Session {
  readonly task: Task;
  /** The agent that answers. */
  readonly main: AgentRecord;
  readonly records: AgentRecord[] = [];
  readonly #models: (role: string) => WorkflowModel;
  readonly #backend: SearchBackend;
  readonly #control: EpisodeControl;
  readonly #seed: bigint;
  readonly #toolSeconds: number;

  constructor(parts: {
    task: Task;
    team: "mas" | "sa";
    models: (role: string) => WorkflowModel;
    backend: SearchBackend;
    control: EpisodeControl;
    seed: bigint;
    toolSeconds: number;
  }) {
    this.task = parts.task;
    this.#models = parts.models;
    this.#backend = parts.backend;
    this.#control = parts.control;
    this.#seed = parts.seed;
    this.#toolSeconds = parts.toolSeconds;
    const role = parts.team === "mas" ? "lead" : "single";
    this.main = this.#record({ agentId: role, role, prompt: parts.task.question });
  }

  model(role: string): WorkflowModel {
    return this.#models(role);
  }

  countTokens(role: string, text: string): number | Promise<number> {
    return (this.#models(role).countTokens ?? estimatedTokens)(text);
  }

  /** A further agent; `agentId` must be new. */
  agent(agentId: string, prompt: string): AgentRecord {
    return this.#record({ agentId, role: "subagent", prompt });
  }

  /** @throws AgentStopped at the time limit; what the whole episode must end with */
  async search(record: AgentRecord, query: string, numHits: number): Promise<Lookup<SearchHit[]>> {
    countCalls(record.trajectory, { numSearches: 1 });
    const looked = await this.#look(record, "search", (signal) => this.#backend.search(query, numHits, signal));
    return "found" in looked ? { found: looked.found.slice(0, numHits).map(harmless) } : looked;
  }

  /** `found` is empty for an unknown or empty page. Throws as `search`. */
  async access(record: AgentRecord, url: string): Promise<Lookup<string>> {
    countCalls(record.trajectory, { numAccesses: 1 });
    const looked = await this.#look(record, "access", (signal) => this.#backend.access(url, signal));
    return "found" in looked ? { found: withoutControlText((looked.found ?? "").trim()) } : looked;
  }

  #record(agent: ConstructorParameters<typeof AgentRecord>[0]): AgentRecord {
    const record = new AgentRecord(agent, { seed: this.#seed, control: this.#control });
    this.records.push(record);
    return record;
  }

  async #look<T>(record: AgentRecord, what: string, look: (signal: AbortSignal) => Promise<T>): Promise<Lookup<T>> {
    const { signal } = this.#control;
    const { promise: stopped, reject } = Promise.withResolvers<never>();
    const controller = new AbortController();
    const stop = (error: unknown): void => {
      controller.abort(error);
      reject(error);
    };
    const onAbort = (): void => stop(signal.reason);
    const late = new WideSeekError("WS_TIMEOUT", `no result within ${this.#toolSeconds} seconds`);
    const timer = setTimeout(() => stop(late), this.#toolSeconds * 1000);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      signal.throwIfAborted();
      // A backend that ignores its signal must not hold the agent.
      return { found: await Promise.race([look(controller.signal), stopped]) };
    } catch (error) {
      if (signal.aborted) throw record.stopped(error, what);
      record.note(`${what}: ${errorMessage(error)}`);
      return { failure: withoutControlText(errorMessage(error)) };
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }
}

/** What strangers wrote goes to models as text: nothing in it may look like a turn or a tag of a protocol. */
function harmless({ url, title, contents }: SearchHit): SearchHit {
  return {
    url: withoutControlText(url),
    title: withoutControlText(title),
    contents: withoutControlText(contents),
  };
}
