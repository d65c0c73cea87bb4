import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { evaluate } from "./evaluate.ts";
import { writeHtmlReport } from "./html-report.ts";
import { spreadIndices } from "./run-directory.ts";
import { sweep } from "./sweep.ts";
import { episodeOf, tableReward, tableTask } from "./testing.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "report-"));
});
afterEach(() => rm(directory, { recursive: true }));

const evil = `<script>alert(1)</script><img src=x onerror='a'>&"`;

async function writeRun(): Promise<void> {
  const run = (score: number) =>
    evaluate({
      tasks: [tableTask("a"), tableTask("b")],
      samples: 4,
      concurrency: 1,
      runEpisode: async (task, sample, seed) => episodeOf(task, sample, seed),
      score: async () => tableReward(score),
    });
  await mkdir(join(directory, "eval"));
  await writeFile(join(directory, "config.yaml"), `run:\n  name: ${evil}\n`);
  const rows = [1, 2, 3].map((step) => JSON.stringify({ step, time: 9e9, "reward/mean": step / 3, [evil]: step }));
  await writeFile(join(directory, "metrics.jsonl"), `${rows.join("\n")}\n{"step": 4, "rew`);
  await writeFile(join(directory, "eval/before.json"), JSON.stringify(await run(0.4)));
  await writeFile(join(directory, "eval/after.json"), JSON.stringify(await run(0.85)));
  const curve = await sweep({ parameter: "maxSubagents", values: [1, 2], evaluate: (value) => run(value / 4) });
  await writeFile(join(directory, "eval/after.sweep.json"), JSON.stringify(curve));
  const text = `<think>\n${evil}</think><tool_call>{"name": "search"}</tool_call>`;
  const { trajectories, ...episode } = episodeOf({ ...tableTask("a"), question: evil }, 0, 1n);
  const agents = trajectories.map((agent) => ({
    ...agent,
    answer: evil,
    errors: [evil],
    segments: [
      { kind: "given", text: evil },
      { kind: "sampled", text },
    ],
  }));
  const reward = { ...tableReward(0.5), reason: evil };
  const trace = { step: 7, ...episode, seed: "1", reward, advantage: -0.25, agents };
  await writeFile(join(directory, "episodes.jsonl"), `${JSON.stringify(trace)}\n{"step": 8, "ta`);
  await writeFile(join(directory, "eval/after.episodes.jsonl"), `${JSON.stringify({ ...trace, step: 9 })}\n`);
  await writeFile(join(directory, "tools.json"), JSON.stringify({ "tools/blocked_hits": 41 }));
  await writeFile(join(directory, "models.json"), JSON.stringify({ "summary/failures": 17 }));
  const heldOut = [0, 10].map((step) => JSON.stringify({ step, time: 9e9, "heldout/item_f1": step / 10 }));
  await writeFile(join(directory, "evaluations.jsonl"), `${heldOut.join("\n")}\n`);
}

