import type { Episode, PackedBatch } from "@wideseek/spec";
import { trajectoryTokenIds } from "@wideseek/spec";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { groupAdvantages } from "./advantages.ts";
import { packEpisodes, packGroups } from "./pack.ts";
import { episode, trajectory } from "./testing.ts";

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);
const weightOf = (batches: readonly PackedBatch[]): number => sum(batches.map((batch) => sum(batch.lossWeights)));

/** Agents of an episode: a lead and subagents, each given and sampled segments in turn. */
const agentLengths = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 2, maxLength: 6 });
const groupArbitrary = fc
  .array(fc.array(agentLengths, { minLength: 1, maxLength: 4 }), { minLength: 2, maxLength: 5 })
  .map((agents): Episode[] =>
    agents.map((lengths, sample) =>
      episode(
        lengths.map((each, index) => trajectory(each, index === 0 ? "lead" : "subagent")),
        sample,
      ),
    ),
  );

/** Sum over tokens of weight * advantage * behavior logprob * id: changes with any misplaced value. */
const checksum = (batches: readonly PackedBatch[]): number =>
  sum(
    batches.flatMap(({ tokenIds, lossWeights, advantages, behaviorLogprobs }) =>
      [...tokenIds].map(
        (id, t) =>
          (lossWeights[t] as number) * (1 + (advantages[t] as number)) * (1 + (behaviorLogprobs[t] as number)) * id,
      ),
    ),
  );

describe("packEpisodes", () => {
  it("weighs every group 1/numGroups, its episodes equally, their agents equally", () => {
    fc.assert(
      fc.property(groupArbitrary, fc.integer({ min: 1, max: 4 }), (episodes, numGroups) => {
        const batches = packEpisodes(
          episodes,
          episodes.map((_, index) => index),
          { maxTokens: 64, numGroups },
        );
        expect(weightOf(batches)).toBeCloseTo(1 / numGroups, 5);
      }),
    );
  });

  it("gives a token 1/(G N_i S_a) exactly", () => {
    const agents = [trajectory([3, 5, 2, 1]), trajectory([2, 4], "subagent"), trajectory([2], "subagent")];
    const [batch] = packEpisodes([episode(agents), episode([trajectory([1, 7])])], [1, -1], { maxTokens: 100 });
    // The third agent sampled nothing, so two agents share the first episode.
    const weights = [...new Set(batch?.lossWeights)].filter((weight) => weight !== 0);
    expect(weights).toEqual([1 / 24, 1 / 14, 1 / 16].map(Math.fround));
  });

  it("keeps every token of every trajectory, once and in order", () => {
    fc.assert(
      fc.property(groupArbitrary, fc.integer({ min: 54, max: 200 }), (episodes, maxTokens) => {
        const batches = packEpisodes(
          episodes,
          episodes.map(() => 0),
          { maxTokens },
        );
        const packed = batches.flatMap(({ tokenIds, cuSeqlens }) =>
          [...cuSeqlens.subarray(1)].map((end, b) => tokenIds.subarray(cuSeqlens[b], end).join()),
        );
        const expected = episodes.flatMap((each) => each.trajectories.map((agent) => trajectoryTokenIds(agent).join()));
        expect(packed.sort()).toEqual(expected.sort());
        for (const { tokenIds } of batches) expect(tokenIds.length).toBeLessThanOrEqual(maxTokens);
      }),
    );
  });

  it("gives the same weighted sum however the tokens are split into batches", () => {
    fc.assert(
      fc.property(groupArbitrary, groupArbitrary, (first, second) => {
        const groups = [first, second].map((episodes) => ({
          episodes,
          advantages: groupAdvantages(episodes.map((_, index) => index)),
        }));
        const one = checksum(packGroups(groups, { maxTokens: 100_000 }));
        const many = checksum(packGroups(groups, { maxTokens: 54 }));
        expect(many).toBeCloseTo(one, 3);
      }),
    );
  });

  it("trains sampled tokens only and carries their log-probabilities", () => {
    const [batch] = packEpisodes([episode([trajectory([2, 3, 1, 1])])], [0.5], { maxTokens: 10 });
    expect([...(batch as PackedBatch).lossWeights].map((weight) => weight > 0)).toEqual([
      false,
      false,
      true,
      true,
      true,
      false,
      true,
    ]);
    expect([...(batch as PackedBatch).behaviorLogprobs]).toEqual([0, 0, -2 / 8, -3 / 8, -4 / 8, 0, -6 / 8]);
  });

  it("puts leads before subagents, where they share their prefix", () => {
    const make = () => episode([trajectory([1, 1]), trajectory([2, 2], "subagent")]);
    const [batch] = packEpisodes([make(), make()], [1, -1], { maxTokens: 100 });
    expect([...(batch as PackedBatch).cuSeqlens]).toEqual([0, 2, 4, 8, 12]);
  });

  it("leaves unjudged episodes out", () => {
    const episodes = [episode([trajectory([1, 2])]), episode([trajectory([1, 3])]), episode([trajectory([1, 4])])];
    const advantages = { ...groupAdvantages([1, 5, 0]), judged: [true, false, true] };
    const [batch] = packEpisodes(episodes, advantages, { maxTokens: 100 });
    expect([...(batch as PackedBatch).cuSeqlens]).toEqual([0, 3, 8]);
    expect(weightOf([batch as PackedBatch])).toBeCloseTo(1, 6);
  });

  it("refuses a trajectory that no batch can hold, and tokens of other weights", () => {
    expect(() => packEpisodes([episode([trajectory([5, 6])])], [0], { maxTokens: 10 })).toThrow(
      expect.objectContaining({ code: "WS_INVALID_ARGUMENT", message: expect.stringMatching(/11 tokens.*10/) }),
    );
    const mixed = [episode([trajectory([1, 1])]), episode([trajectory([1, 1], "lead", 1n)])];
    expect(() => packEpisodes(mixed, [1, -1], { maxTokens: 10 })).toThrow(
      expect.objectContaining({ code: "WS_INVALID_STATE" }),
    );
    expect(() => packEpisodes(mixed, [1], { maxTokens: 10 })).toThrow(/2 episodes but 1 advantages/);
  });
});
