// Where the pages of a run come from. Owns no format: the readers have their own tests.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { loadConfig, type RunConfig } from "@wideseek/config";
import { afterEach, beforeEach, expect, test } from "vitest";
import { toolMetrics } from "./open-pages.ts";
import { openRunData } from "./run-data.ts";

const page = { url: "https://a.example/", title: "A", contents: "Page about rivers." };
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-"));
  await writeFile(path.join(directory, "train.jsonl"), `${JSON.stringify({ question: "Which?", answer: "A" })}\n`);
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const configWith = async (...overrides: string[]): Promise<RunConfig> =>
  await loadConfig({
    overrides: ["data.source=files", `data.trainTasks=${path.join(directory, "train.jsonl")}`, ...overrides],
  });

test("pages come from a corpus file", async () => {
  const corpus = path.join(directory, "pages.jsonl");
  await writeFile(corpus, `${JSON.stringify(page)}\n`);
  const config = await configWith(`data.corpus=${corpus}`);
  await using data = await openRunData(config.data, config.tools);
  expect(data.trainTasks).toHaveLength(1);
  expect(await data.backend.search("rivers", 1)).toEqual([page]);
});

test("pages come from a search server, which must answer when the run opens", async () => {
  let down = false;
  const server = createServer((request, response) => {
    const result = request.url === "/retrieve" ? [[page]] : [null];
    response.writeHead(down ? 404 : 200).end(JSON.stringify({ result }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const config = await configWith(`data.searchServer=http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    {
      await using data = await openRunData(config.data, config.tools);
      expect(await data.backend.search("rivers", 1)).toEqual([page]);
    }
    down = true;
    await expect(openRunData(config.data, config.tools)).rejects.toMatchObject({ code: "WS_IO" });
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

test("what a run looks up can be recorded, and replayed without the place it came from", async () => {
  const corpus = path.join(directory, "pages.jsonl");
  const file = path.join(directory, "recording.jsonl");
  await writeFile(corpus, `${JSON.stringify(page)}\n`);
  {
    const config = await configWith(`data.corpus=${corpus}`, `data.recording={file: ${file}}`);
    await using data = await openRunData(config.data, config.tools);
    await data.backend.search("rivers", 1);
  }
  await rm(corpus);
  const config = await configWith(`data.recording={file: ${file}, mode: replay}`);
  await using data = await openRunData(config.data, config.tools);
  expect(await data.backend.search("rivers", 1)).toEqual([page]);
  await expect(data.backend.search("lakes", 1)).rejects.toMatchObject({ code: "WS_INVALID_STATE" });
  expect(toolMetrics(data.backend)).toMatchObject({ "tools/replayed_lookups": 1, "tools/missing_lookups": 1 });
});

test("a missing key is an error before anything starts", async () => {
  const config = await configWith("data.web={search: {engine: serper, apiKeyEnv: WIDESEEK_NO_SUCH_KEY}}");
  await expect(openRunData(config.data, config.tools)).rejects.toMatchObject({
    code: "WS_INVALID_ARGUMENT",
    message: expect.stringContaining("WIDESEEK_NO_SUCH_KEY is not set"),
  });
});

test("tools of an MCP server stand in for search and access", async () => {
  const config = await configWith(
    `data.mcp={server: {transport: stdio, command: ${path.join(directory, "no-such-program")}}, search: {tool: a}, access: {tool: b}}`,
  );
  await expect(openRunData(config.data, config.tools)).rejects.toMatchObject({
    code: "WS_IO",
    message: expect.stringContaining("MCP server"),
  });
});
