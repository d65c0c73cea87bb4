// `judge-agreement`: the rule judge beside a judging model. Owns the printed tables.
import { writeFile } from "node:fs/promises";
import { type AgreementReport, judgeAgreement, loadConfig, WideSeekError } from "@wideseek/core";
import { Command } from "commander";
import { stopOnSignal } from "./stop.ts";
import { textTable } from "./text-table.ts";

interface Flags {
  config?: string;
  set: string[];
  run?: string;
  cases?: string;
  concurrency: string;
  examples: string;
  json?: string;
}

export function judgeAgreementCommand(): Command {
  const collect = (value: string, previous: string[]): string[] => [...previous, value];
  return new Command("judge-agreement")
    .description("ask a judging model what the rule judge decided: confusion table, Cohen's kappa, examples, costs")
    .option("--config <file>", "YAML config whose judge section names the model")
    .option("--set <key=value>", "override one setting, e.g. --set judge.kind=api; may be repeated", collect, [])
    .option("--run <dir>", "folder of an evaluation: its answers are judged again")
    .option("--cases <file>", "JSONL of table cases (id, response, gold_csv, evaluation) instead of a run")
    .option("--concurrency <number>", "answers that are scored at once", "16")
    .option("--examples <number>", "disagreements that are shown of each kind", "5")
    .option("--json <file>", "write everything as JSON too")
    .action(async (flags: Flags) => {
      using stop = stopOnSignal();
      const report = await judgeAgreement({
        config: await loadConfig({ file: flags.config, overrides: flags.set }),
        run: flags.run,
        cases: flags.cases,
        concurrency: positive("--concurrency", flags.concurrency),
        maxExamples: positive("--examples", flags.examples),
        progress: process.stderr,
        signal: stop.signal,
      });
      console.log(formatAgreement(report));
      if (flags.json !== undefined) await writeFile(flags.json, `${JSON.stringify(report, null, 2)}\n`);
    });
}

export function formatAgreement(report: AgreementReport): string {
  const head = [
    "decisions",
    "number",
    "both right",
    "both wrong",
    "only rule",
    "only judge",
    "agreement",
    "kappa",
    "unjudged",
  ];
  const titles = { name: "names", cell: "cells", answer: "answers" } as const;
  const rows = Object.entries(report.decisions).map(([kind, counts]) => [
    titles[kind as keyof typeof titles],
    ...[counts.numDecisions, counts.bothRight, counts.bothWrong, counts.onlyFirstRight, counts.onlySecondRight].map(
      String,
    ),
    share(counts.agreement),
    share(counts.kappa),
    String(counts.unjudged),
  ]);
  const { scores, usage } = report;
  const lines = [
    `${report.numAnswers} answers, rule judge beside ${report.judge}; equal texts are not counted`,
    textTable([head, ...rows]),
    `mean score of ${scores.numBoth} answers: rule ${share(scores.rule)}, judge ${share(scores.judge)}; mean difference ${share(scores.meanDifference)}`,
    `answers that the judge could not score: ${report.numUnjudged}`,
  ];
  if (report.numLeftOut > 0) lines.push(`left out, because nothing can be scored by them: ${report.numLeftOut} cases`);
  if (usage !== null) {
    const { numCalls, numCacheHits, numFailedCalls, numPromptTokens, numCompletionTokens, seconds } = usage;
    lines.push(
      `costs: ${numCalls} calls (${numCacheHits} from the cache, ${numFailedCalls} failed), ` +
        `${numPromptTokens} prompt and ${numCompletionTokens} reply tokens, ${seconds.toFixed(1)} s summed over calls`,
    );
  }
  for (const { kind, response, target, context, firstSaysRight } of report.examples) {
    const says = firstSaysRight ? "rule right, judge wrong" : "rule wrong, judge right";
    const about = context === "" ? "" : `  (${short(context)})`;
    lines.push(`${titles[kind]}, ${says}: ${short(response)} / ${short(target)}${about}`);
  }
  for (const error of report.errors.slice(0, 3)) lines.push(`not judged: ${error}`);
  return lines.join("\n");
}

const share = (value: number | null): string => (value === null ? "-" : value.toFixed(3));

function short(text: string): string {
  const line = JSON.stringify(text);
  return line.length > 80 ? `${line.slice(0, 77)}..."` : line;
}

function positive(flag: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 100_000) return value;
  throw new WideSeekError("WS_INVALID_ARGUMENT", `${flag} ${text}: must be a whole number from 1 to 100000`, {
    op: "cli",
  });
}
