// An episode as one JSON line: what every agent saw and said. Owns the format of episodes.jsonl.
import type { Episode, RewardBreakdown, Segment, Task, Trajectory } from "@wideseek/spec";

/** Token ids to text, special tokens kept. */
export type Decode = (tokenIds: Int32Array) => string | Promise<string>;

export interface SegmentTrace {
  kind: Segment["kind"];
  text?: string;
  tokenIds?: number[];
  /** Only of sampled segments. */
  logprobs?: number[];
}

export interface AgentTrace extends Omit<Trajectory, "segments" | "transcript"> {
  segments: SegmentTrace[];
}

export interface EpisodeTrace {
  step: number;
  task: Task;
  sample: number;
  /** Decimal, because it is 64 bits wide. */
  seed: string;
  workflow: Episode["workflow"];
  seconds: number;
  reward: RewardBreakdown;
  /** Absent in an evaluation, which has no groups. */
  advantage?: number | undefined;
  agents: AgentTrace[];
}

export interface ScoredEpisode {
  step: number;
  episode: Episode;
  reward: RewardBreakdown;
  advantage?: number | undefined;
}

export interface TraceContents {
  /** Text of the segments; left out when absent. */
  decode?: Decode | undefined;
  /** Keep token ids and log-probabilities: exact, and about ten times the size. */
  tokenIds?: boolean;
}

export async function episodeTrace(
  { step, episode, reward, advantage }: ScoredEpisode,
  contents: TraceContents,
): Promise<EpisodeTrace> {
  const { task, sample, seed, workflow, seconds, trajectories } = episode;
  const agents = await Promise.all(
    trajectories.map(async ({ segments, transcript, ...agent }) => ({
      ...agent,
      segments:
        transcript?.map(({ kind, text }) => ({ kind, text })) ??
        (await Promise.all(segments.map((segment) => segmentTrace(segment, contents)))),
    })),
  );
  return { step, task, sample, seed: seed.toString(), workflow, seconds, reward, advantage, agents };
}

async function segmentTrace(segment: Segment, { decode, tokenIds }: TraceContents): Promise<SegmentTrace> {
  return {
    kind: segment.kind,
    ...(decode && { text: await decode(segment.tokenIds) }),
    ...(tokenIds && { tokenIds: [...segment.tokenIds] }),
    ...(tokenIds && segment.kind === "sampled" && { logprobs: [...segment.logprobs] }),
  };
}
