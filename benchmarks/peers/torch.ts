// PyTorch peers: the Hugging Face scripts where transformers is installed, our own plain PyTorch Qwen3 otherwise.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ModelShape, rmsNormEps, ropeTheta } from "../bench-model.ts";
import { PeerProcess } from "./process.ts";

export interface PeerResult {
  tokensPerSecond: number;
  /** Of the whole process. */
  peakBytes: number;
}

export interface GrpoStepResult {
  seconds: number;
  phases: Record<string, number>;
}

/** One way to run the peer. Every call is one measured run (or the median of the peer's own runs). */
export interface TorchPeer extends AsyncDisposable {
  /** E.g. "transformers eager fp32, torch 2.13.0". */
  readonly name: string;
  readonly library: "transformers" | "plain";
  /** 8 sequences of 512 tokens: forward, backward, clip, AdamW. */
  trainStep(): Promise<PeerResult>;
  /** 4 sequences of 512 tokens. */
  logprobs(): Promise<PeerResult>;
  /** Prompts of 128 tokens, 64 new ones, greedy; tokens after the first. */
  decode(batch: number): Promise<PeerResult>;
  /** A GRPO step on 4 prompts x 8 samples, 64 + 64 tokens; null where the peer has none. */
  grpoStep: { of: "trl" | "transformers" | "plain_torch"; run: () => Promise<GrpoStepResult> } | null;
}

export const trainShape = { batch: 8, length: 512 } as const;
export const logprobShape = { batch: 4, length: 512 } as const;
export const decodeShape = { prompt: 128, new: 64 } as const;
export const grpoShape = { prompts: 4, group: 8, prompt: 64, new: 64 } as const;

function canImport(python: string, module: string): boolean {
  return spawnSync(python, ["-c", `import ${module}`], { stdio: "ignore" }).status === 0;
}

/** @throws Error when `python` cannot import torch */
export async function openTorchPeers(
  python: string,
  scripts: string,
  shape: ModelShape,
  threads: number,
): Promise<TorchPeer[]> {
  if (!canImport(python, "torch")) throw new Error(`--peer-python ${python}: cannot import torch`);
  if (!canImport(python, "transformers")) return [await plainPeer(python, shape, threads)];
  const peer = (mode: "eager" | "compile"): TorchPeer => transformersPeer(python, scripts, mode);
  return [peer("eager"), peer("compile")];
}

interface PlainReply {
  seconds: number;
  peakBytes: number;
  decodeSeconds: number;
  generateSeconds: number;
  trainSeconds: number;
  optimizerSeconds: number;
}

