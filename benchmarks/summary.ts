// What a reader of BENCHMARKS.md wants first: did the model learn, and how fast is it. Owns no values.
import { figures, isFigure } from "./figures.ts";
import { cell, formatNumber, paramsText } from "./markdown.ts";
import type { BenchmarkRecord } from "./record.ts";

type Records = ReadonlyMap<string, BenchmarkRecord>;

/** Columns of the learning table: the figure's last word, its title. */
const learned: readonly (readonly [string, string])[] = [
  ["f1_before", "team, before"],
  ["f1_after", "team, after"],
  ["f1_single_before", "single agent, before"],
  ["f1_single_after", "single agent, after the team's training"],
  ["f1_single_trained", "single agent, trained as one"],
];

/** Empty without a measured learning run. */
function learningTable(latest: Records): string {
  const seeds = [...latest.keys()].flatMap((name) => /^learning\.seed(\d+)\.f1_/.exec(name)?.[1] ?? []);
  const rows = [...new Set(seeds)].sort().map((seed) => {
    const cells = learned.map(([word]) => latest.get(`learning.seed${seed}.${word}`)?.value.toFixed(3) ?? "–");
    return `| ${[seed, ...cells].join(" | ")} |`;
  });
  if (rows.length === 0) return "";
  const any = latest.get(`learning.seed${seeds[0]}.f1_before`) ?? latest.get(`learning.seed${seeds[0]}.f1_after`);
  const sizes = Object.entries(any?.params ?? {}).filter(([key]) => key === "questions" || key === "samples");
  const size = any ? ` (${[paramsText(Object.fromEntries(sizes)), any.device].filter(Boolean).join("; ")})` : "";
  return `Held-out item F1 Avg@k of the shipped model before and after training, each row a training of its own${size}:

| seed | ${learned.map(([, title]) => title).join(" | ")} |
|${"---|".repeat(learned.length + 1)}
${rows.join("\n")}
`;
}

/** "oursTokensPerSecond" with its peer -> "2,727 against 825 tokens per second". */
function absolutes({ params }: BenchmarkRecord): string {
  const pairs = Object.keys(params).flatMap((key) => {
    const quantity = /^ours(\w+)$/.exec(key)?.[1];
    const [ours, peer] = [params[key], params[`peer${quantity}`]];
    if (quantity === undefined || typeof ours !== "number" || typeof peer !== "number") return [];
    const words = quantity.replaceAll(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
    return [`${formatNumber(ours)} against ${formatNumber(peer)} ${words}`];
  });
  return pairs.join(", ");
}

/** One line a ratio: its value, what is compared, both absolute figures, how often and under which conditions. */
function ratioLine(record: BenchmarkRecord, meaning: string): string {
  const conditions = Object.entries(record.params).filter(([key]) => !/^(ours|peer)/.test(key));
  const { peer } = record.params;
  const { n, min, max } = record;
  const parts = [
    absolutes(record),
    n > 1 ? `${formatNumber(min)}–${formatNumber(max)} in ${n} rounds` : "measured once",
    typeof peer === "string" ? `peer: ${peer}` : "",
    paramsText(Object.fromEntries(conditions)),
  ].filter((part) => part !== "");
  return `- **${formatNumber(record.value)} ×** ${cell(meaning)} (${cell(parts.join("; "))})`;
}

/** Learning and speed in brief; "" when neither was measured. */
export function summaryMarkdown(latest: Records): string {
  const ratios = figures.filter(({ name }) => /[._]vs_/.test(name));
  const compared = ratios.flatMap((figure) =>
    [...latest.values()]
      .filter((record) => isFigure(figure, record.name))
      .map((record) => ({ machine: `${record.device}, ${record.threads} threads`, record, meaning: figure.meaning })),
  );
  // The machine is said once for the ratios that were measured on it.
  const machines = [...new Set(compared.map(({ machine }) => machine))];
  const speed = machines.map((machine) => {
    const lines = compared.filter((each) => each.machine === machine);
    return `Ratios to other software on the same machine, ${cell(machine)}:

${lines.map(({ record, meaning }) => ratioLine(record, meaning)).join("\n")}
`;
  });
  const parts = [learningTable(latest), ...speed].filter((part) => part !== "");
  return parts.length === 0 ? "" : `## Summary\n\n${parts.join("\n")}\n`;
}
