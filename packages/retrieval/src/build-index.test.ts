import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { parquetWriteFile } from "hyparquet-writer";
import { afterEach, beforeEach, expect, test } from "vitest";
import { buildIndex } from "./build-index.ts";
import { indexFiles } from "./index-files.ts";
import { RecordStore } from "./record-store.ts";
import { TermIndex } from "./term-index.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "wideseek-build-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const record = (i: number) => ({ url: `u${i}`, title: `title ${i % 50}`, contents: `word${i} common${i % 7} text` });
const lines = (count: number): string =>
  Array.from({ length: count }, (_, i) => `${JSON.stringify(record(i))}\n`).join("");
const write = (name: string, text: string | Uint8Array): string => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};
const build = (passages: string[], pages: string[] = [], name = "index") =>
  buildIndex({ directory: join(directory, name), passages, pages });
const searchUrls = (query: string, name = "index"): string[] => {
  using index = new TermIndex(join(directory, name), { cacheMiB: 1 });
  using store = RecordStore.openReadOnly(indexFiles(join(directory, name)).store);
  return index.search(query, 3).map(({ row }) => (JSON.parse(store.record(row)) as { url: string }).url);
};

test("JSONL, packed JSONL and Parquet give the same index", async () => {
  const text = lines(300);
  const columns = ["url", "title", "contents"] as const;
  const parquet = join(directory, "c.parquet");
  parquetWriteFile({
    filename: parquet,
    rowGroupSize: 70,
    columnData: columns.map((name) => ({
      name,
      type: "STRING" as const,
      data: Array.from({ length: 300 }, (_, i) => record(i)[name]),
    })),
  });
  const plain = await build([write("a.jsonl", text)], [], "a");
  expect(await build([write("b.jsonl.gz", gzipSync(text))], [], "b")).toEqual(plain);
  expect(await build([parquet], [], "c")).toEqual(plain);
  for (const file of ["postings", "dictionary", "lengths"] as const) {
    const [a, b, c] = ["a", "b", "c"].map((name) => readFileSync(indexFiles(join(directory, name))[file]));
    expect(b?.equals(a as Buffer)).toBe(true);
    expect(c?.equals(a as Buffer)).toBe(true);
  }
  expect(searchUrls("word299 common0", "c")[0]).toBe("u299");
});

test("rows are numbered through all files; records without text keep their number and are not found", async () => {
  const first = write("1.jsonl", `${JSON.stringify({ url: "a", contents: "  ", title: "needle" })}\n\n${lines(1)}`);
  const second = write("2.jsonl", JSON.stringify({ url: "b", contents: "needle", more: [1] }));
  expect(await build([first, second])).toMatchObject({ numRows: 3, numIndexed: 2 });
  expect(searchUrls("needle")).toEqual(["b"]);
  using store = RecordStore.openReadOnly(indexFiles(join(directory, "index")).store);
  expect(store.record(2)).toBe('{"url":"b","contents":"needle","more":[1]}');
});

test("pages of their own are what access opens", async () => {
  const pages = write("pages.jsonl", JSON.stringify({ url: "p", contents: "whole page" }));
  expect(await build([write("c.jsonl", lines(2))], [pages])).toMatchObject({ numPages: 1 });
  using store = RecordStore.openReadOnly(indexFiles(join(directory, "index")).store);
  expect(store.page("pages", "p")).toContain("whole page");
  expect(store.page("pages", "u0")).toBeNull();
});

test("a finished index is left as it is, and refuses other files", async () => {
  const corpus = write("c.jsonl", lines(5));
  const manifest = await build([corpus]);
  expect(await build([corpus])).toEqual(manifest);
  await expect(build([write("d.jsonl", lines(6))])).rejects.toMatchObject({
    code: "WS_INVALID_ARGUMENT",
    message: expect.stringMatching(
      /holds an index of c\.jsonl \(\d+ bytes\), not of d\.jsonl \(\d+ bytes\); name a new/,
    ),
  });
});

test("a folder of anything else is refused and left as it is", async () => {
  const corpus = write("c.jsonl", lines(5));
  await expect(build([corpus], [], ".")).rejects.toMatchObject({
    code: "WS_INVALID_ARGUMENT",
    message: expect.stringContaining("holds other files (c.jsonl), no index; name a new folder"),
  });
  expect(readdirSync(directory)).toEqual(["c.jsonl"]);
});

