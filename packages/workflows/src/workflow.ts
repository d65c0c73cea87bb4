// Runs another system's protocol on one question, to an episode that is scored like ours. Owns models by role, the time
// limit and which errors are data.
import { EpisodeControl } from "@wideseek/agents";
import {
  type ChatModel,
  type Episode,
  invalidInput,
  type SearchBackend,
  type Task,
  WideSeekError,
} from "@wideseek/spec";
import type { z } from "zod";
import { AgentStopped } from "./agent-record.ts";
import { finalAnswer } from "./answer-form.ts";
import type { CommonOptions } from "./options.ts";
import { Session } from "./session.ts";

export interface WorkflowModel {
  model: ChatModel;
  /** Exact where the tokenizer is at hand; left out, an estimate from the characters. */
  countTokens?: ((text: string) => number | Promise<number>) | undefined;
}

/** A protocol: which roles it has, what may be set, and how it comes to an answer. */
export interface Workflow<Options extends CommonOptions = CommonOptions> {
  name: string;
  /** "sa": one agent; "mas": several. */
  team: "mas" | "sa";
  /** Roles that may have models of their own. */
  roles: readonly string[];
  options: z.ZodType<Options>;
  /** The answer in the protocol's own form; "" = none. @throws AgentStopped */
  run(session: Session, options: Options): Promise<string>;
}

export interface WorkflowRequest {
  workflow: Workflow<never>;
  task: Task;
  /** By role; `default` speaks for the roles that are not named. */
  models: Readonly<Record<string, WorkflowModel | undefined>>;
  backend: SearchBackend;
  /** Left out: the published limits. */
  options?: Readonly<Record<string, unknown>> | undefined;
  /** Unsigned 64 bits. */
  seed: bigint;
  /** Index within the group. */
  sample?: number | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Runs one episode to its end. Resolves whatever models write and tools do (`stopReason`, `errors`).
 * @throws `signal.reason` on abort, WS_CLOSED and the like from a model that cannot go on, WS_INVALID_ARGUMENT for
 *   impossible options or a role without a model
 */
export async function runWorkflow(request: WorkflowRequest): Promise<Episode> {
  const { task, seed, sample = 0, signal, models, backend } = request;
  const workflow = request.workflow as unknown as Workflow;
  const options = workflowOptions(request.workflow, request.options);
  if (seed < 0n || seed >= 1n << 64n) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `runWorkflow: seed ${seed}; must be within 0 and 2^64 - 1`);
  }
  checkRoles(workflow, models);
  signal?.throwIfAborted();

  const start = performance.now();
  using control = new EpisodeControl(options.episodeSeconds, signal);
  const session = new Session({
    task,
    team: workflow.team,
    models: (role) => (models[role] ?? models.default) as WorkflowModel,
    backend,
    control,
    seed,
    toolSeconds: options.toolSeconds,
  });
  const { main } = session;
  try {
    main.trajectory.answer = finalAnswer(task, await workflow.run(session, options));
  } catch (error) {
    main.stop(error instanceof AgentStopped ? error : main.stopped(error, workflow.name));
  }
  return {
    task,
    sample,
    seed,
    workflow: workflow.team,
    trajectories: session.records.map((record) => record.trajectory),
    seconds: (performance.now() - start) / 1000,
  };
}

/** @throws WS_INVALID_ARGUMENT naming the workflow and the option */
export function workflowOptions(
  workflow: Workflow<never>,
  options: Readonly<Record<string, unknown>> = {},
): CommonOptions {
  const parsed = (workflow.options as z.ZodType<CommonOptions>).safeParse(options);
  if (!parsed.success) throw invalidInput(`${workflow.name} options`, parsed.error, options);
  return parsed.data;
}

/** @throws WS_INVALID_ARGUMENT naming a role that the workflow has not, or that no model speaks for */
export function checkRoles(
  { name, roles }: Pick<Workflow, "name" | "roles">,
  models: Readonly<Record<string, unknown>>,
): void {
  const known = ["default", ...roles];
  const unknown = Object.keys(models).find((role) => !known.includes(role));
  const fail = (message: string): never => {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${name}: ${message}`, { op: "runWorkflow" });
  };
  if (unknown !== undefined) fail(`has no role ${JSON.stringify(unknown)}; its roles are ${known.join(", ")}`);
  const missing = roles.find((role) => models[role] === undefined && models.default === undefined);
  if (missing !== undefined) fail(`no model for role ${missing}; name one for it or for default`);
}
