// A run on disk and the loop that drives it: rows, checkpoints, resume, stop. Owns no training maths.
import path from "node:path";
import type { RewardBreakdown, Trainer } from "@wideseek/spec";
import type { TrainedGroup } from "./loop.ts";
import type { Progress } from "./progress.ts";
import { noRollouts, type StoredRollouts } from "./rollout-store.ts";
import { EventFile, JsonlFile, type MetricsRow, readRows } from "./run-files.ts";
import { RunLock } from "./run-lock.ts";
import {
  checkpointRollouts,
  checkResumable,
  latestCheckpoint,
  policyDirectory,
  removeTemporary,
  saveCheckpoint,
  writeAtomic,
} from "./run-state.ts";
import { episodeTrace, type ScoredEpisode, type TraceContents } from "./trace.ts";

export interface RunOptions {
  directory: string;
  seed: number;
  /** The resolved settings, kept beside the results; default: none. */
  configText?: string;
  /** Hash of the settings that results depend on; a run is resumed under the same one only. Default: "". */
  configHash?: string;
  /** What traces keep beside numbers; default: nothing. */
  traces?: TraceContents;
  /** Held by the caller for longer than the run is open; default: `open` locks the folder until `close`. */
  lock?: RunLock;
}

/** What a kind of training hands to `Run.loop`. */
export interface LoopParts {
  steps: number;
  checkpointEvery: number;
  keepCheckpoints: number;
  policy: Trainer;
  signal: AbortSignal;
  before?(): Promise<void>;
  /** Does step number `step` (from 1), returns a line for people. */
  step(step: number): Promise<string>;
  after?(step: number): Promise<void>;
}

export const CONFIG_FILE = "config.yaml";
export const METRICS_FILE = "metrics.jsonl";
export const EVALUATIONS_FILE = "evaluations.jsonl";
export const EPISODES_FILE = "episodes.jsonl";

interface RunFiles {
  metrics: JsonlFile;
  evaluations: JsonlFile;
  episodes: JsonlFile;
  events: EventFile;
}

export class Run {
  readonly directory: string;
  /** Steps done. */
  step: number;
  /** Tasks or traces drawn by these steps; each kind of training moves it. */
  cursor: number;
  /** Sampled and not trained on, as of `step`. */
  rollouts: StoredRollouts;
  /** Told about every step. */
  progress: Progress | undefined;
  #savedStep: number;
  readonly #options: RunOptions;
  readonly #metrics: JsonlFile;
  readonly #evaluations: JsonlFile;
  readonly #episodes: JsonlFile;
  readonly #events: EventFile;
  readonly #evaluatedSteps: Set<number>;
  /** Null: the caller's. */
  #lock: RunLock | null = null;

  private constructor(
    options: RunOptions,
    position: { step: number; cursor: number; rollouts: StoredRollouts },
    files: RunFiles,
    evaluatedSteps: Set<number>,
  ) {
    this.directory = options.directory;
    this.step = position.step;
    this.cursor = position.cursor;
    this.rollouts = position.rollouts;
    this.#savedStep = position.step;
    this.#options = options;
    this.#metrics = files.metrics;
    this.#evaluations = files.evaluations;
    this.#episodes = files.episodes;
    this.#events = files.events;
    this.#evaluatedSteps = evaluatedSteps;
  }

