// The retrieval server as people run it: `wideseek index`, `wideseek tools serve`, and our client of the published one.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LoopbackQdrant } from "@wideseek/retrieval/testing";
import { HttpSearchBackend } from "@wideseek/tools";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { runCli } from "../../packages/cli/src/run-cli.ts";

const root = join(import.meta.dirname, "../..");
const flags = ["--conditions=@wideseek/source", "--import", "tsx", join(root, "packages/cli/src/main.ts")];
const encoder = join(root, "test/golden/e5");
const records = [
  { url: "https://w.org/index.php?title=Cape_Town", title: "Cape Town", contents: "Cape Town lies by the sea." },
  { url: "https://w.org/Oslo", title: "Oslo", contents: "Oslo is the capital of Norway." },
  { url: "https://w.org/Bergen", title: "Bergen", contents: "Bergen is a town of Norway." },
];

let directory: string;
let corpus: string;
let qdrant: LoopbackQdrant;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "wideseek-service-"));
  corpus = join(directory, "pages.jsonl");
  writeFileSync(corpus, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  qdrant = await LoopbackQdrant.start();
});
afterAll(async () => {
  await qdrant[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const run = async (...args: string[]): Promise<{ code: number | null; out: string; err: string }> => {
  const child = spawn(process.execPath, [...flags, ...args], { cwd: root });
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, out, err };
};

/** The same in this process: most of a run's time is the start of a process. */
const runHere = async (...args: string[]): Promise<{ code: number; err: string }> => {
  let err = "";
  const spy = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    err += String(text);
    return true;
  });
  try {
    return { code: await runCli(args), err };
  } finally {
    spy.mockRestore();
  }
};

const serve = async (...args: string[]): Promise<{ child: ChildProcess; url: string }> => {
  const child = spawn(process.execPath, [...flags, "tools", "serve", "--port", "0", ...args], { cwd: root });
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => resolve(text.trim().split(" ").at(-1) as string));
    let err = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
    child.on("close", () => reject(new Error(err)));
  });
  return { child, url };
};

const stopped = async (child: ChildProcess): Promise<number | null> => {
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  child.kill("SIGTERM");
  return await ended;
};

test("indexes and serves by words, vectors and both; our client reads the answers; SIGTERM ends it in order", async () => {
  const index = join(directory, "index");
  const built = await run("index", index, corpus, "--qdrant", qdrant.url, "--encoder", encoder);
  expect(built).toMatchObject({ code: 0, out: `${index}: 3 passages, 0 pages, 3 new vectors\n` });
  for (const mode of ["bm25", "dense", "hybrid"]) {
    const dense = mode === "bm25" ? [] : ["--set", `encoder.directory=${encoder}`, "--set", `qdrant.url=${qdrant.url}`];
    const { child, url } = await serve("--index", index, "--mode", mode, ...dense);
    await using client = await HttpSearchBackend.open({ baseUrl: url });
    const hits = await client.search("capital of Norway", 3);
    expect(hits.length).toBeGreaterThan(mode === "bm25" ? 0 : 2);
    if (mode !== "dense") expect(hits[0]).toEqual(records[1]);
    expect(await client.access("https://w.org/index.php/Cape_Town")).toBe("Cape Town lies by the sea.");
    expect(await client.access("https://w.org/none")).toBeNull();
    expect(await stopped(child)).toBe(0);
  }
});

test("a file of pages is served as it is, by the agents' own index", async () => {
  const { child, url } = await serve("--index", corpus);
  await using client = await HttpSearchBackend.open({ baseUrl: url });
  expect(await client.search("Bergen", 1)).toEqual([records[2]]);
  expect(await stopped(child)).toBe(0);
});

test.each([
  [["index", "DIR", "none.jsonl"], "none.jsonl: cannot read the corpus"],
  [["index", "DIR", "CORPUS", "--no-words"], "--no-words leaves nothing to do"],
  [["index", "DIR", "CORPUS", "--qdrant", "http://127.0.0.1:9"], "--qdrant and --encoder go together"],
  [
    ["index", "DIR", "CORPUS", "--qdrant", "http://127.0.0.1:9", "--encoder", "nothing"],
    "nothing/model.onnx: no such file",
  ],
  [["tools", "serve"], "name what is served: --index PATH"],
  [["tools", "serve", "--index", "nothing"], "nothing: no such index"],
  [["tools", "serve", "--index", "CORPUS", "--mode", "fast"], 'mode: must be one of "bm25", "dense", "hybrid"'],
  [["tools", "serve", "--index", "CORPUS", "--set", "limits.maxQuerys=3"], "did you mean maxQueries"],
])("%j is one error, exit code 2, and writes nothing", async (args, words) => {
  const target = join(directory, "never");
  const real = args.map((arg) => arg.replace("DIR", target).replace("CORPUS", corpus));
  const { code, err } = await runHere(...real);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect(err).toContain(words);
  expect(code).toBe(2);
  expect(existsSync(target)).toBe(false);
});