async function plainPeer(python: string, shape: ModelShape, threads: number): Promise<TorchPeer> {
  const script = fileURLToPath(new URL("torch_qwen3.py", import.meta.url));
  const environment = { OMP_NUM_THREADS: String(threads), OPENBLAS_NUM_THREADS: String(threads) };
  const child = new PeerProcess("torch_qwen3.py", python, [script], environment);
  const { torch } = await child.request<{ torch: string }>({
    op: "load",
    threads,
    shape: {
      vocab_size: shape.vocabSize,
      hidden_size: shape.hiddenSize,
      intermediate_size: shape.intermediateSize,
      num_layers: shape.numLayers,
      num_heads: shape.numHeads,
      num_kv_heads: shape.numKvHeads,
      head_dim: shape.headDim,
      rms_norm_eps: rmsNormEps,
      rope_theta: ropeTheta,
    },
  });
  const run = (op: string, sizes: object): Promise<PlainReply> => child.request<PlainReply>({ op, ...sizes });
  const rate = async (op: string, sizes: { batch: number; length: number }): Promise<PeerResult> => {
    const { seconds, peakBytes } = await run(op, sizes);
    return { tokensPerSecond: (sizes.batch * sizes.length) / seconds, peakBytes };
  };
  return {
    name: `plain torch ${torch} eager fp32`,
    library: "plain",
    trainStep: () => rate("train", trainShape),
    logprobs: () => rate("logprob", logprobShape),
    decode: async (batch) => {
      const { decodeSeconds, peakBytes } = await run("generate", { batch, ...decodeShape });
      return { tokensPerSecond: (batch * (decodeShape.new - 1)) / decodeSeconds, peakBytes };
    },
    grpoStep: {
      of: "plain_torch",
      run: async () => {
        const { seconds, generateSeconds, trainSeconds, optimizerSeconds } = await run("grpo", grpoShape);
        return { seconds, phases: { generate: generateSeconds, train: trainSeconds, optimizer: optimizerSeconds } };
      },
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

/** One entry of bench_torch.json. */
interface TransformersResult {
  error?: string;
  peak_rss_gib: number;
  step?: { tok_s_median: number };
  decode?: { tok_s_median: number };
}

/** A process for each call, as the scripts do it; only shape bench-30m and 2 threads, which the scripts fix. */
function transformersPeer(python: string, scripts: string, mode: "eager" | "compile"): TorchPeer {
  const version = execFileSync(python, ["-c", "import torch; print(torch.__version__)"], { encoding: "utf8" }).trim();
  const runFile = (file: string, args: readonly string[], directory: string, environment = {}): string => {
    const env = { ...process.env, ...environment };
    const result = spawnSync(python, [file, ...args], { cwd: directory, env, encoding: "utf8" });
    if (result.status !== 0)
      throw new Error(`${file} ${args.join(" ")}: ${(result.stderr || result.stdout).slice(-2000)}`);
    return result.stdout;
  };
  const runScript = (script: string, args: readonly string[], directory: string, environment = {}): string =>
    runFile(join(scripts, script), args, directory, environment);
  const inTemporary = <T>(use: (directory: string) => T): T => {
    const directory = mkdtempSync(join(tmpdir(), "wideseek-peer-"));
    try {
      return use(directory);
    } finally {
      rmSync(directory, { recursive: true });
    }
  };
  const task = async (name: string): Promise<PeerResult> =>
    inTemporary((directory) => {
      const output = join(directory, "bench_torch.json");
      const key = `bench-30m/${name}/fp32/${mode}`;
      runScript("bench_torch.py", [key], directory, { PEER_OUT: output });
      const result: TransformersResult | undefined = JSON.parse(readFileSync(output, "utf8"))[key];
      const rate = result?.step ?? result?.decode;
      if (!result || !rate) throw new Error(`bench_torch.py ${key}: ${result?.error ?? "no result"}`);
      return { tokensPerSecond: rate.tok_s_median, peakBytes: result.peak_rss_gib * 2 ** 30 };
    });
  const trl = async (): Promise<GrpoStepResult> =>
    inTemporary((directory) => {
      runScript("bench_trl.py", ["fp32", "3"], directory);
      const { runs } = JSON.parse(readFileSync(join(directory, "bench_trl.fp32.json"), "utf8")) as {
        runs: { error?: string; step_median_s?: number; phases?: Record<string, { median_s: number }> }[];
      };
      const done = runs.filter((run) => run.step_median_s !== undefined);
      const best = done.sort((a, b) => (a.step_median_s ?? 0) - (b.step_median_s ?? 0))[0];
      if (!best?.step_median_s) throw new Error(`bench_trl.py: ${runs[0]?.error ?? "no result"}`);
      const phases = Object.entries(best.phases ?? {}).map(([phase, { median_s }]) => [phase, median_s] as const);
      return { seconds: best.step_median_s, phases: Object.fromEntries(phases) };
    });
  const floor = async (): Promise<GrpoStepResult> =>
    inTemporary((directory) => {
      const file = fileURLToPath(new URL("transformers_grpo.py", import.meta.url));
      const { prompts, group, prompt, new: numNew } = grpoShape;
      return JSON.parse(runFile(file, [scripts, ...[prompts, group, prompt, numNew, 3].map(String)], directory));
    });
  const grpo = canImport(python, "trl")
    ? ({ of: "trl", run: trl } as const)
    : ({ of: "transformers", run: floor } as const);
  return {
    name: `transformers ${mode} fp32, torch ${version}`,
    library: "transformers",
    trainStep: () => task("train4k"),
    logprobs: () => task("logprob"),
    decode: (batch) => task(`gen${batch}`),
    grpoStep: mode === "eager" ? grpo : null,
    [Symbol.asyncDispose]: async () => undefined,
  };
}
