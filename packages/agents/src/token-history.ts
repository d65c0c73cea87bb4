// One agent's append-only token history, by origin.
import type { Completion, Segment } from "@wideseek/spec";

export class TokenHistory {
  readonly segments: Segment[];
  #numTokens: number;

  constructor(segments: readonly Segment[] = []) {
    this.segments = [...segments];
    this.#numTokens = segments.reduce((sum, segment) => sum + segment.tokenIds.length, 0);
  }

  /** Tokens of all segments. */
  get numTokens(): number {
    return this.#numTokens;
  }

  appendGiven(tokenIds: Int32Array): void {
    this.segments.push({ kind: "given", tokenIds });
    this.#numTokens += tokenIds.length;
  }

  appendSampled({ tokenIds, logprobs, policyVersion }: Completion): void {
    this.segments.push({ kind: "sampled", tokenIds, logprobs, policyVersion });
    this.#numTokens += tokenIds.length;
  }

  /** Ids of the turn at the end, empty if something was given after it. */
  lastTurn(): Int32Array {
    const last = this.segments.at(-1);
    return last?.kind === "sampled" ? last.tokenIds : new Int32Array();
  }

  /** A fresh copy of all ids in order. */
  tokenIds(): Int32Array {
    const tokenIds = new Int32Array(this.#numTokens);
    let offset = 0;
    for (const segment of this.segments) {
      tokenIds.set(segment.tokenIds, offset);
      offset += segment.tokenIds.length;
    }
    return tokenIds;
  }
}
