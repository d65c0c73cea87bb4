import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fuse, HybridRetriever } from "./hybrid.ts";
import { indexVectors } from "./index-vectors.ts";
import { QdrantCollection, QdrantRetriever, type TextEncoder } from "./qdrant.ts";
import { RecordStore } from "./record-store.ts";
import type { FoundRecord, Retriever } from "./retriever.ts";
import { LoopbackQdrant } from "./testing/loopback-qdrant.ts";

let qdrant: LoopbackQdrant;
let directory: string;
let store: RecordStore;
beforeEach(async () => {
  qdrant = await LoopbackQdrant.start();
  directory = mkdtempSync(join(tmpdir(), "wideseek-qdrant-"));
  store = RecordStore.create(join(directory, "records.sqlite"));
});
afterEach(async () => {
  store[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
  await qdrant[Symbol.asyncDispose]();
});

/** Each word a direction: what shares words is near. */
const encode = (text: string): Float32Array => {
  const vector = new Float32Array(4);
  for (const word of text.split(" ")) vector[["a", "b", "c"].indexOf(word) + 1] = 1;
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
};
const encoder: TextEncoder = {
  dimension: 4,
  encodeQueries: async (texts) => texts.map(encode),
  encodePassages: async (texts) => texts.map(encode),
};

const slept: number[] = [];
const collectionOf = (options: object = {}, apiKey?: string): QdrantCollection =>
  new QdrantCollection({ url: qdrant.url, upsertBatch: 2, ...options }, apiKey, async (ms) => void slept.push(ms));

const fill = (...contents: string[]): void =>
  store.transaction(() => {
    for (const [id, text] of contents.entries()) {
      store.add("records", id, `u${id}`, JSON.stringify({ url: `u${id}`, contents: text, id: `x${id}` }));
    }
  });

test("asks Qdrant for what is published: collection, graph, batches, search", async () => {
  fill("a", "  ", "b", "a b", "c");
  const collection = collectionOf({ upsertBatch: 2 }, "the-key");
  expect(await indexVectors({ store, collection, encoder })).toBe(4);
  const retriever = new QdrantRetriever(collection, encoder);
  const [hits] = await retriever.retrieve(["a", "c"], 2);
  expect(hits).toEqual([
    { id: 0, score: 1, json: '{"url":"u0","contents":"a","id":"x0"}' },
    { id: 3, score: expect.closeTo(Math.SQRT1_2), json: '{"url":"u3","contents":"a b","id":"x3"}' },
  ]);
  const path = "/collections/wiki_collection_m32_cef512";
  const asked = qdrant.requests.map(({ method, path: at, body }) => ({ line: `${method} ${at}`, body }));
  expect(asked.map(({ line }) => line)).toEqual([
    `GET ${path}`,
    `PUT ${path}`,
    `GET ${path}`,
    `PUT ${path}/points?wait=true`,
    `PUT ${path}/points?wait=true`,
    `PUT ${path}/points?wait=true`,
    `GET ${path}`,
    `POST ${path}/points/query/batch`,
  ]);
  expect(asked[1]?.body).toEqual({
    vectors: { size: 4, distance: "Cosine" },
    hnsw_config: { m: 32, ef_construct: 512 },
    on_disk_payload: true,
  });
  // The empty record leaves no point, and no other takes its number.
  expect(asked[3]?.body).toEqual({
    points: [{ id: 0, vector: [0, 1, 0, 0], payload: { url: "u0", contents: "a", id: "x0" } }],
  });
  expect(asked[7]?.body).toEqual({
    searches: [
      { query: [0, 1, 0, 0], limit: 2, params: { hnsw_ef: 256 }, with_payload: true },
      { query: [0, 0, 0, 1], limit: 2, params: { hnsw_ef: 256 }, with_payload: true },
    ],
  });
  expect(qdrant.requests.every(({ headers }) => headers["api-key"] === "the-key")).toBe(true);
});

test("goes on where it was stopped", async () => {
  fill("a", "b", "c", "a b", "a c");
  const controller = new AbortController();
  const collection = collectionOf();
  const stopped = indexVectors({
    store,
    collection,
    encoder,
    signal: controller.signal,
    onProgress: ({ done }) => done === 2 && controller.abort(),
  });
  await expect(stopped).rejects.toThrow("abort");
  expect(await indexVectors({ store, collection, encoder })).toBe(3);
  expect(await indexVectors({ store, collection, encoder })).toBe(0);
  const [points] = [...qdrant.collections.values()].map(({ points }) => [...points.keys()]);
  expect(points).toEqual([0, 1, 2, 3, 4]);
});

test("waits for green, and not for ever", async () => {
  const collection = collectionOf({ readySeconds: 3 });
  await collection.create(4);
  slept.length = 0;
  qdrant.statuses.push("yellow", "yellow", "green");
  await collection.waitUntilGreen();
  expect(slept).toEqual([1000, 1000]);
  qdrant.statuses.push(...Array.from({ length: 10 }, () => "grey"));
  await expect(collection.waitUntilGreen()).rejects.toMatchObject({
    code: "WS_TIMEOUT",
    message: expect.stringContaining("still grey after 3 s"),
  });
});

test("another dimension, a missing collection, a failing and a dead server are one error each, without the key", async () => {
  const collection = collectionOf({}, "the-key");
  const retriever = new QdrantRetriever(collection, encoder);
  await expect(retriever.check()).rejects.toMatchObject({
    code: "WS_IO",
    message: expect.stringContaining("no collection wiki_collection_m32_cef512"),
  });
  await expect(retriever.retrieve(["a"], 1)).rejects.toMatchObject({
    message: expect.stringContaining("no collection"),
  });
  await collection.create(4);
  await expect(collection.requireVectors(768)).rejects.toMatchObject({
    code: "WS_INVALID_ARGUMENT",
    message: expect.stringContaining("vectors of 4 numbers by Cosine distance, the encoder gives 768"),
  });
  await expect(collection.upsert([{ id: 0, vector: new Float32Array(3), payload: {} }])).rejects.toMatchObject({
    message: expect.stringContaining("status 400: Wrong input: Vector dimension error"),
  });
  qdrant.failures.push({ status: 500, body: { status: { error: "disk full" }, time: 0 } });
  await expect(retriever.retrieve(["a"], 1)).rejects.toMatchObject({
    code: "WS_IO",
    message: expect.stringContaining("status 500: disk full"),
  });
  // How a closed connection ends is the system's matter: refused, reset, or cut while the client still thought it open.
  qdrant.failures.push("cut");
  const cut = await retriever.retrieve(["a"], 1).catch((error: Error) => error);
  // Nothing listens there, and no other test can be given the port; port 1 is one that fetch refuses to ask.
  const nobody = new QdrantRetriever(collectionOf({ url: "http://127.0.0.1:2" }, "the-key"), encoder);
  const dead = await nobody.retrieve(["a"], 1).catch((error: Error) => error);
  for (const error of [cut, dead]) {
    expect(error).toMatchObject({
      code: "WS_IO",
      message: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+: Qdrant cannot search: \S/),
    });
    expect(JSON.stringify(error) + String((error as Error).stack)).not.toContain("the-key");
  }
});

