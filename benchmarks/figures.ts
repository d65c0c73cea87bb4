// The names this project's figures go by, for BENCHMARKS.md. Owns no values.

export interface Figure {
  /** May hold `<model>` and `<len>`, which stand for any one word. */
  name: string;
  unit: string;
  meaning: string;
}

const seeds = [0, 1, 2];
const widths = [1, 2, 4, 8];

const learning: Figure[] = seeds.flatMap((seed) => {
  const figure = (name: string, meaning: string): Figure => ({
    name: `learning.seed${seed}.${name}`,
    unit: "1",
    meaning,
  });
  return [
    figure("f1_before", "held-out item F1 Avg@4 of the shipped model, multi-agent"),
    figure("f1_after", "the same of the trained model"),
    figure("f1_single_before", "held-out item F1 Avg@4 of the shipped model, single agent"),
    figure("f1_single_after", "the same of the trained model"),
    figure("f1_single_trained", "the same of a model trained as a single agent by the same recipe"),
    ...widths.flatMap((width) => [
      figure(`width${width}_before`, `the shipped model with at most ${width} subagents in total`),
      figure(`width${width}_after`, `the trained model with at most ${width} subagents in total`),
    ]),
  ];
});

const ratio = (name: string, meaning: string): Figure => ({ name, unit: "ratio", meaning });

