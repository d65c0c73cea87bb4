import type { Episode, Judge, Segment, TableTask, Task, Trajectory } from "@wideseek/spec";
import { describe, expect, it } from "vitest";
import { RuleJudge } from "./judge.ts";
import { checkTableTask, type ScoreEpisodeOptions, scoreEpisode } from "./reward.ts";
import type { TableOutcome } from "./table-score.ts";

const tableTask: Task = {
  kind: "table",
  instanceId: "t1",
  question: "All?",
  language: "en",
  answer: "| Name | Value |\n|---|---|\n| A | 1 |\n| B | 2 |",
  uniqueColumns: ["Name"],
  requiredColumns: [],
};
const qaTask: Task = { kind: "qa", instanceId: "q1", question: "Capital?", language: "en", answers: ["Paris"] };
const table = (rows: string): string =>
  `Here:\n\`\`\`markdown\n| Name | Value | Note |\n|---|---|---|\n${rows}\n\`\`\``;
const full = table("| a | 1.0 | x |\n| **B** | 2 | y |");

const sampled = (length: number): Segment => ({
  kind: "sampled",
  tokenIds: new Int32Array(length),
  logprobs: new Float32Array(length),
  policyVersion: 1n,
});
const given: Segment = { kind: "given", tokenIds: new Int32Array(9000) };

function agent(part: Partial<Trajectory>): Trajectory {
  return {
    agentId: "lead",
    role: "lead",
    prompt: "",
    segments: [given, sampled(10)],
    stopReason: "answered",
    numTurns: 1,
    numSubagentCalls: 0,
    numSearches: 0,
    numAccesses: 0,
    numMalformedCalls: 0,
    answer: "",
    errors: [],
    ...part,
  };
}

function episode(task: Task, lead: Partial<Trajectory>, ...subagents: Partial<Trajectory>[]): Episode {
  const trajectories = [agent(lead), ...subagents.map((part) => agent({ role: "subagent", agentId: "1", ...part }))];
  return { task, sample: 0, seed: 1n, workflow: "mas", trajectories, seconds: 1 };
}

const options: ScoreEpisodeOptions = { judge: new RuleJudge() };

describe("scoreEpisode", () => {
  it("adds the published terms to the item F1", async () => {
    const reward = await scoreEpisode(
      episode(tableTask, { answer: full }, { numAccesses: 2, segments: [sampled(3500), given, sampled(4000)] }),
      options,
    );
    expect(reward).toMatchObject({ judged: true, score: 1, formatReward: 0.1, toolReward: 0.05, lengthPenalty: 0.05 });
    expect(reward.total).toBeCloseTo(1.1, 12);
    expect(reward.table).toMatchObject({ itemF1: 1, success: 1 });
    expect(reward.reason).toBe("score 1.000, 2 accesses, longest turn 4000 tokens");
  });

  it.each([
    [3000, 0],
    [5000, 0.1],
    [9000, 0.1],
  ])("penalises a turn of %d tokens by %d", async (length, penalty) => {
    const reward = await scoreEpisode(episode(tableTask, { answer: full, segments: [sampled(length)] }), options);
    expect(reward.lengthPenalty).toBeCloseTo(penalty, 12);
  });

  it("counts a turn that two policy versions sampled as one", async () => {
    const reward = await scoreEpisode(
      episode(tableTask, { answer: full, segments: [sampled(2500), sampled(2500)] }),
      options,
    );
    expect(reward.lengthPenalty).toBeCloseTo(0.1, 12);
  });

  it("gives nothing for searching alone", async () => {
    expect((await scoreEpisode(episode(tableTask, { answer: full, numSearches: 5 }), options)).toolReward).toBe(0);
  });

  it.each([
    [{ answer: full, stopReason: "context" }, "lead did not answer: context"],
    [{ answer: "I could not find it." }, "no table in the answer"],
    [{ answer: table("") }, "the table in the answer has no rows"],
    [{ answer: "| Name | Q |\n|---|---|\n| a | 1 |" }, "columns missing: value"],
  ] satisfies [Partial<Trajectory>, string][])("gives 0: %j", async (lead, reason) => {
    const reward = await scoreEpisode(episode(tableTask, lead, { numAccesses: 1 }), options);
    expect(reward).toEqual({
      judged: true,
      score: 0,
      formatReward: 0,
      toolReward: 0,
      lengthPenalty: 0,
      total: 0,
      reason,
    });
  });

  it("keeps the reward of a lead whose subagent failed", async () => {
    const reward = await scoreEpisode(episode(tableTask, { answer: full }, { stopReason: "turns" }), options);
    expect(reward.total).toBeCloseTo(1.1, 12);
  });

  it("rewards the form of a wrong answer", async () => {
    const reward = await scoreEpisode(episode(tableTask, { answer: table("| z | 9 | - |") }), options);
    expect(reward).toMatchObject({ score: 0, total: 0.1 });
  });

  it("scores a boxed answer", async () => {
    const right = await scoreEpisode(episode(qaTask, { answer: "so \\boxed{paris.}" }), options);
    expect(right).toMatchObject({ score: 1, qa: { exactMatch: 1, tokenF1: 1 }, total: 1.1 });
    const wrong = await scoreEpisode(episode(qaTask, { answer: "\\boxed{Paris or Rome}" }), options);
    expect(wrong).toMatchObject({ score: 0, qa: { exactMatch: 0, tokenF1: 0.5 }, total: 0.1 });
    const none = await scoreEpisode(episode(qaTask, { answer: "Paris" }), options);
    expect(none).toMatchObject({ total: 0, reason: "no \\boxed{} in the answer" });
  });

  it("leaves an episode unjudged when the judge fails", async () => {
    const down = async (): Promise<never> => Promise.reject(new Error("503"));
    const judge: Judge = { name: "llm", align: down, gradePairs: down, gradeAnswer: down };
    for (const one of [episode(tableTask, { answer: full }), episode(qaTask, { answer: "\\boxed{Paris}" })]) {
      expect(await scoreEpisode(one, { judge })).toMatchObject({ judged: false, total: 0, reason: "judge llm: 503" });
    }
    // What a rule says is known without it.
    const reward = await scoreEpisode(episode(qaTask, { answer: "\\boxed{Paris or Rome}" }), { judge });
    expect(reward.qa).toEqual({ exactMatch: 0, tokenF1: 0.5 });
  });

  it("throws an abort, wrong settings and wrong gold data", async () => {
    const reason = new Error("stopped");
    const stop = async (): Promise<never> => Promise.reject(reason);
    const judge: Judge = { name: "llm", align: stop, gradePairs: stop, gradeAnswer: stop };
    const signal = AbortSignal.abort(reason);
    await expect(scoreEpisode(episode(tableTask, { answer: full }), { judge, signal })).rejects.toBe(reason);
    await expect(scoreEpisode(episode(tableTask, {}), { ...options, formatReward: -1 })).rejects.toThrow(
      /formatReward/,
    );
    const broken = { ...tableTask, answer: "none" };
    await expect(scoreEpisode(episode(broken, { answer: full }), options)).rejects.toThrow(/task t1: answer: no table/);
  });
});

