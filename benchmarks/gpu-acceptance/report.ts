// From the lines that the parts of an acceptance run printed to named figures.
// Reads no files and starts nothing.

/** What one program was started for, and what came of it. */
export interface Part {
  name: string;
  status: "passed" | "failed" | "timed out" | "skipped" | "no GPU";
  seconds: number;
  /** Why it did not pass. */
  reason?: string;
  /** JSON objects that it printed. */
  lines: Record<string, unknown>[];
  /** The end of what else it printed. */
  output: string;
}

export interface FigureValue {
  name: string;
  unit: string;
  value: number;
  min: number;
  max: number;
  n: number;
  params: Record<string, unknown>;
}

type Line = Record<string, unknown>;

export const modelNames: Readonly<Record<string, string>> = { "qwen3-0.6b": "0_6b", "qwen3-4b": "4b" };

const lengthName = (length: unknown): string => `${Number(length) / 1024}k`;

function figure(
  name: string,
  unit: string,
  value: number,
  params: Line,
  range?: [unknown, unknown],
  n = 1,
): FigureValue {
  const [min, max] = range ?? [value, value];
  return { name, unit, value, min: Number(min), max: Number(max), n, params };
}

/** The best tokens/s of PyTorch, eager or compiled, for one shape and length. */
function bestPeer(lines: readonly Line[], shape: unknown, length: unknown): Line | undefined {
  return lines
    .filter((line) => line.task === "train" && line.shape === shape && line.length === length && line.tokens_per_s)
    .sort((a, b) => Number(b.tokens_per_s) - Number(a.tokens_per_s))[0];
}

/** The higher of the matrix rates that ours and PyTorch's program measured: the harder bound. */
function matrixRate(lines: readonly Line[]): number | undefined {
  const rates = lines.filter((line) => line.bench === "matmul" || line.task === "matmul");
  return rates.length === 0 ? undefined : Math.max(...rates.map((line) => Number(line.tflops)));
}

function trainingFigures(lines: readonly Line[]): FigureValue[] {
  const rate = matrixRate(lines);
  return lines.flatMap((line) => {
    const model = modelNames[String(line.shape)];
    if (line.bench !== "train" || model === undefined) return [];
    const { shape, length, sequences, recompute } = line;
    const prefix = `gpu.train.${model}.${lengthName(length)}`;
    const params = { shape, length, sequences, recompute, weights: "bf16", moments: "fp32", master: "fp32" };
    const ours = Number(line.tokens_per_s);
    const range: [unknown, unknown] = [line.tokens_per_s_min, line.tokens_per_s_max];
    const figures = [figure(`${prefix}.tokens_per_s`, "token/s", ours, params, range, Number(line.n))];
    if (rate !== undefined) {
      const modelTflops = Number(line.model_tflops);
      figures.push(
        figure(`${prefix}.mfu`, "ratio", modelTflops / rate, { ...params, modelTflops, matrixTflops: rate }),
      );
    }
    const peer = bestPeer(lines, shape, length);
    if (peer) {
      const theirs = Number(peer.tokens_per_s);
      const absolute = { oursTokensPerSecond: ours, peerTokensPerSecond: theirs, peerCompiled: peer.compiled };
      figures.push(
        figure(`${prefix}.vs_torch`, "ratio", ours / theirs, { ...params, ...absolute, peer: "bf16 moments" }),
      );
    }
    const peak = Number(line.peak_bytes);
    const planned = Number(line.planned_bytes);
    figures.push(figure(`${prefix}.peak_gb`, "GB", peak / 1e9, params));
    figures.push(
      figure(`${prefix}.plan_error`, "ratio", Math.abs(peak / planned - 1), {
        ...params,
        peakGb: peak / 1e9,
        plannedGb: planned / 1e9,
        source: "Trainer::planned_bytes",
      }),
    );
    return figures;
  });
}

/** The limit of decoding is the time that its bytes take at the measured copy bandwidth. */
function generationFigures(lines: readonly Line[]): FigureValue[] {
  const copy = lines.find((line) => line.bench === "copy")?.tb_per_s;
  const rate = matrixRate(lines);
  return lines.flatMap((line) => {
    const { shape, batch, context, tokens_per_s: tokensPerSecond } = line;
    const model = modelNames[String(shape)];
    if (model === undefined) return [];
    if (line.bench === "onpolicy") {
      const { longest, requests, preemptions } = line;
      const batches = { largestBatch: line.largest_batch, preemptions, cachedTokens: line.cached_tokens };
      const params = { shape, dtype: "bf16", requests, longest, ...batches, unequal: line.unequal };
      return [
        figure("onpolicy.gpu.max_abs_diff", "nats", Number(line.max_abs_diff), params),
        figure("onpolicy.gpu.tokens", "1", Number(line.tokens), params),
      ];
    }
    const params = { shape, dtype: "bf16", batch, contextTokens: context, tokensPerSecond };
    if (line.bench === "decode") {
      const name = `gpu.decode.${model}.b${batch}`;
      const range: [unknown, unknown] = [
        Number(batch) / (Number(line.ms_max) / 1000),
        Number(batch) / (Number(line.ms_min) / 1000),
      ];
      const speed = figure(name, "token/s", Number(tokensPerSecond), params, range, Number(line.steps));
      if (copy === undefined) return [speed];
      const share = Number(line.tb_per_s) / Number(copy);
      const bytes = { bytesPerStep: line.bytes, copyTbPerSecond: copy };
      return [speed, figure(`${name}.share_of_limit`, "ratio", share, { ...params, ...bytes })];
    }
    // One prompt alone says little of the matrix rate, many of the whole.
    if (line.bench !== "prefill" || rate === undefined || batch !== 64) return [];
    const share = Number(line.tflops) / rate;
    return [figure(`gpu.prefill.${model}.share_of_matrix_rate`, "ratio", share, { ...params, matrixTflops: rate })];
  });
}

