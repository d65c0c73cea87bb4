import { describe, expect, it } from "vitest";
import { episodeMetrics, isRepetitive, rewardMetrics } from "./episode-metrics.ts";
import { episode, trajectory } from "./testing.ts";

describe("episodeMetrics", () => {
  it("counts agents, lengths and stop reasons", () => {
    const lead = { ...trajectory([2, 3]), stopReason: "turns" as const, answer: " " };
    const metrics = episodeMetrics([episode([lead, trajectory([1, 5], "subagent")]), episode([trajectory([2, 3])])]);
    expect(metrics).toMatchObject({
      "episode/subagents": 0.5,
      "stop_lead/turns": 0.5,
      "stop_lead/answered": 0.5,
      "stop_subagent/answered": 1,
      "length/response_max": 5,
      "degenerate/empty_answers": 0.5,
      "degenerate/duplicate_leads": 0.5,
    });
  });

  it("tells a loop from a text", () => {
    const text = trajectory([1, 200]);
    expect(isRepetitive(text)).toBe(false);
    const sampled = text.segments[1];
    sampled?.tokenIds.forEach((_, t) => {
      sampled.tokenIds[t] = t % 5;
    });
    expect(isRepetitive(text)).toBe(true);
  });
});

describe("rewardMetrics", () => {
  it("leaves unjudged episodes out of every mean", () => {
    const reward = { score: 1, formatReward: 0.1, toolReward: 0, lengthPenalty: 0, total: 1.1, reason: "" };
    const metrics = rewardMetrics([
      { ...reward, judged: true, qa: { exactMatch: 1, tokenF1: 1 } },
      { ...reward, judged: false, total: 0 },
    ]);
    expect(metrics).toMatchObject({ "reward/mean": 1.1, "reward/unjudged": 1, "qa/exact_match": 1 });
    expect(metrics).not.toHaveProperty("table/item_f1");
  });
});
