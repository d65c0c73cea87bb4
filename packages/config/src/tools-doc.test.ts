// The settings that docs/tools.md shows are settings.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { loadConfig } from "./load.ts";
import { runConfigSchema } from "./schema.ts";

test.each(["widesearch-online", "qa-self-hosted", "qa-mcp"])("configs/%s.yaml is a config", async (name) => {
  const { data } = await loadConfig({ file: path.resolve(import.meta.dirname, `../../../configs/${name}.yaml`) });
  expect(data.source === "files" && (data.web ?? data.mcp)).toBeTruthy();
});

test("every section of docs/tools.md that names a place is one that a run accepts", async () => {
  const text = await readFile(path.resolve(import.meta.dirname, "../../../docs/tools.md"), "utf8");
  const blocks = [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, block]) => block as string);
  const places = blocks.filter((block) => block.startsWith("data:"));
  expect(places.length).toBeGreaterThanOrEqual(2);
  for (const block of places) {
    const { data } = parse(block) as { data: object };
    const config = runConfigSchema.parse({ data: { ...data, trainTasks: "train.jsonl" } });
    expect(config.data.source).toBe("files");
  }
  const recordings = blocks.flatMap((block) => block.match(/\{file: .*\}/g) ?? []).map((recording) => parse(recording));
  for (const recording of recordings) {
    const data = { source: "files", corpus: "pages.jsonl", trainTasks: "train.jsonl", recording };
    expect(runConfigSchema.safeParse({ data }).success).toBe(true);
  }
  expect(recordings).toHaveLength(2);
});
