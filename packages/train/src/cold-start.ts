// Supervised start: maximum likelihood of a scripted expert's sampled tokens, with the engine of GRPO. Owns no expert.
import { type Episode, numSampledTokens, type PackedBatch, type Trainer, type Trajectory } from "@wideseek/spec";
import { mapConcurrent } from "./concurrent.ts";
import { type ColdStartOptions, optimizerSettings } from "./options.ts";
import { packTrajectories, type WeightedTrajectory } from "./pack.ts";
import { PhaseClock } from "./phase-clock.ts";
import { addStats, emptyStats } from "./policy-metrics.ts";
import type { Run } from "./run.ts";
import { learningRateAt } from "./schedule.ts";

export interface ColdStartParts {
  policy: Trainer;
  /** The expert's episode number `index`; the same index gives the same tokens. */
  trace(index: number, split: "train" | "heldOut", signal: AbortSignal): Promise<Episode>;
  /** Copying exercise number `index`, which the first `drillSteps` steps learn from. */
  drill(index: number): Trajectory;
  options: ColdStartOptions;
  run: Run;
  signal?: AbortSignal | undefined;
}

/** Episodes asked for at a time; enough to keep tools and tokenizer busy beside the engine. */
const TRACES_AT_ONCE = 8;
/** More than the drills of any step. */
const MAX_DRILLS_PER_STEP = 1_000_000;

/** Runs the remaining steps of `run`. Returns the number of steps done, fewer than `options.steps` after a stop. */
export async function coldStart(parts: ColdStartParts): Promise<number> {
  const { run, options, policy } = parts;
  const signal = parts.signal ?? new AbortController().signal;
  const traces = new TraceFeed(parts, signal);
  const isDue = (step: number): boolean =>
    step === options.steps || (options.heldOutEvery > 0 && step % options.heldOutEvery === 0);
  const heldOutOnce = async (step: number): Promise<void> => {
    if (options.heldOutTraces > 0 && isDue(step) && !run.isEvaluated(step)) {
      await run.recordEvaluation(step, await heldOutMetrics(parts, signal));
    }
  };
  return await run.loop({
    ...options,
    signal,
    policy,
    before: async () => {
      traces.seek(run.cursor);
      await heldOutOnce(run.step);
    },
    step: async (step) => {
      const clock = new PhaseClock();
      const { trajectories, cursor } =
        step <= options.drillSteps
          ? { trajectories: drillsOf(step, parts), cursor: run.cursor }
          : await clock.time("traces", () => traces.next());
      const batches = packTrajectories(weigh(trajectories, options.weighting), options);
      // The next step's traces are made while the engine is busy with this one's.
      if (step >= options.drillSteps) traces.prefetch();
      let stats = emptyStats();
      for (const batch of batches) {
        const part = await clock.time("train", () => policy.forwardBackward(batch, { kind: "nll" }));
        stats = addStats(stats, part);
      }
      const learningRate = learningRateAt(step, { ...options, totalSteps: options.steps });
      const update = await clock.time("optimizer", () =>
        policy.optimizerStep(optimizerSettings(options, learningRate)),
      );
      const nll = stats.sumNll / stats.numTokens;
      const numTokens = batches.reduce((sum, batch) => sum + batch.tokenIds.length, 0);
      await run.recordStep(step, {
        "cold_start/loss": stats.loss,
        "cold_start/nll": nll,
        "cold_start/entropy": stats.sumEntropy / stats.numTokens,
        "train/learning_rate": learningRate,
        "train/grad_norm": update.gradNorm,
        "train/skipped": update.skipped ? 1 : 0,
        "train/tokens": stats.numTokens,
        "train/sequences": trajectories.length,
        "throughput/packed_tokens": numTokens,
        "throughput/packed_tokens_per_second": numTokens / clock.seconds("train"),
        ...clock.metrics(),
      });
      run.cursor = cursor;
      return `nll ${nll.toFixed(4)}  lr ${learningRate.toExponential(1)}  ${Math.round(numTokens / clock.seconds("train"))} tokens/s`;
    },
    after: heldOutOnce,
  });
}

/** Whole trajectories of consecutive episodes, about `tokensPerStep` a step. */
class TraceFeed {
  readonly #parts: ColdStartParts;
  readonly #signal: AbortSignal;
  #cursor: number = 0;
  #pending: Promise<Draw> | undefined;
  /** Episodes from the cursor on that are made already. */
  #ready: Episode[] = [];

  constructor(parts: ColdStartParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
  }

  seek(cursor: number): void {
    this.#cursor = cursor;
    this.#pending = undefined;
    this.#ready = [];
  }

