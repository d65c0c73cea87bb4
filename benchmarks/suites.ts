// Every row of the paper's tables on the embedded world: that each system runs from question to score, and what it costs.
// The scripted models follow the protocols by rule, so scores of other systems' rows say nothing about those systems. Owns
// benchmarks/results/suite-*.md.
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig, loadSuite, runSuite, type SuiteReport } from "@wideseek/core";
import type { Benchmark } from "./context.ts";
import { type Measurement, repositoryRoot } from "./record.ts";
import { scriptedModelsPort, startScriptedModels } from "./scripted-models.ts";

const tables = [
  { suite: "paper-table1", name: "table1", column: "item-avg", measure: "item_f1", overrides: [] },
  {
    suite: "paper-table2",
    name: "table2",
    column: "average",
    measure: "qa",
    overrides: ["data.numHeldOutTables=0", "data.numHeldOutFacts=32"],
  },
] as const;

export const suitesBenchmark: Benchmark = async function* ({ smoke }) {
  const directory = await mkdtemp(join(tmpdir(), "wideseek-suites-"));
  await using server = await startScriptedModels(0);
  try {
    for (const table of tables) {
      const config = join(directory, `${table.name}.yaml`);
      const text = await readFile(join(repositoryRoot, "configs/suite-embedded.yaml"), "utf8");
      await writeFile(config, text.replaceAll(`http://127.0.0.1:${scriptedModelsPort}/v1`, server.baseUrl));
      const small = smoke ? ["eval.maxTasks=1", "eval.samples=1", "data.numTrainRegions=12"] : [];
      const { name, suite } = await loadSuite(table.suite, join(repositoryRoot, "configs/suites"));
      const folder = join(directory, table.name);
      const report = await runSuite({
        name,
        suite,
        config: await loadConfig({ file: config, overrides: [...table.overrides, ...small] }),
        directory: folder,
        progress: process.stderr,
      });
      if (!smoke) await copyFile(join(folder, "suite.md"), join(repositoryRoot, `benchmarks/results/suite-${name}.md`));
      yield* measurements(report, table);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
};

function* measurements(report: SuiteReport, table: (typeof tables)[number]): Generator<Measurement> {
  for (const { id, workflow, models, status, figures, cost } of report.rows) {
    const mean = figures[table.column]?.ours?.mean;
    if (status !== "done" || mean === undefined) throw new Error(`${table.suite} ${id}: ${status}, no score`);
    const { modelCalls = 0, promptTokens = 0, sampledTokens = 0 } = cost ?? {};
    const driver = [...new Set(Object.values(models))].map((name) => report.replaced[name] ?? name);
    const model = driver.map((place) => place.replace(/ at .*/, "")).join(", ");
    const params = { workflow, model, questions: report.numTasks, samples: report.samples };
    const costs = { calls: modelCalls, tokensRead: promptTokens, tokensWritten: sampledTokens };
    yield {
      name: `suite.${table.name}.${id}.${table.measure}`,
      unit: "1",
      values: [mean / 100],
      params: { ...params, ...costs },
    };
  }
}