test.each([
  ["empty.jsonl", "", "WS_INVALID_ARGUMENT", "no passages"],
  ["silent.jsonl", '{"url":"a","contents":"?!"}', "WS_INVALID_ARGUMENT", "no passage of the corpus has a word"],
  ["broken.jsonl", `${lines(2)}{"url":\n`, "WS_INVALID_ARGUMENT", "broken.jsonl:3: not JSON"],
  ["list.jsonl", "[]", "WS_INVALID_ARGUMENT", "list.jsonl:1"],
  ["field.jsonl", `${lines(1)}\n{"url":"a"}`, "WS_INVALID_ARGUMENT", "field.jsonl:3: contents: missing"],
  ["bytes.jsonl", Buffer.from([0x7b, 0xff, 0x7d]), "WS_INVALID_ARGUMENT", "bytes.jsonl:1: not UTF-8"],
  ["not.jsonl.gz", "plain", "WS_IO", "not.jsonl.gz"],
  ["not.parquet", "plain text, not Parquet", "WS_INVALID_ARGUMENT", "not a readable Parquet file"],
  ["corpus.txt", "x", "WS_INVALID_ARGUMENT", ".jsonl, .jsonl.gz or .parquet"],
])("%s is one error that names it", async (name, text, code, words) => {
  await expect(build([write(name, text)])).rejects.toMatchObject({ code, message: expect.stringContaining(words) });
  expect(readdirSync(directory)).toContain(name);
});

test("a missing file is one error", async () => {
  await expect(build([join(directory, "none.jsonl")])).rejects.toMatchObject({ code: "WS_IO" });
});

test("after the line is mended, reading goes on where it stopped", async () => {
  const good = lines(12_000);
  // As many bytes as before, so it counts as the same file.
  const corpus = write("c.jsonl", good.replace('"u11000"', '"u11000 '));
  await expect(build([corpus])).rejects.toMatchObject({ message: expect.stringContaining(":11001: not JSON") });
  {
    using store = RecordStore.create(indexFiles(join(directory, "index")).store);
    expect(store.count("records")).toBe(10_000);
  }
  write("c.jsonl", good);
  expect(await build([corpus])).toMatchObject({ numRows: 12_000 });
  expect(searchUrls("word11000")).toEqual(["u11000"]);
});

test("stops at an abort and goes on after it", async () => {
  const corpus = write("c.jsonl", lines(12_000));
  const controller = new AbortController();
  const options = { directory: join(directory, "index"), passages: [corpus] };
  const stopped = buildIndex({ ...options, signal: controller.signal, onProgress: () => controller.abort() });
  await expect(stopped).rejects.toThrow("abort");
  const manifest = await buildIndex(options);
  expect(manifest).toMatchObject({ numRows: 12_000 });
});

test("killed at any moment, it goes on and ends with the same bytes", async () => {
  const corpus = write("c.jsonl", lines(150_000));
  await build([corpus], [], "whole");
  const script = `
    const { buildIndex } = await import(${JSON.stringify(new URL("./build-index.ts", import.meta.url).href)});
    let last = "";
    await buildIndex({
      directory: ${JSON.stringify(join(directory, "killed"))}, passages: [${JSON.stringify(corpus)}],
      onProgress: ({ stage }) => { if (stage !== last) console.log(stage); last = stage; },
    });`;
  const stages: string[] = [];
  // Kills in each stage of the work, until a run has come to its end.
  for (const stage of ["read", "words", "merge", null]) {
    const flags = ["--conditions=@wideseek/source", "--input-type=module", "-e", script];
    const child = spawn(process.execPath, flags, { stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stages.push(...text.trim().split("\n"));
      if (stage !== null && text.includes(stage)) child.kill("SIGKILL");
    });
    const ended = await new Promise((resolve) => child.on("close", (code, signal) => resolve(signal ?? code)));
    expect(ended).toBe(stage === null ? 0 : "SIGKILL");
  }
  expect(stages).toEqual(expect.arrayContaining(["read", "words", "merge"]));
  for (const file of ["manifest", "postings", "dictionary", "blocks", "lengths"] as const) {
    const [whole, killed] = ["whole", "killed"].map((name) => readFileSync(indexFiles(join(directory, name))[file]));
    expect(killed?.equals(whole as Buffer)).toBe(true);
  }
});