  /**
   * Continues from the newest whole checkpoint in the folder, or begins. Rows written after that checkpoint are
   * dropped, because their steps will be done again; `policy` gets the weights and moments of the checkpoint.
   * @throws WS_INVALID_ARGUMENT when the checkpoint was made with other settings, WS_INVALID_STATE when another process
   *   writes there
   */
  static async open(options: RunOptions, policy: Pick<Trainer, "loadCheckpoint">): Promise<Run> {
    if (options.lock) return await Run.#open(options, policy);
    const lock = await RunLock.take(options.directory);
    try {
      const run = await Run.#open(options, policy);
      run.#lock = lock;
      return run;
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
  }

  static async #open(options: RunOptions, policy: Pick<Trainer, "loadCheckpoint">): Promise<Run> {
    const { directory, configHash = "", configText = "", seed } = options;
    const checkpoints = path.join(directory, "checkpoints");
    await removeTemporary(checkpoints);
    const checkpoint = await latestCheckpoint(checkpoints);
    if (checkpoint) {
      checkResumable(checkpoint, configHash, seed);
      await policy.loadCheckpoint(policyDirectory(checkpoint));
    }
    const { step, cursor } = checkpoint?.state ?? { step: 0, cursor: 0 };
    const rollouts = checkpoint ? await checkpointRollouts(checkpoint) : noRollouts();
    await writeAtomic(path.join(directory, CONFIG_FILE), configText);
    const [metrics, evaluations, episodes] = await Promise.all(
      [METRICS_FILE, EVALUATIONS_FILE, EPISODES_FILE].map((name) => JsonlFile.open(path.join(directory, name), step)),
    );
    const evaluated = await readRows<MetricsRow>((evaluations as JsonlFile).path);
    const rows = [...(await readRows<MetricsRow>((metrics as JsonlFile).path)), ...evaluated];
    const events = await EventFile.create(path.join(directory, "tensorboard"), rows);
    const files = { metrics, evaluations, episodes, events } as RunFiles;
    return new Run(options, { step, cursor, rollouts }, files, new Set(evaluated.map((row) => row.step)));
  }

  isEvaluated(step: number): boolean {
    return this.#evaluatedSteps.has(step);
  }

  async recordEvaluation(step: number, metrics: Readonly<Record<string, number>>): Promise<void> {
    const row = { step, time: Date.now() / 1000, ...metrics };
    await this.#evaluations.append([row]);
    await this.#events.append([row]);
    this.#evaluatedSteps.add(step);
  }

  async recordStep(
    step: number,
    metrics: Readonly<Record<string, number>>,
    groups: readonly TrainedGroup[] = [],
  ): Promise<void> {
    const row = { step, time: Date.now() / 1000, ...metrics };
    const scored = groups.flatMap((group) => scoredEpisodes(step, group));
    await this.#episodes.append(
      await Promise.all(scored.map((each) => episodeTrace(each, this.#options.traces ?? {}))),
    );
    await this.#metrics.append([row]);
    await this.#events.append([row]);
  }

  /** Steps up to `parts.steps`. A stop through `parts.signal` gives up the running step and saves the last whole one. */
  async loop(parts: LoopParts): Promise<number> {
    const { steps, checkpointEvery, signal } = parts;
    try {
      await parts.before?.();
      while (this.step < steps) {
        signal.throwIfAborted();
        const line = await parts.step(this.step + 1);
        this.step += 1;
        this.progress?.update(this.step, line);
        await parts.after?.(this.step);
        if (this.step % checkpointEvery === 0 || this.step === steps) await this.#save(parts);
      }
    } catch (error) {
      if (!signal.aborted || error !== signal.reason) throw error;
      await this.#save(parts);
    }
    return this.step;
  }

  async close(): Promise<void> {
    await Promise.all([this.#metrics, this.#evaluations, this.#episodes, this.#events].map((file) => file.close()));
    await this.#lock?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #save({ policy, keepCheckpoints }: LoopParts): Promise<void> {
    if (this.step === this.#savedStep) return;
    // The rows of a step must be on disk before a checkpoint says that the step is done.
    await Promise.all([this.#metrics, this.#evaluations, this.#episodes].map((file) => file.sync()));
    const { directory, seed, configHash = "" } = this.#options;
    const state = {
      step: this.step,
      cursor: this.cursor,
      seed,
      policyVersion: policy.version.toString(),
      configHash,
    };
    await saveCheckpoint(path.join(directory, "checkpoints"), policy, state, keepCheckpoints, this.rollouts);
    this.#savedStep = this.step;
  }
}

function scoredEpisodes(step: number, { episodes, rewards, advantages }: TrainedGroup): ScoredEpisode[] {
  return episodes.map((episode, index) => {
    const reward = rewards[index] as RewardBreakdown;
    return { step, episode, reward, advantage: advantages.values[index] ?? 0 };
  });
}
