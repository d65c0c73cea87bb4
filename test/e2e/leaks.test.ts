// The list of leaks holds wherever a run looks things up: a corpus, a server, the web, MCP tools, a recording.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadConfig } from "../../packages/config/src/index.ts";
import { toolMetrics } from "../../packages/core/src/open-pages.ts";
import { openRunData, type RunData } from "../../packages/core/src/run-data.ts";
import { startMcpServer } from "../../packages/tools/src/web/testing/mcp-server.ts";

const clean = { url: "https://a.example/0", title: "Lake 0", contents: "A lake." };
const listed = { url: "https://a.example/1", title: "Lake 1", contents: "A lake of the list." };
const telling = { url: "https://a.example/2", title: "Lake 2", contents: 'A lake. {"instance_id": "ws_en_042"}' };
const pages = [clean, listed, telling];
const places = ["corpus", "searchServer", "web", "mcp", "recording"] as const;
type Place = (typeof places)[number];

let directory: string;
const cleanups: (() => Promise<unknown>)[] = [];
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "wideseek-leaks-"));
  writeFileSync(path.join(directory, "train.jsonl"), '{"question": "Which?", "answer": "A"}\n');
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  rmSync(directory, { recursive: true });
});

async function open(...overrides: string[]): Promise<RunData> {
  const common = ["data.source=files", `data.trainTasks=${path.join(directory, "train.jsonl")}`];
  const config = await loadConfig({ overrides: [...common, ...overrides] });
  return await openRunData(config.data, config.tools);
}

/** A retrieval server, and a SearXNG, that have all pages. */
async function startServer(): Promise<string> {
  const server: Server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { urls } = JSON.parse(body || "{}") as { urls?: string[] };
    const results = pages.map(({ contents, ...page }) => ({ ...page, content: contents }));
    const result = urls?.map((url) => pages.find((page) => page.url === url) ?? null) ?? [pages];
    response.end(JSON.stringify(request.url?.startsWith("/search") ? { results } : { result }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function settingOf(place: Place): Promise<string> {
  const corpus = path.join(directory, "pages.jsonl");
  writeFileSync(corpus, pages.map((page) => `${JSON.stringify(page)}\n`).join(""));
  if (place === "corpus") return `data.corpus=${corpus}`;
  if (place === "searchServer") return `data.searchServer=${await startServer()}`;
  if (place === "web") {
    return `data.web={search: {engine: searxng, baseUrl: "${await startServer()}"}, cache: {file: null}}`;
  }
  if (place === "mcp") {
    const server = await startMcpServer();
    cleanups.push(async () => await server[Symbol.asyncDispose]());
    const search = "{tool: web_search, queryArgument: q, hits: data.results, urlField: link, titleField: name}";
    return `data.mcp={server: {transport: http, url: "${server.url}"}, search: ${search}, access: {tool: fetch_page}}`;
  }
  const file = path.join(directory, "recording.jsonl");
  // Made where nothing was on the list.
  await using data = await open(
    `data.corpus=${corpus}`,
    "data.blocklist={defaults: false}",
    `data.recording={file: ${file}}`,
  );
  expect(await data.backend.search("lake", 3)).toHaveLength(3);
  for (const { url } of pages) expect(await data.backend.access(url)).not.toBeNull();
  return `data.recording={file: ${file}, mode: replay}`;
}

test.each(places)("%s", async (place) => {
  await using data = await open(await settingOf(place), "data.blocklist={addresses: [a.example/1]}");
  const hits = await data.backend.search("lake", 3);
  expect(hits.map(({ url }) => url)).toContain(clean.url);
  expect(hits.map(({ url }) => url)).not.toContain(listed.url);
  await expect(data.backend.access(listed.url)).rejects.toThrow(/may not be used for this task/);
  expect(toolMetrics(data.backend)).toMatchObject({ "tools/blocked_pages": 1 });
  // The pages of the web and of the MCP server are others.
  if (place === "web" || place === "mcp") return;
  expect(hits).toEqual([clean]);
  await expect(data.backend.access(telling.url)).rejects.toThrow(/may not be used/);
  expect(await data.backend.access(clean.url)).toContain("A lake.");
  expect(toolMetrics(data.backend)).toMatchObject({ "tools/blocked_hits": 2, "tools/blocked_pages": 2 });
});

test("without the list they are shown, so the tests above test something", async () => {
  await using data = await open(await settingOf("corpus"), "data.blocklist={defaults: false}");
  expect(await data.backend.search("lake", 3)).toHaveLength(3);
});
