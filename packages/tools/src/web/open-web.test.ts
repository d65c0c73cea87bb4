// The web as a run opens it: keys and services are tried before anything starts, and nothing private is ever read.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { WideSeekError } from "@wideseek/spec";
import { afterEach, beforeEach, expect, test } from "vitest";
import { searchTools } from "../toolset.ts";
import { LeakBlocklist } from "./leak-blocklist.ts";
import { openWeb } from "./open-web.ts";
import type { WebOptionsInput } from "./options.ts";
import { json, Loopback, send, status } from "./testing/loopback.ts";

const key = "key-0123456789";
let server: Loopback;
let directory: string;
beforeEach(async () => {
  server = await Loopback.start(json({ results: [{ url: "https://a.example/", title: "A", content: "lake" }] }));
  directory = mkdtempSync(path.join(tmpdir(), "wideseek-web-"));
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

const blocklist = new LeakBlocklist({ addresses: [], phrases: [], defaults: true });
const cacheFile = (): string => path.join(directory, "web.sqlite");
const searxng = (changes: Partial<WebOptionsInput> = {}): WebOptionsInput => ({
  search: { engine: "searxng", baseUrl: server.baseUrl },
  cache: { file: cacheFile() },
  maxAttempts: 1,
  ...changes,
});
const serper = (): WebOptionsInput => searxng({ search: { engine: "serper", endpoint: server.baseUrl } });
const open = (options: WebOptionsInput, environment: Record<string, string> = {}): ReturnType<typeof openWeb> =>
  openWeb(options, { timeoutSeconds: 5, environment, blocklist });
async function failure(options: WebOptionsInput, environment: Record<string, string> = {}): Promise<WideSeekError> {
  const error = await open(options, environment).then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(WideSeekError);
  expect(JSON.stringify([error, (error as Error).stack])).not.toContain(key);
  return error as WideSeekError;
}

test("searches here, reads there: hits come back, private pages do not", async () => {
  await using backend = await open(searxng());
  const tools = searchTools({ backend });
  const context = { role: "single", language: "en" } as const;
  const found = await tools.run({ name: "search", arguments: { query: "lakes" } }, context);
  expect(found.text).toContain("[Doc 1](https://a.example/):\nA lake");
  const before = server.received.length;
  const read = await tools.run(
    { name: "access", arguments: { url: `${server.baseUrl.replace(/:\d+$/, "")}/` } },
    context,
  );
  expect(read).toMatchObject({ ok: false, text: expect.stringContaining("not a public web address") });
  expect(server.received).toHaveLength(before);
});

test.each([
  [{}, /web\.search\.apiKeyEnv: the environment variable SERPER_API_KEY is not set/],
  [{ SERPER_API_KEY: "  " }, /SERPER_API_KEY is not set/],
  [{ SERPER_API_KEY: "two words" }, /SERPER_API_KEY holds is no API key/],
])("a missing or impossible key is an error before anything is asked or written %#", async (environment, message) => {
  const error = await failure(serper(), environment as Record<string, string>);
  expect(error.code).toBe("WS_INVALID_ARGUMENT");
  expect(error.message).toMatch(message);
  expect(server.received).toEqual([]);
  expect(existsSync(cacheFile())).toBe(false);
});

test("both keys are looked for at the start", async () => {
  const options = { ...serper(), access: { reader: "jina" } as const };
  expect((await failure(options, { SERPER_API_KEY: key })).message).toMatch(/JINA_API_KEY is not set/);
});

test("wrong keys and dead addresses are found at the start", async () => {
  server.answer(status(403, {}, `{"message":"Unauthorized ${key}"}`));
  const wrong = await failure(serper(), { SERPER_API_KEY: key });
  expect(wrong.message).toMatch(/^web\.search: serper: HTTP status 403.*is the key in SERPER_API_KEY right/);
  server.answer(json({ organic: [] }), status(401));
  const jina = { ...serper(), access: { reader: "jina", endpoint: server.baseUrl } as const };
  const other = await failure(jina, { SERPER_API_KEY: key, JINA_API_KEY: key });
  expect(other.message).toMatch(/^web\.access: jina: HTTP status 401.*JINA_API_KEY/);
  server.answer(send("<html>not searxng</html>"));
  expect((await failure(searxng())).message).toMatch(/searxng: the answer is not JSON/);
  const dead = await failure(searxng({ search: { engine: "searxng", baseUrl: "http://127.0.0.1:1" } }));
  expect(dead).toMatchObject({ code: "WS_IO", message: expect.stringMatching(/127\.0\.0\.1:1/) });
});

test.each([
  [{ search: { engine: "bing" } }, /web: search\.engine: /],
  [{ search: { engine: "serper", apiKey: "x" } }, /web: search: .*apiKey/],
  [{ search: { engine: "serper", apiKeyEnv: "sk-123" } }, /must be the NAME of an environment variable/],
  [{ search: { engine: "searxng", baseUrl: "file:///x" } }, /must be an http or https URL/],
  [{ search: { engine: "serper" }, maxAttempts: 0 }, /web: maxAttempts/],
])("wrong options are named %#", async (options, message) => {
  const error = await failure(options as never);
  expect(error.code).toBe("WS_INVALID_ARGUMENT");
  expect(error.message).toMatch(message);
  expect(error.message).not.toContain("sk-123");
});
