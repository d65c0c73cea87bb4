// Checks of what callers hand to a policy, before anything is queued. Messages say what was got and the limit.
import type { GenerateRequest, LossSettings, OptimizerSettings, PackedBatch } from "@wideseek/spec";
import { WideSeekError } from "@wideseek/spec";

/** Limits of one policy. */
export interface PolicyLimits {
  vocabSize: number;
  maxContextTokens: number;
  maxTrainTokens: number;
}

type Check = (condition: boolean, message: () => string) => asserts condition;

function checker(op: string): Check {
  return (condition, message) => {
    if (!condition) throw new WideSeekError("WS_INVALID_ARGUMENT", `${op}: ${message()}`, { op });
  };
}

const show = (value: unknown): string =>
  value === null || typeof value !== "object" ? String(value) : `a ${value.constructor?.name ?? "object"}`;

const isNumber = (value: unknown): value is number => typeof value === "number" && !Number.isNaN(value);

function checkIds(check: Check, name: string, ids: unknown, vocabSize: number): asserts ids is Int32Array {
  check(ids instanceof Int32Array, () => `${name} must be an Int32Array, got ${show(ids)}`);
  const bad = ids.findIndex((id) => id < 0 || id >= vocabSize);
  check(bad < 0, () => `${name}[${bad}] is ${ids[bad]}, the vocabulary has ${vocabSize} tokens`);
}

/** @throws WS_INVALID_ARGUMENT */
export function checkPrompt(op: string, name: string, ids: Int32Array, limits: PolicyLimits): void {
  const check: Check = checker(op);
  checkIds(check, name, ids, limits.vocabSize);
  check(ids.length > 0, () => `${name} is empty`);
  check(
    ids.length <= limits.maxContextTokens,
    () => `${name} has ${ids.length} tokens, maxContextTokens is ${limits.maxContextTokens}`,
  );
}

/** @throws WS_INVALID_ARGUMENT */
export function checkGenerateRequest(request: GenerateRequest, limits: PolicyLimits): void {
  const check: Check = checker("generate");
  check(typeof request === "object" && request !== null, () => `request must be an object, got ${show(request)}`);
  const { promptIds, maxNewTokens, seed, sampling, stopTokenIds, signal, onToken } = request;
  checkPrompt("generate", "promptIds", promptIds, limits);
  check(
    Number.isSafeInteger(maxNewTokens) && maxNewTokens >= 1,
    () => `maxNewTokens must be an integer of at least 1, got ${show(maxNewTokens)}`,
  );
  check(
    promptIds.length + maxNewTokens <= limits.maxContextTokens,
    () =>
      `${promptIds.length} prompt + ${maxNewTokens} new tokens, but maxContextTokens is ${limits.maxContextTokens}; ` +
      "shorten the prompt or ask for fewer tokens",
  );
  check(
    typeof seed === "bigint" && seed >= 0n && seed < 1n << 64n,
    () => `seed must be a bigint from 0 to 2^64-1, got ${show(seed)}`,
  );
  check(typeof sampling === "object" && sampling !== null, () => `sampling must be an object, got ${show(sampling)}`);
  const { temperature, topP, topK, minP, repetitionPenalty = 1 } = sampling;
  check(
    Number.isFinite(temperature) && temperature >= 0,
    () => `sampling.temperature must be 0 or more, got ${show(temperature)}`,
  );
  check(
    isNumber(topP) && topP > 0 && topP <= 1,
    () => `sampling.topP must be above 0 and at most 1, got ${show(topP)}`,
  );
  check(Number.isSafeInteger(topK) && topK >= 0, () => `sampling.topK must be an integer from 0, got ${show(topK)}`);
  check(isNumber(minP) && minP >= 0 && minP <= 1, () => `sampling.minP must be from 0 to 1, got ${show(minP)}`);
  check(
    Number.isFinite(repetitionPenalty) && repetitionPenalty > 0,
    () => `sampling.repetitionPenalty must be above 0, got ${show(repetitionPenalty)}`,
  );
  check(Array.isArray(stopTokenIds), () => `stopTokenIds must be an array, got ${show(stopTokenIds)}`);
  for (const id of stopTokenIds) {
    check(
      Number.isInteger(id) && id >= 0 && id < limits.vocabSize,
      () => `stopTokenIds has ${show(id)}, the vocabulary has ${limits.vocabSize} tokens`,
    );
  }
  check(
    signal === undefined || signal instanceof AbortSignal,
    () => `signal must be an AbortSignal, got ${show(signal)}`,
  );
  check(
    onToken === undefined || typeof onToken === "function",
    () => `onToken must be a function, got ${show(onToken)}`,
  );
}

