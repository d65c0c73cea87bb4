// What went wrong in an evaluation, counted by kind. Owns when two error lines are of one kind.
import type { RewardBreakdown } from "@wideseek/spec";
import type { EpisodeResult } from "./episode-result.ts";

export interface FailureKind {
  /** The line with what differs from case to case replaced: numbers by "#", quoted text by "…". */
  kind: string;
  count: number;
}

export interface FailureSummary {
  /** Episodes in which nothing went wrong on the way. */
  numCleanEpisodes: number;
  /** Why judges could not answer; one for each unjudged episode. */
  unjudged: FailureKind[];
  /** Lines of the agents' errors: tools, engine, malformed calls, limits. */
  agents: FailureKind[];
}

/** More kinds than this are counted together: hostile text must not fill the memory. */
const MAX_KINDS = 200;
const MAX_CHARACTERS = 160;
const OTHERS = "others";

/** Counts without keeping any episode. */
export class FailureCounter {
  readonly #unjudged: Map<string, number> = new Map();
  readonly #agents: Map<string, number> = new Map();
  #numClean = 0;

  /** `errors`: what the episode's agents recorded. */
  add(errors: readonly string[], reward: RewardBreakdown): void {
    for (const error of errors) count(this.#agents, failureKind(error));
    if (!reward.judged) count(this.#unjudged, failureKind(reward.reason));
    if (errors.length === 0 && reward.judged) this.#numClean++;
  }

  summary(): FailureSummary {
    return { numCleanEpisodes: this.#numClean, unjudged: sorted(this.#unjudged), agents: sorted(this.#agents) };
  }
}

export function episodeErrors(result: EpisodeResult): string[] {
  return result.agents.flatMap((agent) => agent.errors);
}

export function failureKind(line: string): string {
  return line
    .slice(0, 4 * MAX_CHARACTERS)
    .replace(/^turn \d+: /, "")
    .replace(/"[^"]*"/g, (quoted) => (/^"[a-z_]{1,40}"$/.test(quoted) ? quoted : '"…"'))
    .replace(/https?:\/\/\S+/g, "URL")
    .replace(/\d[\d,.]*/g, "#")
    .slice(0, MAX_CHARACTERS);
}

function count(counts: Map<string, number>, kind: string): void {
  const key = counts.has(kind) || counts.size < MAX_KINDS ? kind : OTHERS;
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function sorted(counts: ReadonlyMap<string, number>): FailureKind[] {
  return [...counts]
    .map(([kind, number]) => ({ kind, count: number }))
    .sort((a, b) => b.count - a.count || (a.kind < b.kind ? -1 : 1));
}
