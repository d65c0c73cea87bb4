// `plot`: figures and tables over several runs. Owns where they are written.
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { runFigures } from "@wideseek/core";
import { atBoundary, makeFolder } from "@wideseek/core/tooling";
import { Command } from "commander";

export function plotCommand(): Command {
  return new Command("plot")
    .description("draw the scores and sweeps of evaluations of several runs as SVG, with the numbers as Markdown")
    .argument("<run...>", "run folders; one curve or bar for each of their evaluations")
    .requiredOption("--out <prefix>", "beginning of the files, e.g. figures/width- for figures/width-scores.svg")
    .action(async (directories: string[], { out }: { out: string }) => {
      const figures = await runFigures(directories);
      makeFolder(path.dirname(`${out}x`), `--out ${out}`);
      await atBoundary("WS_IO", `--out ${out}`, async () => {
        for (const { name, svg, table } of figures) {
          await writeFile(`${out}${name}.svg`, `${svg}\n`);
          await writeFile(`${out}${name}.md`, table);
          console.log(`${out}${name}.svg and .md\n${table}`);
        }
      });
    });
}
