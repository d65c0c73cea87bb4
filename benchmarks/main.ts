// `pnpm run bench`: runs benchmark files, prints a table, appends records to benchmarks/results/*.jsonl.
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { BenchModel, bench30m, type ModelShape, modelShapes, qwen3Small, toyShape } from "./bench-model.ts";
import type { Benchmark, BenchmarkContext } from "./context.ts";
import { type BenchDevice, openDevice } from "./device.ts";
import { episodesBenchmark } from "./episodes.ts";
import { forestBenchmark } from "./forest.ts";
import { generateBenchmark } from "./generate.ts";
import { grpoStepBenchmark } from "./grpo-step.ts";
import { learningBenchmark } from "./learning.ts";
import { onPolicyBenchmark } from "./onpolicy.ts";
import { type LlamaCppPeer, openLlamaCppPeer } from "./peers/llamacpp.ts";
import { openTorchPeers, type TorchPeer } from "./peers/torch.ts";
import { appendRecord, type BenchmarkRecord, repositoryRoot, runFacts, toRecord } from "./record.ts";
import { retrievalBenchmark } from "./retrieval.ts";
import { rolloutBenchmark } from "./rollout.ts";
import { scorerBenchmark } from "./scorer.ts";
import { setupBenchmark } from "./setup.ts";
import { sharingBenchmark } from "./sharing.ts";
import { type BenchSizes, cpuSizes, gpuSizes, toySizes } from "./sizes.ts";
import { suitesBenchmark } from "./suites.ts";
import { toolsBenchmark } from "./tools.ts";
import { trainStepBenchmark } from "./train-step.ts";

const benchmarks: Readonly<Record<string, Benchmark>> = {
  generate: generateBenchmark,
  "train-step": trainStepBenchmark,
  "grpo-step": grpoStepBenchmark,
  rollout: rolloutBenchmark,
  onpolicy: onPolicyBenchmark,
  sharing: sharingBenchmark,
  forest: forestBenchmark,
  tools: toolsBenchmark,
  retrieval: retrievalBenchmark,
  scorer: scorerBenchmark,
  episodes: episodesBenchmark,
  setup: setupBenchmark,
  learning: learningBenchmark,
  suites: suitesBenchmark,
};
/** They need two minutes in which nothing else runs, the real data, a network, and an hour. */
const onlyByName = ["episodes", "retrieval", "setup", "learning", "suites"];
/** Of what runs a model; the others know no GPU. */
const onDevice = ["generate", "train-step", "grpo-step", "rollout", "onpolicy", "sharing", "learning"];

const usage = `usage: pnpm run bench [NAME...] [options]
  NAME                  ${Object.keys(benchmarks).join(", ")}; default: all but ${onlyByName.join(", ")}
  --device DEVICE       cpu (default), cuda, or auto: where the model of ${onDevice.join(", ")} runs
  --shape NAME          ${modelShapes.map(({ name }) => name).join(", ")}; default ${bench30m.name}, on a GPU ${qwen3Small.name}
  --smoke               toy sizes, nothing is recorded unless --out is given
  --out DIR             where records are appended; default benchmarks/results
  --threads N           default 2
  --rounds N            measured rounds after the warm-up; default 5 (smoke: 1)
  --passages N          size of the synthetic corpus; default 100000
  --data DIR            real data; default ../shared/data where it is there
  --peer-python PATH    a Python with torch, measured in turns with ours
  --peer-scripts DIR    bench_torch.py and bench_trl.py, used where transformers is there; default ../shared/peers
  --peer-llamacpp DIR   a folder with node-llama-cpp installed, measured in turns with ours`;

function fail(message: string): never {
  console.error(`${message}\n${usage}`);
  process.exit(2);
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function count(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) fail(`--${name} ${text}: must be an integer of at least 1`);
  return value;
}

function parseCommandLine() {
  // pnpm hands a literal "--" on.
  const args = process.argv.slice(2).filter((arg) => arg !== "--");
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        smoke: { type: "boolean", default: false },
        device: { type: "string", default: "cpu" },
        shape: { type: "string" },
        help: { type: "boolean", default: false },
        out: { type: "string" },
        threads: { type: "string", default: "2" },
        rounds: { type: "string" },
        passages: { type: "string", default: "100000" },
        data: { type: "string" },
        "peer-python": { type: "string" },
        "peer-scripts": { type: "string", default: join(repositoryRoot, "../shared/peers") },
        "peer-llamacpp": { type: "string" },
      },
    });
    return { args, values, positionals };
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