describe("a task with an evaluation of its own", () => {
  const task: TableTask = {
    kind: "table",
    instanceId: "ws_en_001",
    question: "All?",
    language: "en",
    answer: "Name,Value\nA,100\nB,\n",
    answerFormat: "csv",
    uniqueColumns: ["name"],
    requiredColumns: ["name", "value"],
    evaluation: {
      required: ["name", "value"],
      unique_columns: ["name"],
      eval_pipeline: {
        name: { preprocess: ["norm_str"], metric: ["exact_match"] },
        value: { preprocess: ["extract_number"], metric: ["number_near"], criterion: 0.1 },
      },
    },
  };
  const answer = "```markdown\n| Name | Value |\n|---|---|\n| A | 109 |\n| C | 1 |\n```";
  const scoreWith = (options: Partial<ScoreEpisodeOptions>) =>
    scoreEpisode(episode(task, { answer }), { judge: new RuleJudge(), ...options });

  it("is scored by its columns in a benchmark and by meaning in training", async () => {
    expect((await scoreWith({ columnRules: "task" })).score).toBe(0.5);
    expect((await scoreWith({})).score).toBe(0.25);
  });

  it("shows what was compared", async () => {
    const outcomes: TableOutcome[] = [];
    await scoreWith({ columnRules: "task", onTable: (outcome) => outcomes.push(outcome) });
    expect(outcomes[0]?.details?.()).toEqual({
      columns: ["name", "value"],
      keyColumns: ["name"],
      matched: [{ response: ["A", "109"], target: ["A", "100"], scores: [1, 1] }],
      missing: [["B", "nan"]],
      unexpected: [["C", "1"]],
    });
  });

  it.each([
    [{ answer: "Name\nA\n" }, /ws_en_001: answer: the table has no column value; it has Name$/],
    [{ answer: "Name,Value\n" }, /ws_en_001: answer: no table with rows/],
    [
      {
        evaluation: {
          required: ["name"],
          unique_columns: ["name"],
          eval_pipeline: { name: { preprocess: [], metric: ["x"] } },
        },
      },
      /ws_en_001: evaluation: column "name" asks for metric "x"/,
    ],
  ])("is checked before a run: %j", (part, message) => {
    expect(() => checkTableTask(task)).not.toThrow();
    expect(() => checkTableTask({ ...task, ...part })).toThrow(message);
  });
});
