import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
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

describe("waiting for a collection", () => {
  let collection: QdrantCollection;
  beforeEach(async () => {
    collection = collectionOf({ readySeconds: 3 });
    await collection.create(4);
    slept.length = 0;
    qdrant.requests.length = 0;
  });
  const methods = (): string[] => qdrant.requests.map(({ method }) => method);

  test("a server waits while it is optimised, and not for ever", async () => {
    qdrant.statuses.push("yellow", "yellow", "green");
    await collection.waitUntilReady({ resume: false });
    expect(slept).toEqual([1000, 1000]);
    qdrant.statuses.push(...Array.from({ length: 10 }, () => "yellow" as const));
    await expect(collection.waitUntilReady({ resume: false })).rejects.toMatchObject({
      code: "WS_TIMEOUT",
      message: expect.stringContaining("still yellow after 3 s"),
    });
  });

  test("a server takes what a restart left unoptimised, and writes nothing", async () => {
    qdrant.statuses.push("grey");
    await collection.waitUntilReady({ resume: false });
    expect(methods()).toEqual(["GET"]);
  });

  test("indexing resumes what a restart left, and waits as long as it takes", async () => {
    qdrant.statuses.push("grey", ...Array.from({ length: 50 }, () => "yellow" as const), "green");
    await collection.waitUntilReady({ resume: true });
    expect(slept).toHaveLength(51);
    expect(qdrant.requests[1]).toMatchObject({ method: "PATCH", body: { optimizers_config: {} } });
    expect(methods().filter((method) => method !== "GET")).toEqual(["PATCH"]);
  });

  test("indexing gives up on what cannot be resumed", async () => {
    qdrant.statuses.push(...Array.from({ length: 10 }, () => "grey" as const));
    await expect(collection.waitUntilReady({ resume: true })).rejects.toMatchObject({
      code: "WS_TIMEOUT",
      message: expect.stringContaining("still grey after 3 s"),
    });
  });

  test.each([true, false])("what failed for good is an error, resume %s", async (resume) => {
    qdrant.statuses.push("red");
    await expect(collection.waitUntilReady({ resume })).rejects.toMatchObject({
      code: "WS_IO",
      message: expect.stringContaining("is red"),
    });
  });
});

/** Word for word what servers of Qdrant (1.18, 1.19.1) answered, as people published it. */
const said = {
  info: `{"result":{"status":"green","optimizer_status":"ok","indexed_vectors_count":0,"points_count":16,"segments_count":12,"config":{"params":{"vectors":{"size":4,"distance":"Cosine"},"shard_number":3,"replication_factor":3,"write_consistency_factor":1,"on_disk_payload":true},"hnsw_config":{"m":16,"ef_construct":100,"full_scan_threshold":10000,"max_indexing_threads":0,"on_disk":false},"optimizer_config":{"deleted_threshold":0.2,"vacuum_min_vector_number":1000,"default_segment_number":0,"max_segment_size":null,"memmap_threshold":null,"indexing_threshold":10000,"flush_interval_sec":5,"max_optimization_threads":null,"prevent_unoptimized":null},"wal_config":{"wal_capacity_mb":32,"wal_segments_ahead":0,"wal_retain_closed":1},"quantization_config":null},"payload_schema":{},"update_queue":{"length":0}},"status":"ok","time":0.000507875}`,
  missing: `{"status":{"error":"Not found: Collection \`bnd_no_such_coll_02_x7q\` doesn't exist!"},"time":8.905e-6}`,
  upserted: `{"result":{"operation_id":2,"status":"completed"},"status":"ok","time":0.003220251}`,
  refused: `{"status":{"error":"Wrong input: Vector dimension error: expected dim: 4, got 64"},"time":0.004013685}`,
};

test("reads what real servers said, and the loopback server says the same", async () => {
  const collection = collectionOf();
  const next = (status: number, text: string): void => void qdrant.failures.push({ status, body: JSON.parse(text) });
  next(200, said.info);
  await collection.requireVectors(4);
  next(200, said.info);
  await collection.waitUntilReady({ resume: true });
  next(404, said.missing);
  await expect(collection.requireVectors(4)).rejects.toThrow(/no collection/);
  const point = { id: 900, vector: new Float32Array(4), payload: {} };
  next(200, said.upserted);
  await collection.upsert([point]);
  next(400, said.refused);
  await expect(collection.upsert([point])).rejects.toThrow(/status 400: Wrong input: Vector dimension error/);

  await collection.create(4);
  const answer = async (path: string, init?: RequestInit): Promise<unknown> =>
    await (await fetch(`${qdrant.url}/collections/${path}`, init)).json();
  const form = (value: unknown): unknown =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, form(inner)]))
      : typeof value;
  const { collection: name } = collection.options;
  const put = (vector: number[]): RequestInit => ({
    method: "PUT",
    body: JSON.stringify({ points: [{ id: 1, vector }] }),
  });
  expect(await answer("bnd_no_such_coll_02_x7q")).toMatchObject({ status: JSON.parse(said.missing).status });
  expect(await answer(`${name}/points`, put(Array(64).fill(0)))).toMatchObject({
    status: JSON.parse(said.refused).status,
  });
  expect(form(await answer(`${name}/points`, put([1, 0, 0, 0])))).toEqual(form(JSON.parse(said.upserted)));
  // Newer servers say more; nothing that ours says is missing there.
  expect(form(JSON.parse(said.info))).toMatchObject(form(await answer(name)) as object);
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