function printRecord({ name, value, unit, min, max, n }: BenchmarkRecord): void {
  const show = (x: number): string => String(Number(x.toPrecision(4)));
  console.log(`${name.padEnd(36)} ${show(value).padStart(10)} ${unit.padEnd(10)} ${show(min)}–${show(max)} n=${n}`);
}

/** Ends the program with one line if the device cannot be had. */
async function chooseDevice(wanted: string): Promise<BenchDevice> {
  if (wanted !== "cpu" && wanted !== "cuda" && wanted !== "auto") {
    return fail(`--device ${wanted}: must be cpu, cuda or auto`);
  }
  try {
    const device = await openDevice(wanted);
    if (device.note !== undefined) console.error(device.note);
    return device;
  } catch (error) {
    console.error(`error: --device ${wanted}: ${messageOf(error)}`);
    process.exit(2);
  }
}

function chooseShape(name: string | undefined, device: BenchDevice, smoke: boolean): ModelShape {
  if (smoke) return toyShape;
  if (name === undefined) return device.kind === "cpu" ? bench30m : qwen3Small;
  return modelShapes.find((shape) => shape.name === name) ?? fail(`--shape ${name}: no such shape`);
}

function chooseSizes(device: BenchDevice, smoke: boolean): BenchSizes {
  if (smoke) return toySizes;
  return device.kind === "cpu" ? cpuSizes : gpuSizes;
}

const { args, values, positionals } = parseCommandLine();
if (values.help) {
  console.log(usage);
  process.exit(0);
}
const unknown = positionals.find((name) => !(name in benchmarks));
if (unknown !== undefined) fail(`${unknown}: no such benchmark`);

const device = await chooseDevice(values.device);
const hostOnly = positionals.find((name) => !onDevice.includes(name));
if (device.kind === "cuda" && hostOnly !== undefined) fail(`${hostOnly}: knows no GPU, leave out --device`);

const threads = count("threads", values.threads);
const shape = chooseShape(values.shape, device, values.smoke);
const sizes = chooseSizes(device, values.smoke);
const defaultData = join(repositoryRoot, "../shared/data");
const dataDirectory = values.data ?? (existsSync(defaultData) ? defaultData : null);
const out = values.out ?? (values.smoke ? undefined : join(repositoryRoot, "benchmarks/results"));
const facts = runFacts(device.description, threads, args);
if ((values["peer-python"] || values["peer-llamacpp"]) && (device.kind === "cuda" || values.shape !== undefined)) {
  fail("--peer-*: the peers run the default shape on the CPU; a GPU's are part of benchmarks/gpu-acceptance");
}

await using model = await BenchModel.create(shape, device.kind, sizes);
await using peers = new AsyncDisposableStack();
let torch: TorchPeer[] = [];
let llamaCpp: LlamaCppPeer | null = null;
try {
  // The peers' sizes are fixed; at toy size there is nothing to compare with PyTorch.
  const python = values.smoke ? undefined : values["peer-python"];
  if (python) torch = await openTorchPeers(python, resolve(values["peer-scripts"]), shape, threads);
  for (const peer of torch) peers.use(peer);
  const folder = values["peer-llamacpp"];
  if (folder) llamaCpp = peers.use(await openLlamaCppPeer(resolve(folder), model, threads));
} catch (error) {
  await model[Symbol.asyncDispose]();
  fail(messageOf(error));
}

const context: BenchmarkContext = {
  smoke: values.smoke,
  device,
  sizes,
  threads,
  rounds: count("rounds", values.rounds ?? (values.smoke ? "1" : "5")),
  passages: count("passages", values.passages),
  dataDirectory,
  shape,
  model,
  torch,
  llamaCpp,
};

const canRun = (name: string): boolean => device.kind === "cpu" || onDevice.includes(name);
const byDefault = Object.keys(benchmarks).filter((name) => !onlyByName.includes(name) && canRun(name));
for (const name of positionals.length > 0 ? positionals : byDefault) {
  for await (const measurement of (benchmarks[name] as Benchmark)(context)) {
    const record = toRecord(measurement, facts, new Date());
    printRecord(record);
    if (out !== undefined) appendRecord(out, name, record);
  }
}