export const figures: readonly Figure[] = [
  ...learning,
  { name: "learning.seconds", unit: "s", meaning: "`pnpm run train` with its defaults on 2 cores, after installation" },
  {
    name: "setup.seconds",
    unit: "s",
    meaning: "fresh clone to the first training step, installation and build included",
  },
  {
    name: "onpolicy.cpu.max_abs_diff",
    unit: "nats",
    meaning: "largest difference between sampled and training log-probability",
  },
  { name: "onpolicy.cpu.tokens", unit: "1", meaning: "tokens compared" },
  ratio("cpu.train_step.vs_torch", "tokens/s over the best PyTorch figure, 30 M shape, 2 threads"),
  ratio("cpu.train_step.rss_vs_torch", "peak memory over PyTorch's; below 1 is less"),
  ...[1, 8, 32].map((batch) =>
    ratio(`cpu.decode${batch}.vs_transformers`, "decode tokens/s over transformers generate"),
  ),
  ...[1, 8].map((batch) => ratio(`cpu.decode${batch}.vs_llamacpp`, "decode tokens/s over llama.cpp, same precision")),
  ratio("cpu.grpo_step.vs_trl", "episodes/s of a whole GRPO step over TRL on the same shapes"),
  ratio(
    "cpu.grpo_step.vs_transformers",
    "episodes/s of a whole GRPO step over the least that one on transformers must do",
  ),
  ratio(
    "cpu.rollout.busy_share",
    "share of runnable time that the engine computes: 64 episodes of the shipped model, tools of 0.3 s median, 10 s p99",
  ),
  { name: "cpu.rollout.tokens_per_second", unit: "token/s", meaning: "sampled in the same rollout, tails included" },
  ratio(
    "forest.embedded.saved_share",
    "tokens of episodes that a training pass need not compute, for others share them",
  ),
  ratio(
    "forest.embedded.speedup",
    "processor time of forward and backward without shared prefixes over that with them, same gradients",
  ),
  { name: "gpu.golden.float32.max_relative_error", unit: "1", meaning: "worst golden case, fp32 path" },
  { name: "gpu.golden.bfloat16.max_relative_error", unit: "1", meaning: "worst golden case, bf16 path" },
  ratio(
    "gpu.golden.bfloat16.error_vs_torch",
    "error against the float64 golden data over that of PyTorch bf16, worst quantity",
  ),
  ratio(
    "gpu.true_shapes.<model>.error_vs_torch",
    "error of log-probabilities and every gradient over that of transformers in bf16, worst tensor",
  ),
  {
    name: "gpu.true_shapes.<model>.max_relative_error",
    unit: "1",
    meaning: "worst of log-probabilities and gradients in bf16 against transformers in float64",
  },
  ratio(
    "gpu.invariance.4b.<step>.cost",
    "time of a step's matrix products lost by one order of sums for every number of rows",
  ),
  {
    name: "gpu.products.4b.unequal",
    unit: "1",
    meaning: "tiles and numbers of rows whose forward product has other bits than that of 300 rows",
  },
  ratio(
    "gpu.products.4b.rows<M>.vs_cublaslt",
    "time of a pass's forward products by one cuBLASLt algorithm for all numbers of rows over that of our own kernels",
  ),
  ratio(
    "gpu.products.4b.rows<M>.share_of_copy",
    "their bytes a second over the copy bandwidth measured in the same run",
  ),
  { name: "gpu.products.4b.rows<M>.tflops", unit: "TFLOP/s", meaning: "their multiplications and additions" },
  ratio("gpu.train.<model>.<len>.vs_torch", "training step tokens/s over PyTorch"),
  ratio("gpu.train.<model>.<len>.mfu", "share of the matrix rate measured in the same run (6N + attention FLOPs)"),
  { name: "gpu.attention.fwd_tflops", unit: "TFLOP/s", meaning: "causal, head dimension 128, 16k tokens" },
  { name: "gpu.attention.bwd_tflops", unit: "TFLOP/s", meaning: "causal, head dimension 128, 16k tokens" },
  { name: "gpu.train.4b.32k.peak_gb", unit: "GB", meaning: "peak device memory of a GRPO step" },
  ratio("gpu.train.4b.32k.plan_error", "deviation from the printed plan"),
  ...[1, 64, 256].flatMap((batch) => [
    ratio(`gpu.decode.4b.b${batch}.share_of_limit`, "limit = bytes that must move over measured copy bandwidth"),
    ratio(`gpu.decode.4b.b${batch}.vs_transformers`, "decode tokens/s over transformers generate"),
  ]),
  ratio("gpu.prefill.4b.share_of_matrix_rate", "prefill FLOP/s over the measured matrix rate"),
  ratio(
    "gpu.prefix_sharing.prefill_speedup",
    "prefill of 8 equal prompts of 4k over that of prompts which differ in the first token",
  ),
  ratio(
    "gpu.agent_tree.decode_speedup",
    "decode of 8 leads with 10 subagents each over the same when every agent's first token differs",
  ),
  { name: "onpolicy.gpu.max_abs_diff", unit: "nats", meaning: "bit-equal mode: difference" },
  { name: "onpolicy.gpu.tokens", unit: "1", meaning: "bit-equal mode: tokens compared" },
  ratio("onpolicy.gpu.cost", "bit-equal mode: throughput lost"),
  ratio(
    "gpu.grpo_step.<model>.busy_share",
    "share of runnable time that the engine computes: 64 teams of a fixed form, tools of 0.3 s median, 10 s p99",
  ),
  { name: "gpu.rollout.<model>.tokens_per_second", unit: "token/s", meaning: "sampled in the same rollout" },
  { name: "gpu.rollout.<model>.step_seconds", unit: "s", meaning: "the whole GRPO step on them" },
  { name: "tools.search.qps", unit: "1/s", meaning: "1 M passages, 2 cores" },
  { name: "tools.search.p99_ms", unit: "ms", meaning: "1 M passages, 2 cores, at 2,000 requests a second" },
  { name: "tools.search.long.qps", unit: "1/s", meaning: "the same with queries of eight words" },
  { name: "tools.search.long.p99_ms", unit: "ms", meaning: "the same with queries of eight words" },
  { name: "tools.recall_at3.bm25", unit: "1", meaning: "linked passages of the 600 real tables" },
  { name: "tools.recall_at10.bm25", unit: "1", meaning: "linked passages of the 600 real tables" },
  { name: "scorer.widesearch800.seconds", unit: "s", meaning: "200 tasks × 4 samples without an LLM" },
  { name: "episodes.1000.lost", unit: "1", meaning: "under injected faults" },
  { name: "episodes.1000.loop_delay_p99_ms", unit: "ms", meaning: "under injected faults" },
  { name: "episodes.1000.peak_rss_mb", unit: "MB", meaning: "under injected faults" },
  {
    name: "suite.table1.<row>.item_f1",
    unit: "1",
    meaning:
      "a row of Table 1 on the embedded world, item F1 Avg@4, scripted models in the place of other systems' weights",
  },
  {
    name: "suite.table2.<row>.qa",
    unit: "1",
    meaning: "a row of Table 2 on single facts of the embedded world, Avg@4",
  },
  { name: "pipeline.20k.seconds", unit: "s", meaning: "data construction against the scripted server" },
  { name: "pipeline.20k.rss_mb", unit: "MB", meaning: "data construction against the scripted server" },
  { name: "pipeline.20k.keep_recall", unit: "1", meaning: "data construction against the scripted server" },
  { name: "pipeline.20k.drop_recall", unit: "1", meaning: "data construction against the scripted server" },
  { name: "serve.streams500.lost", unit: "1", meaning: "API server under load" },
  ratio("serve.decode.vs_direct", "throughput of the API server over the engine called directly"),
];

/** True when `name` is the figure's, a placeholder standing for one word without dots. */
export function isFigure(figure: Figure, name: string): boolean {
  const parts = figure.name.split(/<\w+>/).map((part) => part.replaceAll(".", "\\."));
  return new RegExp(`^${parts.join("[^.]+")}$`).test(name);
}

/** Something that only a GPU can decide, and what decides it there. */
export interface Goal {
  goal: string;
  command: string;
  /** Figures whose records together show that it was measured; may hold placeholders. */
  figures: readonly string[];
}

const acceptance = "pnpm run pack:gpu, then sh build/gpu-bundle/run.sh on the GPU host";
const generation = `${acceptance} with --part generation`;
const all = (lengths: readonly string[], figure: string): string[] =>
  ["0_6b", "4b"].flatMap((model) => lengths.map((length) => `gpu.train.${model}.${length}.${figure}`));

