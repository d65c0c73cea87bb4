// One agent's append-only token history, by origin.
import type { Completion, Segment } from "@wideseek/spec";

export class TokenHistory {
  readonly segments: Segment[] = [];
  #numTokens = 0;

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
