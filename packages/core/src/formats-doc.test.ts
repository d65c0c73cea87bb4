// The examples of docs/formats.md are what the readers accept.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseTask } from "@wideseek/data";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openCorpus } from "./corpus-tools.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-formats-"));
});
afterEach(() => rm(directory, { recursive: true }));

it("docs/formats.md shows a page, a table and a fact", async () => {
  const text = await readFile(path.resolve(import.meta.dirname, "../../../docs/formats.md"), "utf8");
  const [page, table, fact] = [...text.matchAll(/```json\n(.*)\n```/g)].map((match) => match[1] as string);
  expect(parseTask(table as string, "docs", 0)).toMatchObject({ kind: "table", uniqueColumns: ["Name"] });
  expect(parseTask(fact as string, "docs", 0)).toMatchObject({ kind: "qa", answers: ["perch", "Perca fluviatilis"] });
  const file = path.join(directory, "pages.jsonl");
  await writeFile(file, page as string);
  await using index = await openCorpus(file);
  expect(await index.access("wiki/Puktol")).toMatch(/perch/);
});