function kernelFigures(lines: readonly Line[]): FigureValue[] {
  return lines
    .filter((line) => line.kernel !== undefined && line.share_of_copy !== undefined)
    .map((line) => {
      const { us, min_us: minUs, gbps } = line;
      const name = `gpu.kernel.${line.kernel}_${line.dtype}.share_of_copy`;
      return figure(name, "ratio", Number(line.share_of_copy), { us, minUs, gbps }, undefined, 20);
    });
}

/** Of 4B: what it saves that sequences share blocks of the KV cache. */
function sharingFigures(lines: readonly Line[]): FigureValue[] {
  return lines.flatMap(({ bench, ...line }) => {
    const name = bench === "prefix_sharing" ? "prefill_speedup" : "decode_speedup";
    const values = line[name];
    if (!Array.isArray(values) || line.shape !== "qwen3-4b") return [];
    const range: [unknown, unknown] = [Math.min(...values), Math.max(...values)];
    const value = values.toSorted((a, b) => a - b)[values.length >> 1];
    return [figure(`gpu.${bench}.${name}`, "ratio", value, { dtype: "bf16", ...line }, range, values.length)];
  });
}

function ceilingFigures(lines: readonly Line[]): FigureValue[] {
  return lines.flatMap((line) => {
    if (line.bench === "matmul") {
      const range: [unknown, unknown] = [line.tflops_min, line.tflops_max];
      return [figure("gpu.matmul_tflops", "TFLOP/s", Number(line.tflops), { n: line.n, dtype: "bf16" }, range, 10)];
    }
    if (line.bench === "copy") {
      return [figure("gpu.copy_tb_per_s", "TB/s", Number(line.tb_per_s), { bytes: line.bytes }, undefined, 10)];
    }
    // As figures.md names it: 16k tokens, causal, head dimension 128.
    if (line.bench !== "attention" || line.length !== 16384) return [];
    const params = { length: line.length, heads: 32, kvHeads: 8, headDim: 128 };
    return (["fwd", "bwd"] as const).map((way) => {
      const range: [unknown, unknown] = [line[`${way}_min`], line[`${way}_max`]];
      return figure(`gpu.attention.${way}_tflops`, "TFLOP/s", Number(line[`${way}_tflops`]), params, range, 5);
    });
  });
}

function goldenFigures(lines: readonly Line[]): FigureValue[] {
  return ["float32", "bfloat16"].flatMap((dtype) => {
    const found = lines.filter((line) => line.golden !== undefined && line.dtype === dtype && line.device === "cuda");
    const errors = found.map((line) => Number(line.relative)).filter(Number.isFinite);
    if (errors.length === 0) return [];
    const failed = found.filter((line) => line.ok !== true).length;
    const params = { cases: found.length, failed };
    return [figure(`gpu.golden.${dtype}.max_relative_error`, "1", Math.max(...errors), params)];
  });
}

/** A quantity with its error and that of PyTorch in bfloat16, both against one reference. */
interface Compared {
  at: string;
  ours: number;
  torch: number;
}

const asError = (value: unknown): number => (typeof value === "number" ? value : Infinity);

/** Ours over PyTorch's. Where it has no error at all, one of ours is beyond any bound. */
const errorRatio = ({ ours, torch }: Compared): number => (ours === 0 ? 0 : ours / torch);

/** The worst ratio under `name`, and what shows that everything was compared. No number is too bad to be one. */
function ratioFigure(name: string, compared: readonly Compared[], params: Line): FigureValue[] {
  const worst = compared.toSorted((a, b) => errorRatio(b) - errorRatio(a))[0];
  if (worst === undefined) return [];
  const { at, ours, torch } = worst;
  const value = Math.min(Number.isNaN(errorRatio(worst)) ? Infinity : errorRatio(worst), Number.MAX_VALUE);
  return [
    figure(name, "ratio", value, { ...params, quantities: compared.length, at, oursError: ours, torchError: torch }),
  ];
}

/**
 * PyTorch's errors of golden cases, beside ours of the same quantities; what ours lacks is infinitely wrong. Where rounding
 * has put a token of either on another branch of the loss, the gradient jumps by chance, and the case is only named.
 */