test.each([
  [{ url: "ftp://a" }, "qdrant: url: must be an http or https URL"],
  [{ collection: "" }, "qdrant: collection: must not be empty"],
  [{ hnswEf: 0 }, "qdrant: hnswEf: must be at least 1, got 0"],
])("%j is the caller's mistake", (options, words) => {
  expect(() => new QdrantCollection(options)).toThrow(words);
});

const hit = (id: number): FoundRecord => ({ id, json: `${id}`, score: 0 });

test("fusion ranks by the sum of 1 / (60 + rank)", () => {
  const fused = fuse([[hit(5), hit(1), hit(2)], [hit(2), hit(5)], [hit(9)]], 3);
  expect(fused.map(({ id, score }) => [id, score])).toEqual([
    [5, 1 / 61 + 1 / 62],
    [2, 1 / 63 + 1 / 61],
    [9, 1 / 61],
  ]);
  // Equal sums stay in the order of the corpus.
  expect(fuse([[hit(7)], [hit(3)]], 2).map(({ id }) => id)).toEqual([3, 7]);
});

test("hybrid search fuses deeper rankings than are asked for", async () => {
  const asked: number[] = [];
  const ranking = (...ids: number[]): Retriever => ({
    retrieve: async (queries, count) => {
      asked.push(count);
      return queries.map(() => ids.slice(0, count).map(hit));
    },
    check: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
  const hybrid = new HybridRetriever([ranking(1, 2, 3), ranking(4, 5, 3)], 50);
  const [hits] = await hybrid.retrieve(["q"], 1);
  expect(hits?.map(({ id }) => id)).toEqual([3]);
  expect(asked).toEqual([50, 50]);
});
