// The retrieval server under an ordinary load generator, on one million passages; and recall on real passages.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { buildIndex } from "@wideseek/retrieval";
import autocannon from "autocannon";
import type { Benchmark } from "./context.ts";
import { type Measurement, repositoryRoot } from "./record.ts";
import { writePassages } from "./retrieval-corpus.ts";
import { lookUps, measureRecall } from "./retrieval-recall.ts";

const fullSize = 1_000_000;
const targetRate = 2000;
const connections = 32;
const secondsPerRound = 10;

interface LoadResult {
  requestsPerSecond: number;
  p50: number;
  p99: number;
  failures: number;
  /** Processor time of a request, in milliseconds. */
  serverMs: number;
  clientMs: number;
}

async function load(server: ChildProcess, url: string, next: () => string, rate: number | null): Promise<LoadResult> {
  const before = processorSeconds(server);
  const ownBefore = process.cpuUsage();
  const result = await autocannon({
    url: `${url}/retrieve`,
    connections,
    duration: secondsPerRound,
    ...(rate === null ? {} : { overallRate: rate }),
    requests: [
      {
        method: "POST",
        headers: { "content-type": "application/json" },
        setupRequest: (request) => ({ ...request, body: JSON.stringify({ queries: [next()], topk: 3 }) }),
      },
    ],
  });
  const own = process.cpuUsage(ownBefore);
  const { total } = result.requests;
  return {
    requestsPerSecond: total / result.duration,
    p50: result.latency.p50,
    p99: result.latency.p99,
    failures: result.errors + result.timeouts + result.non2xx,
    serverMs: ((processorSeconds(server) - before) * 1000) / total,
    clientMs: (own.user + own.system) / 1000 / total,
  };
}

/** User and system time of all threads of a process; Linux counts in hundredths of a second. */
function processorSeconds({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function serve(index: string, workers: number): Promise<{ child: ChildProcess; url: string }> {
  const flags = ["--conditions=@wideseek/source", "--import", "tsx", join(repositoryRoot, "packages/cli/src/main.ts")];
  const settings = [`workers=${workers}`, "cachedQueries=0", "port=0"].flatMap((setting) => ["--set", setting]);
  const child = spawn(process.execPath, [...flags, "tools", "serve", "--index", index, ...settings], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout?.setEncoding("utf8").on("data", (text: string) => resolve(text.trim().split(" ").at(-1) as string));
    child.on("close", (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { child, url };
}

async function* measureLoad(
  dataDirectory: string,
  numPassages: number,
  rounds: number,
): AsyncGenerator<Measurement, void, void> {
  // Kept from run to run: building takes minutes, and an interrupted build goes on.
  const folder = join(tmpdir(), `wideseek-retrieval-${numPassages}`);
  const corpus = `${folder}.jsonl`;
  if (!existsSync(corpus)) await writePassages(dataDirectory, corpus, numPassages);
  await buildIndex({ directory: folder, passages: [corpus] });
  const queries = await lookUps(dataDirectory);
  const workers = 2;
  const { child, url } = await serve(folder, workers);
  try {
    for (const kind of ["short", "long"] as const) {
      let asked = 0;
      const next = (): string => queries[kind][asked++ % queries[kind].length] as string;
      await load(child, url, next, null);
      const open: LoadResult[] = [];
      const held: LoadResult[] = [];
      for (let round = 0; round < rounds; round += 1) {
        open.push(await load(child, url, next, null));
        held.push(await load(child, url, next, targetRate));
      }
      const results = [...open, ...held];
      const size = numPassages === fullSize ? "" : String(numPassages);
      const prefix = `tools.search${size}${kind === "short" ? "" : ".long"}`;
      const sample = queries[kind].slice(0, 10_000);
      const words = sample.reduce((sum, query) => sum + query.split(" ").length, 0) / sample.length;
      const params = {
        passages: numPassages,
        corpus: "OTT-QA passages, then variations of them",
        query: `title of a linked passage and ${kind === "short" ? "the name of its column" : "the title of its table"}`,
        queryWords: Number(words.toFixed(1)),
        repeatedQueries: asked > queries[kind].length,
        cachedAnswers: 0,
        topk: 3,
        workers,
        connections,
        seconds: secondsPerRound,
        loadAverage: loadavg()[0],
        failures: results.reduce((sum, { failures }) => sum + failures, 0),
        generator: "autocannon on the same machine",
      };
      const of = (from: readonly LoadResult[], key: keyof LoadResult): number[] => from.map((each) => each[key]);
      const atRate = { ...params, rate: targetRate };
      yield { name: `${prefix}.qps`, unit: "1/s", values: of(open, "requestsPerSecond"), params };
      yield { name: `${prefix}.p99_ms`, unit: "ms", values: of(held, "p99"), params: atRate };
      yield { name: `${prefix}.p50_ms`, unit: "ms", values: of(held, "p50"), params: atRate };
      yield { name: `${prefix}.qps_at_rate`, unit: "1/s", values: of(held, "requestsPerSecond"), params: atRate };
      yield { name: `${prefix}.server_cpu_ms`, unit: "ms", values: of(results, "serverMs"), params };
      yield { name: `${prefix}.generator_cpu_ms`, unit: "ms", values: of(results, "clientMs"), params };
    }
  } finally {
    const ended = new Promise((resolve) => child.on("close", resolve));
    child.kill("SIGTERM");
    await ended;
  }
}

export const retrievalBenchmark: Benchmark = async function* ({ smoke, rounds, passages, dataDirectory }) {
  if (dataDirectory === null) throw new Error("retrieval: needs the real data; name its folder with --data");
  const directory = await mkdtemp(join(tmpdir(), "wideseek-recall-"));
  try {
    yield* measureRecall(dataDirectory, directory, smoke ? 64 : 1000);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  yield* measureLoad(dataDirectory, smoke ? 2000 : passages, rounds);
};
