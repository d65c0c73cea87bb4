import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { evaluate } from "./evaluate.ts";
import { writeHtmlReport } from "./html-report.ts";
import { sweep } from "./sweep.ts";
import { episodeOf, tableReward, tableTask } from "./testing.ts";
import { episodeTrace } from "./trace.ts";

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
  await mkdir(join(directory, "traces"));
  await writeFile(join(directory, "config.yaml"), `run:\n  name: ${evil}\n`);
  const rows = [1, 2, 3].map((step) => JSON.stringify({ step, reward: step / 3, seconds: 2, [evil]: step }));
  await writeFile(join(directory, "metrics.jsonl"), `${rows.join("\n")}\n{"step": 4, "rew`);
  await writeFile(join(directory, "eval/before.json"), JSON.stringify(await run(0.4)));
  await writeFile(join(directory, "eval/after.json"), JSON.stringify(await run(0.85)));
  const curve = await sweep({ parameter: "maxSubagents", values: [1, 2], evaluate: (value) => run(value / 4) });
  await writeFile(join(directory, "eval/after.sweep.json"), JSON.stringify(curve));
  const text = `<think>\n${evil}</think><tool_call>{"name": "search"}</tool_call>`;
  const trace = await episodeTrace(
    { ...episodeOf({ ...tableTask("a"), question: evil }, 0, 1n) },
    { ...tableReward(0.5), reason: evil },
    { origin: evil, advantage: -0.25, decode: () => text },
  );
  await writeFile(join(directory, "traces/step-1.jsonl"), `${JSON.stringify({ ...trace, answer: evil })}\n`);
}

describe("writeHtmlReport", () => {
  test("shows scores with gain, curves, sweep, traces and config", async () => {
    await writeRun();
    const html = await readFile(await writeHtmlReport(directory), "utf8");
    for (const text of ["itemF1 avg@4", "40.0", "85.0", "+45.0", "subagents at most", "subagent 1", "config.yaml"]) {
      expect(html).toContain(text);
    }
    expect(html).toContain('<span class="tool_call">&lt;tool_call&gt;{&quot;name&quot;: &quot;search&quot;}');
    expect(html).toContain("itemF1 <b>0.5</b>");
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

  test("names a missing folder and a broken line", async () => {
    await expect(writeHtmlReport(join(directory, "none"))).rejects.toMatchObject({ code: "WS_IO", message: /none/ });
    await writeFile(join(directory, "metrics.jsonl"), '{"step": 1}\n{"step": \n');
    await expect(writeHtmlReport(directory)).rejects.toMatchObject({
      code: "WS_CORRUPT_FILE",
      message: /metrics\.jsonl:2/,
    });
  });
});