describe("writeHtmlReport", () => {
  test("shows scores with gain, curves, sweep, traces and config", async () => {
    await writeRun();
    const html = await readFile(await writeHtmlReport(directory), "utf8");
    for (const text of [
      "item F1 avg@4",
      "0.400",
      "0.850",
      "+0.450",
      "subagents at most",
      "Reward (mean per episode)",
      "step 7",
      "subagent 1",
      "config.yaml",
      "<td>tools/blocked_hits</td><td>41</td>",
      "<td>summary/failures</td><td>17</td>",
    ]) {
      expect(html).toContain(text);
    }
    expect(html).toContain('<span class="tool_call">&lt;tool_call&gt;{&quot;name&quot;: &quot;search&quot;}');
    expect(html).toContain("item F1 <b>0.5</b>");
    expect(html).toContain("advantage <b>-0.25</b>");
    expect(html).toContain("1 of 1 recorded episodes");
    expect(html).not.toMatch(/NaN|undefined/);
  });

  test("escapes all text and asks for nothing outside", async () => {
    await writeRun();
    const html = await readFile(await writeHtmlReport(directory), "utf8");
    expect(html).not.toContain("<script");
    expect(html).not.toContain("<img");
    expect(html).not.toMatch(/(src|href)="/);
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:/);
  });

  test("an empty run has a report that says what is missing", async () => {
    const html = await readFile(await writeHtmlReport(directory), "utf8");
    for (const text of ["No evaluation", "No training metrics", "No episode traces", "No config.yaml"]) {
      expect(html).toContain(text);
    }
  });

  test("without evaluation files the held-out rows of training are compared", async () => {
    await writeRun();
    await rm(join(directory, "eval"), { recursive: true });
    const html = await readFile(await writeHtmlReport(directory), "utf8");
    expect(html).toContain("<td>Heldout: item f1</td><td>0</td><td>1</td><td>+1</td>");
  });

  test("the header comes first, then the words, scores and charts; the reward is the first chart", async () => {
    await writeRun();
    const config = "model:\n  directory: models/tiny\nagents:\n  workflow: mas\ntrain:\n  steps: 3\n";
    await writeFile(join(directory, "config.yaml"), config);
    const rows = [1, 2, 3].map((step) =>
      JSON.stringify({
        step,
        time: 1.7e9 + 60 * step,
        "time/step": 60,
        "table/item_f1": step / 4,
        "reward/mean": step,
      }),
    );
    await writeFile(join(directory, "metrics.jsonl"), `${rows.join("\n")}\n`);
    await rm(join(directory, "evaluations.jsonl"));
    const html = await readFile(await writeHtmlReport(directory), "utf8");
    const order = [
      "models/tiny",
      "3 of 3",
      "3 min",
      "2023-11-14 22:13 UTC",
      "zero variance",
      "item F1 avg@4",
      "Reward (mean per episode)",
      "Rollouts: item F1",
    ].map((text) => html.indexOf(text));
    expect(order).not.toContain(-1);
    expect([...order].sort((a, b) => a - b)).toEqual(order);
  });

  test("a cold start from nothing names no model that it did not read", async () => {
    const config = "model:\n  directory: models/tiny\n  create:\n    hiddenSize: 64\ncoldStart:\n  steps: 9\n";
    await writeFile(join(directory, "config.yaml"), config);
    await writeFile(join(directory, "metrics.jsonl"), '{"step": 1, "cold_start/loss": 5}\n');
    const html = await readFile(await writeHtmlReport(directory), "utf8");
    expect(html).toContain("<small>model</small> <b>new, from model.create</b>");
    expect(html).toContain("<b>1 of 9 (cold start)</b>");
  });

  test("what did not vary is a number, not a chart, and no change is neither gain nor loss", async () => {
    await writeRun();
    const rows = [1, 2, 3].map((step) =>
      JSON.stringify({ step, "reward/mean": step, "policy/ratio_mean": 1, "stop_lead/answered": 0.25 }),
    );
    await writeFile(join(directory, "metrics.jsonl"), `${rows.join("\n")}\n`);
    const html = await readFile(await writeHtmlReport(directory), "utf8");
    expect(html).toContain("Probability ratio, new / old: mean <b>1</b>");
    expect(html).toContain("<td>Stop lead: answered (share of leads)</td><td>0.25</td>");
    expect(html.match(/<svg[^>]*aria-label="[^"]*(ratio|Stop)/)).toBeNull();
    expect(html).toMatch(/<td>success avg@4<\/td>.*<td>0\.000<\/td><\/tr>/);
    expect(html).not.toMatch(/[+−]0\.0+</);
  });

  test("held-out scores are one chart a team, and only of more than two evaluations", async () => {
    await writeRun();
    const row = (step: number) =>
      JSON.stringify({
        step,
        "held_out_mas/itemF1_avg": step / 4,
        "held_out_mas/itemF1_max": step / 3,
        "held_out_mas/rowF1_avg": step / 5,
      });
    const title = "Held-out item F1, mas (0 to 1)";
    for (const numRows of [2, 3]) {
      const lines = Array.from({ length: numRows }, (_, step) => `${row(step)}\n`);
      await writeFile(join(directory, "evaluations.jsonl"), lines.join(""));
      const html = await readFile(await writeHtmlReport(directory), "utf8");
      expect(html.split(`>${title}<`)).toHaveLength(numRows > 2 ? 2 : 1);
      expect(html).not.toContain("rowF1_avg");
    }
  });

  test("picks the first and the last of many traces", () => {
    expect([...spreadIndices(100, 4)]).toEqual([0, 33, 66, 99]);
    expect([...spreadIndices(3, 4)]).toEqual([0, 1, 2]);
    expect([...spreadIndices(0, 4)]).toEqual([]);
  });

  test("names a missing folder and a broken line", async () => {
    await expect(writeHtmlReport(join(directory, "none"))).rejects.toMatchObject({ code: "WS_IO", message: /none/ });
    await writeFile(join(directory, "metrics.jsonl"), '{"step": 1}\n{"step": \n');
    await expect(writeHtmlReport(directory)).rejects.toMatchObject({
      code: "WS_CORRUPT_FILE",
      message: /metrics\.jsonl:2/,
    });
  });
});

test("shows languages and sets apart, what was left out and what failed", async () => {
  const report = await evaluate({
    tasks: [
      { ...tableTask("a"), dataset: evil },
      { ...tableTask("b"), language: "zh", dataset: "y" },
    ],
    samples: 1,
    concurrency: 1,
    runEpisode: async (task, sample, seed) => {
      const episode = episodeOf(task, sample, seed);
      episode.trajectories[1]?.errors.push(`turn 3: search: ${evil} 503`);
      return episode;
    },
    score: async ({ task }) => tableReward(0.5, task.instanceId === "a"),
  });
  await mkdir(join(directory, "eval"));
  await writeFile(join(directory, "eval/mas.json"), JSON.stringify({ ...report, leftOut: ["ws_en_9"] }));
  const html = await readFile(await writeHtmlReport(directory), "utf8");
  expect(html).toContain("<td>language zh</td>");
  expect(html).toContain("mean of the sets");
  expect(html).toMatch(/1 questions have no gold table and are in no score: ws_en_9/);
  expect(html).toContain("<td>not judged</td><td>rule judge</td><td>1</td>");
  expect(html).toMatch(/<td>agents<\/td><td>search: .* #<\/td><td>2<\/td>/);
  expect(html).not.toContain("<script>");
  expect(html).toMatch(/class="bad">Episodes not judged: mas: 1 of 2\. In brackets/);
  expect(html).toContain('<span class="bad">[0.250–0.750]</span>');
});

test("an evaluation has no empty parts about training, and scores and rewards have their names", async () => {
  await writeRun();
  for (const name of ["metrics.jsonl", "evaluations.jsonl", "episodes.jsonl"]) await rm(join(directory, name));
  const html = await readFile(await writeHtmlReport(directory), "utf8");
  expect(html).not.toMatch(/Training<|training metrics|step 9|zero variance/);
  expect(html).toContain('<span class="score">score 0.5</span> <small>reward 0.6</small>');
});