function goldenAgreementFigures(lines: readonly Line[]): FigureValue[] {
  const ours = new Map(
    lines.flatMap((line): [string, Line][] =>
      line.golden !== undefined && line.dtype === "bfloat16" && line.device === "cuda"
        ? [[String(line.golden), line]]
        : [],
    ),
  );
  const jumped: string[] = [];
  const compared = lines.flatMap((line) => {
    if (line.peer_golden === undefined || line.device !== "cuda") return [];
    const name = String(line.peer_golden);
    const cases = [name, `${name}, recomputed`].filter((each) => each === name || ours.has(each));
    return cases.flatMap((each) => {
      const { errors, flipped = 0 } = ours.get(each) ?? {};
      if (Number(flipped) > 0 || Number(line.flipped ?? 0) > 0) {
        jumped.push(`${each} (tokens: ours ${flipped}, PyTorch ${line.flipped})`);
        return [];
      }
      return Object.entries(line.errors as Line).map(([quantity, torch]): Compared => {
        return {
          at: `${each}: ${quantity}`,
          ours: asError((errors as Line | undefined)?.[quantity]),
          torch: asError(torch),
        };
      });
    });
  });
  // Of a PyTorch alone nothing is known.
  return ours.size === 0
    ? []
    : ratioFigure("gpu.golden.bfloat16.error_vs_torch", compared, { acrossAClip: jumped.join("; ") });
}

/** Log-probabilities and gradients of a published shape. */
function trueShapeFigures(lines: readonly Line[]): FigureValue[] {
  return lines.flatMap((line) => {
    const model = modelNames[String(line.agreement)];
    if (model === undefined || line.device !== "cuda") return [];
    const compared = Object.entries(line.errors as Record<string, [unknown, unknown]>).map(
      ([at, [ours, torch]]): Compared => ({ at, ours: asError(ours), torch: asError(torch) }),
    );
    const { reference, lengths, torch, transformers } = line;
    const params = { reference, lengths, peer: `torch ${torch}, transformers ${transformers}` };
    const worst = compared.toSorted((a, b) => b.ours - a.ours)[0];
    if (worst === undefined) return [];
    const largest = Math.min(worst.ours, Number.MAX_VALUE);
    return [
      ...ratioFigure(`gpu.true_shapes.${model}.error_vs_torch`, compared, params),
      figure(`gpu.true_shapes.${model}.max_relative_error`, "1", largest, { ...params, at: worst.at }),
    ];
  });
}

/** Time of the products of one step of Qwen3-4B that one algorithm for every number of rows costs. */
function invarianceFigures(lines: readonly Line[]): FigureValue[] {
  return lines
    .filter((line) => line.invariance !== undefined)
    .map(({ invariance, cost, us, free_us: freeUs, worst, worst_cost: worstCost }) => {
      const params = { us, freeUs, worst, worstCost };
      return figure(`gpu.invariance.4b.${invariance}.cost`, "ratio", Number(cost), params, undefined, 20);
    });
}

/** Forward products of Qwen3-4B's layers by our own kernels. */
function productFigures(lines: readonly Line[]): FigureValue[] {
  return lines.flatMap((line) => {
    const { rows, us, cublaslt_us: fixedUs, cublaslt_best_us: bestUs, tiles, unequal, last_unequal: last } = line;
    const of = (what: string, unit: string, value: number): FigureValue =>
      figure(`gpu.products.4b.rows${rows}.${what}`, unit, value, { us, fixedUs, bestUs }, undefined, 20);
    if (line.product_bits !== undefined)
      return [figure("gpu.products.4b.unequal", "1", Number(unequal), { tiles, last })];
    if (line.products === undefined) return [];
    const shareOfCopy = of("share_of_copy", "ratio", Number(line.share_of_copy));
    const ofCublasLt = of("vs_cublaslt", "ratio", Number(fixedUs) / Number(us));
    return [ofCublasLt, shareOfCopy, of("tflops", "TFLOP/s", Number(line.tflops))];
  });
}

/** Tools that found something, once all of them ran. */
function sanitizerFigures(parts: readonly Part[]): FigureValue[] {
  const found = parts.filter((part) => part.name.startsWith("compute-sanitizer"));
  const ran = found.filter(({ status }) => status === "passed" || status === "failed");
  if (found.length === 0 || ran.length < found.length) return [];
  const failed = found.filter(({ status }) => status === "failed").length;
  return [figure("gpu.sanitizer.errors", "1", failed, { tools: found.map(({ name }) => name).join(", ") })];
}

/** Everything that was measured; what was not is absent. */
export function figuresOf(parts: readonly Part[]): FigureValue[] {
  const lines = parts.flatMap((part) => part.lines);
  const all = [
    ...[ceilingFigures, kernelFigures, productFigures, trainingFigures, invarianceFigures].flatMap((each) =>
      each(lines),
    ),
    ...[goldenFigures, goldenAgreementFigures, trueShapeFigures].flatMap((each) => each(lines)),
    ...[generationFigures, sharingFigures].flatMap((each) => each(lines)),
  ];
  return [...all, ...sanitizerFigures(parts)].filter((found) => Number.isFinite(found.value));
}
