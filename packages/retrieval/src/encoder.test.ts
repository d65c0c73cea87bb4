import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { E5Encoder } from "./encoder.ts";

/** Made by test/golden/make_e5_golden.py: torch and transformers in float64, one text at a time, without padding. */
const directory = resolve(import.meta.dirname, "../../../test/golden/e5");
const { maxTokens, cases } = JSON.parse(readFileSync(join(directory, "golden.json"), "utf8")) as {
  maxTokens: number;
  cases: { text: string; ids: number[]; embedding: number[] }[];
};

let encoder: E5Encoder;
beforeAll(async () => {
  encoder = await E5Encoder.open({ directory, maxTokens, threads: 1 });
});
afterAll(() => encoder[Symbol.asyncDispose]());

const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);

const asAsked = (texts: readonly string[]) => ({
  queries: texts.filter((text) => text.startsWith("query: ")),
  passages: texts.filter((text) => text.startsWith("passage: ")),
});

test("embeddings are torch's, in one padded batch with prefixes of ours", async () => {
  const { queries, passages } = asAsked(cases.map(({ text }) => text));
  const [asQueries, asPassages] = await Promise.all([
    encoder.encodeQueries(queries.map((text) => text.slice("query: ".length))),
    encoder.encodePassages(passages.map((text) => text.slice("passage: ".length))),
  ]);
  const vectors = new Map([
    ...queries.map((text, i) => [text, asQueries[i] as Float32Array] as const),
    ...passages.map((text, i) => [text, asPassages[i] as Float32Array] as const),
  ]);
  expect(vectors.size).toBe(cases.length);
  for (const { text, embedding } of cases) {
    const vector = vectors.get(text) as Float32Array;
    expect(vector).toHaveLength(encoder.dimension);
    // Single precision over two layers; a wrong mask, prefix or normalisation is off by more than 0.01.
    expect(largestDifference(vector, embedding)).toBeLessThan(2e-5);
  }
});

test("a long text is cut where the golden one is", () => {
  expect(cases.some(({ ids }) => ids.length === maxTokens)).toBe(true);
});

test("a text's vector does not depend on its company", async () => {
  const [alone] = await encoder.encodePassages(["short"]);
  const [, together] = await encoder.encodePassages(["a much longer text of the lake and the ferry", "short"]);
  expect(largestDifference(alone as Float32Array, together as Float32Array)).toBeLessThan(1e-6);
});

test("more texts than a batch, from many callers, each get their own vector", async () => {
  await using small = await E5Encoder.open({ directory, maxTokens, threads: 1, batchSize: 3 });
  const texts = Array.from({ length: 20 }, (_, i) => `ferry ${"lake ".repeat(i % 5)}${i}`);
  const together = await Promise.all(texts.map(async (text) => (await small.encodeQueries([text]))[0] as Float32Array));
  for (const [i, text] of texts.entries()) {
    const [vector] = await encoder.encodeQueries([text]);
    expect(largestDifference(together[i] as Float32Array, vector as Float32Array)).toBeLessThan(1e-6);
  }
});

test("without onnxruntime the error says what to install", async () => {
  vi.doMock("onnxruntime-node", () => {
    throw new Error("Cannot find package");
  });
  try {
    const { peerDependencies } = JSON.parse(readFileSync(resolve(import.meta.dirname, "../package.json"), "utf8"));
    await expect(E5Encoder.open({ directory })).rejects.toMatchObject({
      code: "WS_UNSUPPORTED",
      message: expect.stringContaining(`pnpm add onnxruntime-node@${peerDependencies["onnxruntime-node"]}`),
    });
  } finally {
    vi.doUnmock("onnxruntime-node");
  }
});

test("closing rejects what waits", async () => {
  const closing = await E5Encoder.open({ directory, maxTokens, threads: 1 });
  await closing[Symbol.asyncDispose]();
  await expect(closing.encodeQueries(["a"])).rejects.toMatchObject({ code: "WS_CLOSED" });
});

test("folders that are no encoder are one error each", async () => {
  const folder = mkdtempSync(join(tmpdir(), "wideseek-encoder-"));
  try {
    const open = (options: object = {}) => E5Encoder.open({ directory: folder, ...options });
    await expect(open()).rejects.toMatchObject({ code: "WS_IO", message: expect.stringContaining("model.onnx") });
    writeFileSync(join(folder, "model.onnx"), "no model");
    await expect(open()).rejects.toMatchObject({ code: "WS_IO", message: expect.stringContaining("tokenizer.json") });
    cpSync(join(directory, "tokenizer.json"), join(folder, "tokenizer.json"));
    await expect(open()).rejects.toMatchObject({ code: "WS_CORRUPT_FILE", message: expect.stringContaining(folder) });
    await expect(open({ maxTokens: 4 })).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: "encoder: maxTokens: must be at least 8, got 4",
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
