import { describe, expect, it } from "vitest";
import { correctMismatch, emptyMismatch, mismatchMetrics } from "./importance.ts";
import { packEpisodes } from "./pack.ts";
import { stalenessMetrics } from "./staleness.ts";
import { episode, trajectory } from "./testing.ts";

describe("correctMismatch", () => {
  it("weighs trained tokens by the capped ratio and takes the training log-probabilities as the ratio's start", () => {
    const batch = {
      tokenIds: Int32Array.of(1, 2, 3, 4),
      cuSeqlens: Int32Array.of(0, 4),
      lossWeights: Float32Array.of(0, 0.5, 0.5, 0),
      advantages: new Float32Array(4),
      behaviorLogprobs: Float32Array.of(0, -1, -3, 0),
    };
    const logprobs = Float32Array.of(0, -1.5, -1, -9);
    const mismatch = correctMismatch(batch, logprobs, 2, emptyMismatch());
    expect([...batch.lossWeights]).toEqual([0, Math.fround(0.5 * Math.exp(-0.5)), 1, 0]);
    expect([...batch.behaviorLogprobs]).toEqual([0, -1.5, -1, 0]);
    const kl = (Math.exp(-0.5) - 1 + 0.5 + (Math.exp(2) - 1 - 2)) / 2;
    expect(mismatchMetrics(mismatch)).toEqual({
      "mismatch/mean": 0.75,
      "mismatch/max": 2,
      "mismatch/kl": expect.closeTo(kl, 12),
      "mismatch/weight_mean": (Math.exp(-0.5) + 2) / 2,
      "mismatch/capped": 0.5,
    });
  });

  it("changes nothing where sampling and training agree", () => {
    const [batch] = packEpisodes([episode([trajectory([2, 3, 1, 2])])], [1], { maxTokens: 64 });
    if (!batch) throw new Error("no batch");
    const before = structuredClone(batch);
    correctMismatch(batch, batch.behaviorLogprobs.slice(), 1, emptyMismatch());
    expect(batch).toEqual(before);
  });
});

describe("stale tokens", () => {
  const mixed = trajectory([2, 3, 1, 1]);
  const newer = mixed.segments[3];
  if (newer?.kind === "sampled") newer.policyVersion = 2n;

  it("are counted in versions between sampling and training", () => {
    const advantages = { values: [1, 0], judged: [true, false], zeroVariance: false, mean: 0.5, std: 1 };
    const group = { episodes: [episode([mixed]), episode([trajectory([1, 9])])], rewards: [], advantages };
    expect(stalenessMetrics([group], 2n)).toEqual({
      "policy/staleness_mean": 1.5,
      "policy/staleness_max": 2,
      "policy/stale_tokens": 0.75,
    });
  });

  it("are packed only when they are allowed, and never from the future", () => {
    const pack = (policyVersion: bigint, allowStale: boolean) =>
      packEpisodes([episode([mixed])], [1], { maxTokens: 64, policyVersion, allowStale });
    expect(pack(2n, true)).toHaveLength(1);
    expect(() => pack(2n, false)).toThrow("version 0");
    expect(() => pack(1n, true)).toThrow("version 2");
  });
});