/** What CUDA training and generation are judged by, beyond what runs without a GPU. */
export const gpuGoals: readonly Goal[] = [
  {
    goal: "golden cases, fp32 within 1e-4 relative",
    command: acceptance,
    figures: ["gpu.golden.float32.max_relative_error"],
  },
  {
    goal: "golden cases, bf16 error at most 1.5 times that of PyTorch bf16 on the same inputs",
    command: acceptance,
    figures: ["gpu.golden.bfloat16.error_vs_torch"],
  },
  {
    goal: "log-probabilities and gradients of Qwen3-0.6B and 4B at true shapes agree with transformers",
    command: acceptance,
    figures: ["0_6b", "4b"].map((model) => `gpu.true_shapes.${model}.error_vs_torch`),
  },
  {
    goal: "compute-sanitizer (memcheck, racecheck) clean on small cases",
    command: acceptance,
    figures: ["gpu.sanitizer.errors"],
  },
  {
    goal: "training step at least 1.2 times PyTorch's tokens/s, Qwen3-0.6B and 4B at 2k, 8k, 32k",
    command: acceptance,
    figures: all(["2k", "8k", "32k"], "vs_torch"),
  },
  {
    goal: "Qwen3-4B at 8k at 50 % or more of the measured matrix rate",
    command: acceptance,
    figures: ["gpu.train.4b.8k.mfu"],
  },
  {
    goal: "attention at 450 TFLOP/s forward and 350 backward or more (causal, head dimension 128, 16k)",
    command: acceptance,
    figures: ["gpu.attention.fwd_tflops", "gpu.attention.bwd_tflops"],
  },
  {
    goal: "memory-bound kernels at 85 % or more of the measured copy bandwidth",
    command: acceptance,
    figures: ["gpu.kernel.<kernel>.share_of_copy"],
  },
  {
    goal: "a training step of Qwen3-4B at 32,000 tokens leaves 30 GB of one card, peak within 5 % of the plan",
    command: acceptance,
    figures: ["gpu.train.4b.32k.peak_gb", "gpu.train.4b.32k.plan_error"],
  },
  {
    goal: "the embedded default learns on the GPU as on the CPU",
    command: "pnpm run bench learning --device cuda",
    figures: seeds.map((seed) => `gpu.learning.seed${seed}.f1_after`),
  },
  {
    goal: "sampled log-probabilities equal those of training to the bit, 100,000 tokens of a mixed workload",
    command: generation,
    figures: ["onpolicy.gpu.max_abs_diff", "onpolicy.gpu.tokens"],
  },
  {
    goal: "decoding Qwen3-4B at 85 % of the bandwidth limit at batch 1, 75 % at 64 and 256 with contexts of 2k",
    command: generation,
    figures: [1, 64, 256].map((batch) => `gpu.decode.4b.b${batch}.share_of_limit`),
  },
  {
    goal: "prefill of Qwen3-4B at 55 % or more of the measured matrix rate",
    command: generation,
    figures: ["gpu.prefill.4b.share_of_matrix_rate"],
  },
  {
    goal: "decoding at least 3 times transformers (static cache, compiled) at batch 1, 10 times at 64",
    command: "pnpm run bench generate --device cuda --shape 4b",
    figures: ["gpu.decode.4b.b1.vs_transformers", "gpu.decode.4b.b64.vs_transformers"],
  },
  {
    goal: "a shared prompt of 4k gives a group of 8 at least 4 times the prefill throughput",
    command: generation,
    figures: ["gpu.prefix_sharing.prefill_speedup"],
  },
  {
    goal: "a recorded agent tree decodes at least 1.5 times as fast with shared blocks read once as without",
    command: generation,
    figures: ["gpu.agent_tree.decode_speedup"],
  },
  {
    goal: "64 episodes with slow tools keep the GPU busy at least 90 % of the time that there is work",
    command: "pnpm run bench rollout --device cuda --shape 4b --rounds 1",
    figures: ["gpu.grpo_step.4b.busy_share", "gpu.rollout.4b.step_seconds"],
  },
  {
    goal: "speed of GRPO steps at true shapes",
    command: "pnpm run bench --device cuda --shape 4b",
    figures: ["gpu.grpo_step.4b"],
  },
  {
    goal: "forward products have the same bits whatever the number of rows, at the speed of memory or of cuBLASLt",
    command: acceptance,
    figures: ["unequal", "rows1.share_of_copy", "rows64.share_of_copy", "rows8192.tflops", "rows8192.vs_cublaslt"].map(
      (figure) => `gpu.products.4b.${figure}`,
    ),
  },
  {
    goal: "cost of batch invariance, which is always on",
    command: acceptance,
    figures: ["train8k", "decode1", "decode64", "decode256"].map((step) => `gpu.invariance.4b.${step}.cost`),
  },
];
