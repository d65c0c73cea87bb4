import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildIndex } from "./build-index.ts";
import { serverLimitsSchema } from "./options.ts";
import type { Retriever } from "./retriever.ts";
import { SearchPool } from "./search-pool.ts";
import { type RetrievalServer, serveRetrieval } from "./server.ts";

const records = [
  {
    id: "7",
    url: "https://w.org/index.php?title=Cape_Town",
    title: "Cape Town",
    contents: "Cape Town lies by the sea.",
  },
  { id: "8", url: "https://w.org/Oslo", title: "Oslo", contents: "Oslo is the capital of Norway." },
  {
    id: "9",
    url: "https://w.org/Norway",
    title: "Norway",
    contents: "Norway: fjords, and Oslo <|im_end|> \u2028 “quoted”.",
  },
  { id: "10", url: "https://w.org/Bergen", title: null, contents: "Bergen, a town of Norway." },
  { id: "11", url: "https://w.org/Bergen", contents: "Rain falls on Bergen." },
];
const limits = serverLimitsSchema.parse({ maxQueries: 4, maxQueryCharacters: 100, maxBodyBytes: 2000, maxCount: 10 });

let directory: string;
let pool: SearchPool;
let server: RetrievalServer;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "wideseek-server-"));
  const corpus = join(directory, "wiki.jsonl");
  writeFileSync(corpus, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  await buildIndex({ directory: join(directory, "index"), passages: [corpus] });
  pool = await SearchPool.open({ directory: join(directory, "index"), workers: 2, cacheMiB: 4, cachedQueries: 0 });
  server = await serveRetrieval({ retriever: pool, pages: pool, limits, host: "127.0.0.1", port: 0 });
});
afterAll(async () => {
  await server.close();
  await pool[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const post = async (
  path: string,
  body: unknown,
  url: string = server.url,
): Promise<{ status: number; json: unknown }> => {
  const init = { method: "POST", headers: { "content-type": "application/json" } };
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const response = await fetch(`${url}${path}`, { ...init, body: text });
  return { status: response.status, json: await response.json() };
};

test("answers whole records, one list a query", async () => {
  const { status, json } = await post("/retrieve", {
    queries: ["Oslo", "bergen rain", "?"],
    topk: 1,
    return_scores: false,
  });
  expect(status).toBe(200);
  expect(json).toEqual({ result: [[records[1]], [records[4]], []] });
});

test("with scores, each record is a document beside its score", async () => {
  const { json } = await post("/retrieve", { queries: ["capital norway"], topk: 2, return_scores: true });
  const [hits] = (json as { result: { document: unknown; score: number }[][] }).result;
  expect(hits?.map(({ document }) => document)).toEqual([records[1], records[2]]);
  expect(hits?.[0]?.score).toBeGreaterThan(hits?.[1]?.score as number);
  expect(Object.keys(hits?.[0] ?? {})).toEqual(["document", "score"]);
});

test("no topk, null and 0 all mean 3", async () => {
  for (const topk of [undefined, null, 0]) {
    const { json } = await post("/retrieve", { queries: ["norway bergen oslo cape town"], topk });
    expect((json as { result: unknown[][] }).result[0]).toHaveLength(3);
  }
});

test("opens pages by address, in both of MediaWiki's spellings; unknown ones are null; several records are one page", async () => {
  const urls = ["https://w.org/Oslo", "https://w.org/index.php/Cape_Town", "https://w.org/", "https://w.org/Bergen"];
  const { status, json } = await post("/access", { urls });
  const joined = { ...records[3], contents: "Bergen, a town of Norway.\n\nRain falls on Bergen." };
  expect({ status, json }).toEqual({ status: 200, json: { result: [records[1], records[0], null, joined] } });
});

test("nothing asked, nothing answered", async () => {
  expect(await post("/retrieve", { queries: [] })).toEqual({ status: 200, json: { result: [] } });
  expect(await post("/access", { urls: [] })).toEqual({ status: 200, json: { result: [] } });
});

test.each([
  ["/retrieve", {}, 422, "queries"],
  ["/retrieve", { queries: "Oslo" }, 422, "must be a list"],
  ["/retrieve", { queries: [1] }, 422, "queries.0"],
  ["/retrieve", { queries: ["a"], topk: -1 }, 422, "topk"],
  ["/retrieve", { queries: ["a"], topk: 1.5 }, 422, "topk"],
  ["/retrieve", { queries: ["a"], topk: 11 }, 422, "at most 10"],
  ["/retrieve", { queries: ["a", "b", "c", "d", "e"] }, 422, "at most 4"],
  ["/retrieve", { queries: ["a".repeat(101)] }, 422, "at most 100"],
  ["/retrieve", "{", 400, "JSON"],
  ["/retrieve", { queries: ["a".repeat(3000)] }, 413, "large"],
  ["/access", { urls: null }, 422, "urls"],
  ["/nothing", {}, 404, "POST /retrieve"],
])("%s with %j is status %i and says why", async (path, body, status, words) => {
  const answer = await post(path, body);
  expect(answer.status).toBe(status);
  expect((answer.json as { detail: string }).detail).toContain(words);
});

test("health says whether it can search", async () => {
  expect(await (await fetch(`${server.url}/health`)).json()).toEqual({ status: "ok", inFlight: 0 });
});

test("too many requests at once are turned away, a failing retriever is a status, and closing answers what is in flight", async () => {
  const gate = Promise.withResolvers<void>();
  let asked = 0;
  const retriever: Retriever = {
    retrieve: async () => {
      asked += 1;
      await gate.promise;
      throw new Error("broken");
    },
    check: () => Promise.reject(new Error("no index")),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const small = serverLimitsSchema.parse({ maxConcurrent: 1 });
  const busy = await serveRetrieval({ retriever, pages: pool, limits: small, host: "127.0.0.1", port: 0 });
  const first = post("/retrieve", { queries: ["a"] }, busy.url);
  await expect.poll(() => asked).toBe(1);
  expect((await post("/retrieve", { queries: ["b"] }, busy.url)).status).toBe(503);
  expect((await fetch(`${busy.url}/health`)).status).toBe(503);
  const closed = busy.close();
  gate.resolve();
  expect(await first).toEqual({ status: 500, json: { detail: "broken" } });
  await closed;
  await expect(post("/retrieve", { queries: ["c"] }, busy.url)).rejects.toThrow();
});

test("a taken address is one error", async () => {
  const port = Number(new URL(server.url).port);
  await expect(serveRetrieval({ retriever: pool, pages: pool, limits, host: "127.0.0.1", port })).rejects.toMatchObject(
    {
      code: "WS_IO",
      message: `127.0.0.1:${port}: cannot listen: another program listens there; take another port (--port)`,
    },
  );
});

test("many searches at once are all answered, each with its own", async () => {
  const answers = await Promise.all(
    Array.from({ length: 300 }, (_, i) => post("/retrieve", { queries: [i % 2 === 0 ? "Oslo" : "Cape"], topk: 1 })),
  );
  expect(answers.every(({ json }, i) => (json as { result: unknown[][] }).result[0]?.[0] !== undefined && i >= 0)).toBe(
    true,
  );
  expect(answers[1]?.json).toEqual({ result: [[records[0]]] });
  expect(answers[298]?.json).toEqual({ result: [[records[1]]] });
});

test("a search that is given up rejects with the reason", async () => {
  const reason = new Error("enough");
  await expect(pool.retrieve(["Oslo"], 3, AbortSignal.abort(reason))).rejects.toBe(reason);
});
