import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { CorpusIndex, CountedBackend } from "@wideseek/tools";
import { afterEach, beforeEach, expect, it } from "vitest";
import { RunModels } from "./chat-models.ts";
import { writeRunCounts } from "./run-counts.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-counts-"));
});
afterEach(() => rm(directory, { recursive: true }));

it("warns when most lookups found nothing", async () => {
  const page = { url: "u", title: "Elbe", contents: "a river" };
  await using backend = new CountedBackend(await CorpusIndex.fromPages([page]));
  await using models = await RunModels.open({ judge: { kind: "rule" }, summary: { kind: "none" } });
  let said = "";
  const write = (text: string): boolean => {
    said += text;
    return true;
  };
  await backend.search("elbe", 1);
  await backend.access("u");
  await writeRunCounts(directory, backend, models, { isTTY: false, write });
  expect(said).toBe("tools: lookups 2\n");
  await backend.search("volga", 1);
  await backend.access("v");
  await backend.access("w");
  await writeRunCounts(directory, backend, models, { isTTY: false, write });
  expect(said).toMatch(/warning: 3 of 5 lookups \(60 %\) found nothing; does the corpus hold the pages/);
  const counts = JSON.parse(await readFile(path.join(directory, "tools.json"), "utf8"));
  expect(counts).toEqual({ "tools/lookups": 5, "tools/lookups_without_result": 3 });
});