  async next(): Promise<Draw> {
    const draw = await (this.#pending ?? this.#draw());
    this.#pending = undefined;
    this.#cursor = draw.cursor;
    return draw;
  }

  prefetch(): void {
    this.#pending = this.#draw();
    // Its error is thrown by next(); until then it must not count as unhandled.
    this.#pending.catch(() => undefined);
  }

  async #draw(): Promise<Draw> {
    const { options } = this.#parts;
    const trajectories: Trajectory[] = [];
    let cursor = this.#cursor;
    let numTokens = 0;
    while (numTokens < options.tokensPerStep) {
      const episode = this.#ready.shift() ?? (await this.#make(cursor));
      const trained = trainedTrajectories(episode, options.maxSubagentsPerTrace);
      trajectories.push(...trained);
      numTokens += countTokens(trained);
      cursor += 1;
    }
    return { trajectories, cursor };
  }

  /** The episode at `cursor`; those made beside it wait for their turn. */
  async #make(cursor: number): Promise<Episode> {
    const indices = Array.from({ length: TRACES_AT_ONCE }, (_, offset) => cursor + offset);
    const make = (index: number, signal: AbortSignal) => this.#parts.trace(index, "train", signal);
    const [first, ...rest] = await mapConcurrent(indices, TRACES_AT_ONCE, make, this.#signal);
    this.#ready = rest;
    return first as Episode;
  }
}

/** The drills of one step, about `drillTokensPerStep`; no step shares one with another, and a resumed run repeats them. */
function drillsOf(step: number, { options, drill }: ColdStartParts): Trajectory[] {
  const trajectories: Trajectory[] = [];
  for (let numTokens = 0; numTokens < options.drillTokensPerStep; ) {
    const trajectory = drill(step * MAX_DRILLS_PER_STEP + trajectories.length);
    trajectories.push(trajectory);
    numTokens += countTokens([trajectory]);
  }
  return trajectories;
}

/** The subagents of one question say much the same; a few of each leave room for more questions in a step. */
function trainedTrajectories(episode: Episode, maxSubagents: number): Trajectory[] {
  const trained = episode.trajectories.filter((trajectory) => numSampledTokens(trajectory) > 0);
  const subagents = trained.filter((trajectory) => trajectory.role === "subagent");
  return [...trained.filter((trajectory) => trajectory.role !== "subagent"), ...subagents.slice(0, maxSubagents)];
}

interface Draw {
  trajectories: Trajectory[];
  /** Episodes consumed since the start of the run. */
  cursor: number;
}

function weigh(trajectories: readonly Trajectory[], weighting: ColdStartOptions["weighting"]): WeightedTrajectory[] {
  const total = trajectories.reduce((sum, trajectory) => sum + numSampledTokens(trajectory), 0);
  return trajectories.map((trajectory) => {
    const weight = weighting === "token" ? 1 / total : 1 / (trajectories.length * numSampledTokens(trajectory));
    return { trajectory, weight, advantage: 0 };
  });
}

/** NLL, perplexity and share of very likely tokens on held-out traces. */
async function heldOutMetrics(parts: ColdStartParts, signal: AbortSignal): Promise<Record<string, number>> {
  const { policy, options, trace } = parts;
  const indices = Array.from({ length: options.heldOutTraces }, (_, index) => index);
  const episodes = await mapConcurrent(
    indices,
    TRACES_AT_ONCE,
    (index, abort) => trace(index, "heldOut", abort),
    signal,
  );
  const trajectories = episodes.flatMap((episode) => episode.trajectories).filter((each) => numSampledTokens(each) > 0);
  const batches = packTrajectories(weigh(trajectories, "token"), options);
  let nll = 0;
  let numTokens = 0;
  let numLikely = 0;
  for (const batch of batches) {
    const { logprobs } = await policy.logprobs(batch, 1);
    for (const t of trainedPositions(batch)) {
      const logprob = logprobs[t] as number;
      nll -= logprob;
      numTokens += 1;
      // Above one half a token is certainly the most likely one: a lower bound of greedy accuracy.
      if (logprob > Math.log(0.5)) numLikely += 1;
    }
  }
  return {
    "held_out/nll": nll / numTokens,
    "held_out/accuracy_at_least": numLikely / numTokens,
    "held_out/tokens": numTokens,
  };
}

function trainedPositions(batch: PackedBatch): number[] {
  return [...batch.lossWeights.keys()].filter((t) => batch.lossWeights[t] !== 0);
}

function countTokens(trajectories: readonly Trajectory[]): number {
  return trajectories
    .flatMap((trajectory) => trajectory.segments)
    .reduce((sum, segment) => sum + segment.tokenIds.length, 0);
}