/** @throws WS_INVALID_ARGUMENT */
export function checkTokenBatch(
  op: string,
  batch: Pick<PackedBatch, "tokenIds" | "cuSeqlens">,
  limits: PolicyLimits,
): void {
  const check: Check = checker(op);
  check(typeof batch === "object" && batch !== null, () => `batch must be an object, got ${show(batch)}`);
  const { tokenIds, cuSeqlens } = batch;
  checkIds(check, "tokenIds", tokenIds, limits.vocabSize);
  check(cuSeqlens instanceof Int32Array, () => `cuSeqlens must be an Int32Array, got ${show(cuSeqlens)}`);
  check(
    tokenIds.length <= limits.maxTrainTokens,
    () => `${tokenIds.length} tokens, planned for ${limits.maxTrainTokens}; pack fewer or raise maxTrainTokens`,
  );
  check(
    cuSeqlens.length >= 2 && cuSeqlens[0] === 0 && cuSeqlens.at(-1) === tokenIds.length,
    () => `cuSeqlens must go from 0 to ${tokenIds.length}, the number of tokenIds`,
  );
  const flat = cuSeqlens.findIndex((end, index) => index > 0 && end <= (cuSeqlens[index - 1] as number));
  check(
    flat < 0,
    () => `cuSeqlens must increase, but entry ${flat} is ${cuSeqlens[flat]} after ${cuSeqlens[flat - 1]}`,
  );
}

/** @throws WS_INVALID_ARGUMENT */
export function checkTrainingBatch(batch: PackedBatch, loss: LossSettings, limits: PolicyLimits): void {
  const check: Check = checker("forwardBackward");
  checkTokenBatch("forwardBackward", batch, limits);
  const length = batch.tokenIds.length;
  const checkFloats = (name: string, values: unknown): void => {
    check(values instanceof Float32Array, () => `${name} must be a Float32Array, got ${show(values)}`);
    check(values.length === length, () => `${name} has ${values.length} entries, tokenIds has ${length}`);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    check(bad < 0, () => `${name}[${bad}] is ${values[bad]}, must be finite`);
  };
  checkFloats("lossWeights", batch.lossWeights);
  checkFloats("advantages", batch.advantages);
  checkFloats("behaviorLogprobs", batch.behaviorLogprobs);
  if (batch.refLogprobs !== undefined) checkFloats("refLogprobs", batch.refLogprobs);
  for (const start of batch.cuSeqlens.subarray(0, -1)) {
    check(batch.lossWeights[start] === 0, () => `lossWeights[${start}] must be 0: nothing predicts a first token`);
  }
  check(typeof loss === "object" && loss !== null, () => `loss must be an object, got ${show(loss)}`);
  if (loss.kind === "nll") return;
  check(loss.kind === "grpo", () => `loss.kind must be "nll" or "grpo", got ${show((loss as { kind: unknown }).kind)}`);
  const { temperature, clipLow, clipHigh, dualClip, klCoefficient } = loss;
  check(
    Number.isFinite(temperature) && temperature > 0,
    () => `loss.temperature must be above 0, got ${show(temperature)}`,
  );
  check(
    isNumber(clipLow) && clipLow >= 0 && clipLow < 1,
    () => `loss.clipLow must be from 0 to below 1, got ${show(clipLow)}`,
  );
  check(isNumber(clipHigh) && clipHigh >= 0, () => `loss.clipHigh must be 0 or more, got ${show(clipHigh)}`);
  check(
    isNumber(dualClip) && dualClip > 1,
    () => `loss.dualClip must be above 1 (Infinity = off), got ${show(dualClip)}`,
  );
  check(
    Number.isFinite(klCoefficient) && klCoefficient >= 0,
    () => `loss.klCoefficient must be 0 or more, got ${show(klCoefficient)}`,
  );
  check(
    klCoefficient === 0 || batch.refLogprobs !== undefined,
    () => "refLogprobs is required because klCoefficient is above 0",
  );
}

/** @throws WS_INVALID_ARGUMENT */
export function checkTemperature(op: string, temperature: number): void {
  const check: Check = checker(op);
  check(
    Number.isFinite(temperature) && temperature > 0,
    () => `temperature must be a number above 0, got ${show(temperature)}`,
  );
}

/** @throws WS_INVALID_ARGUMENT */
export function checkOptimizerSettings(settings: OptimizerSettings): void {
  const check: Check = checker("optimizerStep");
  check(typeof settings === "object" && settings !== null, () => `settings must be an object, got ${show(settings)}`);
  const { learningRate, maxGradNorm, beta1, beta2, epsilon, weightDecay } = settings;
  check(
    Number.isFinite(learningRate) && learningRate >= 0,
    () => `learningRate must be 0 or more, got ${show(learningRate)}`,
  );
  check(
    isNumber(maxGradNorm) && maxGradNorm > 0,
    () => `maxGradNorm must be above 0 (Infinity = off), got ${show(maxGradNorm)}`,
  );
  check(isNumber(beta1) && beta1 >= 0 && beta1 < 1, () => `beta1 must be from 0 to below 1, got ${show(beta1)}`);
  check(isNumber(beta2) && beta2 >= 0 && beta2 < 1, () => `beta2 must be from 0 to below 1, got ${show(beta2)}`);
  check(Number.isFinite(epsilon) && epsilon > 0, () => `epsilon must be above 0, got ${show(epsilon)}`);
  check(
    Number.isFinite(weightDecay) && weightDecay >= 0,
    () => `weightDecay must be 0 or more, got ${show(weightDecay)}`,
  );
}
