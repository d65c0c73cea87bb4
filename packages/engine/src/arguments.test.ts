// Every argument of a policy and of the addon missing, of the wrong type, too short or out of range.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadAddon } from "./addon.ts";
import { parseModelConfig } from "./model-config.ts";
import { NativePolicy } from "./native-policy.ts";
import { ADAMW, GRPO, TINY_CONFIG, TINY_MOE_CONFIG, tinyBatch, tinyPolicy, tinyRequest } from "./test-model.ts";

describe("arguments", () => {
  let policy: NativePolicy;
  beforeAll(async () => {
    policy = await tinyPolicy({ maxContextTokens: 128 });
  });
  afterAll(async () => await policy.close());

  // biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
  const wrong = (value: unknown): any => value;
  const sampling = (change: object): object => ({ temperature: 1, topP: 1, topK: 0, minP: 0, ...change });

  test.each<[string, object, string]>([
    ["no prompt", { promptIds: undefined }, "promptIds"],
    ["prompt as an array", { promptIds: [1, 2] }, "promptIds"],
    ["prompt of floats", { promptIds: new Float32Array(2) }, "promptIds"],
    ["empty prompt", { promptIds: new Int32Array(0) }, "promptIds"],
    ["token beyond the vocabulary", { promptIds: Int32Array.of(1, 101) }, "promptIds[1]"],
    ["negative token", { promptIds: Int32Array.of(-1) }, "promptIds[0]"],
    ["no new tokens", { maxNewTokens: 0 }, "maxNewTokens"],
    ["half a token", { maxNewTokens: 1.5 }, "maxNewTokens"],
    ["too long a context", { maxNewTokens: 124 }, "maxContextTokens is 128"],
    ["seed as a number", { seed: 1 }, "seed"],
    ["negative seed", { seed: -1n }, "seed"],
    ["seed of 65 bits", { seed: 1n << 64n }, "seed"],
    ["no sampling", { sampling: undefined }, "sampling"],
    ["no temperature", { sampling: sampling({ temperature: undefined }) }, "temperature"],
    ["negative temperature", { sampling: sampling({ temperature: -1 }) }, "temperature"],
    ["infinite temperature", { sampling: sampling({ temperature: Infinity }) }, "temperature"],
    ["topP 0", { sampling: sampling({ topP: 0 }) }, "topP"],
    ["topK negative", { sampling: sampling({ topK: -1 }) }, "topK"],
    ["topK a fraction", { sampling: sampling({ topK: 1.5 }) }, "topK"],
    ["minP NaN", { sampling: sampling({ minP: Number.NaN }) }, "minP"],
    ["repetitionPenalty 0", { sampling: sampling({ repetitionPenalty: 0 }) }, "repetitionPenalty"],
    ["no stop tokens", { stopTokenIds: undefined }, "stopTokenIds"],
    ["stop token out of range", { stopTokenIds: [101] }, "stopTokenIds"],
    ["signal of another kind", { signal: {} }, "signal"],
    ["onToken of another kind", { onToken: 5 }, "onToken"],
  ])("generate: %s", async (_what, change, hint) => {
    await expect(policy.generate(wrong({ ...tinyRequest(), ...change }))).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      op: "generate",
      message: expect.stringContaining(hint),
    });
  });

  test.each<[string, object, string]>([
    ["no tokens", { tokenIds: undefined }, "tokenIds"],
    ["token out of range", { tokenIds: new Int32Array(20).fill(101) }, "tokenIds[0]"],
    ["no cuSeqlens", { cuSeqlens: undefined }, "cuSeqlens"],
    ["cuSeqlens too short", { cuSeqlens: Int32Array.of(0) }, "cuSeqlens"],
    ["cuSeqlens that end early", { cuSeqlens: Int32Array.of(0, 10) }, "cuSeqlens"],
    ["an empty sequence", { cuSeqlens: Int32Array.of(0, 10, 10, 20) }, "cuSeqlens"],
    ["weights too short", { lossWeights: new Float32Array(19) }, "lossWeights"],
    ["weights of doubles", { lossWeights: new Float64Array(20) }, "lossWeights"],
    ["weight on a first token", { lossWeights: new Float32Array(20).fill(1) }, "lossWeights[0]"],
    ["NaN weight", { lossWeights: new Float32Array(20).fill(Number.NaN) }, "lossWeights[0]"],
    ["advantages missing", { advantages: undefined }, "advantages"],
    ["behaviorLogprobs too long", { behaviorLogprobs: new Float32Array(21) }, "behaviorLogprobs"],
    ["refLogprobs too short", { refLogprobs: new Float32Array(1) }, "refLogprobs"],
  ])("forwardBackward: %s", async (_what, change, hint) => {
    await expect(policy.forwardBackward(wrong({ ...tinyBatch(), ...change }), GRPO)).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringContaining(hint),
    });
  });

  test.each<[object, string]>([
    [{ kind: "ppo" }, "kind"],
    [{ ...GRPO, temperature: 0 }, "temperature"],
    [{ ...GRPO, clipLow: -0.1 }, "clipLow"],
    [{ ...GRPO, clipHigh: undefined }, "clipHigh"],
    [{ ...GRPO, dualClip: 1 }, "dualClip"],
    [{ ...GRPO, klCoefficient: 0.1 }, "refLogprobs"],
  ])("loss %j", async (loss, hint) => {
    await expect(policy.forwardBackward(tinyBatch(), wrong(loss))).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringContaining(hint),
    });
  });

  test.each(Object.keys(ADAMW))("optimizerStep without %s", async (name) => {
    await expect(policy.optimizerStep(wrong({ ...ADAMW, [name]: undefined }))).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringContaining(name),
    });
  });

  test("a batch larger than planned names both numbers", async () => {
    const tokenIds = new Int32Array(257);
    await expect(policy.logprobs({ tokenIds, cuSeqlens: Int32Array.of(0, 257) }, 1)).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringMatching(/257.*256/),
    });
  });

  test.each<[object, string]>([
    [{ device: "tpu" }, "device"],
    [{ threads: 0 }, "threads"],
    [{ batchTokens: 5 }, "batchTokens"],
    [{ maxContextTokens: 4096 }, "maxContextTokens"],
  ])("options %j", async (options, hint) => {
    await expect(NativePolicy.create(TINY_CONFIG, 1n, wrong(options))).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringContaining(hint),
    });
  });

  test("the addon itself checks every field, whoever calls it", () => {
    const { NativeEngine, filterProbabilities } = loadAddon();
    const invalid = expect.objectContaining({ code: "WS_INVALID_ARGUMENT" });
    for (const bad of [undefined, null, 5, "x", {}, []]) {
      expect(() => new NativeEngine(wrong(bad))).toThrow(invalid);
      expect(() => filterProbabilities(wrong(bad), wrong(bad), wrong(bad))).toThrow(invalid);
    }
  });
});

describe("the addon's own checks", () => {
  const options = {
    device: "cpu" as const,
    threads: 1,
    config: parseModelConfig(TINY_CONFIG).native,
    weightDtype: "float32" as const,
    maxContextTokens: 64,
    kvCacheTokens: 64,
    maxBatchTokens: 16,
    maxDraftTokens: 0,
    maxTrainTokens: 64,
    recompute: "none" as const,
    gradientDtype: "float32" as const,
    pinnedOptimizerState: false,
    trainWhileGenerating: false,
  };
  const invalid = expect.objectContaining({ code: "WS_INVALID_ARGUMENT" });

  test("every field of experts missing, wrong or out of range", async () => {
    const { NativeEngine } = loadAddon();
    const { native } = parseModelConfig(TINY_MOE_CONFIG);
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
    const start = (change: object): any =>
      // biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
      new NativeEngine({ ...options, config: { ...native, moe: { ...native.moe, ...change } } } as any);
    for (const field of Object.keys(native.moe ?? {})) {
      for (const bad of [undefined, null, "x", -1]) expect(() => start({ [field]: bad }), field).toThrow(invalid);
    }
    for (const layer of [-1, 2]) expect(() => start({ layers: Int32Array.of(layer) })).toThrow(invalid);
    for (const change of [{ expertsPerToken: 7 }, { numExperts: 1e6 }, { layers: new Int32Array(0) }]) {
      const engine = start(change);
      await expect(engine.info()).rejects.toEqual(invalid);
      await engine.close();
    }
  });

  test("every method with every argument missing or wrong", async () => {
    const { NativeEngine } = loadAddon();
    for (const name of Object.keys(options)) {
      // biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
      expect(() => new NativeEngine({ ...options, [name]: undefined } as any), name).toThrow(invalid);
    }
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are the point
    const engine: any = new NativeEngine(options);
    await engine.initialize(1n, 0.1);
    const request = { ...tinyRequest(), stopTokenIds: new Int32Array(0) };
    const good: Record<string, unknown[]> = {
      generate: [request],
      cancel: [1],
      logits: [request.promptIds],
      logprobs: [tinyBatch(), 1],
      forwardBackward: [tinyBatch(), GRPO],
      optimizerStep: [ADAMW],
      writeParameter: [0, new Uint8Array(101 * 32 * 4), "float32"],
      readParameter: [0, "float32"],
      readTensor: ["weight", 0],
      writeTensor: ["weight", 0, new Float32Array(101 * 32)],
      initialize: [1n, 0.1],
      setTrainingState: [0, 0n],
    };
    for (const [method, args] of Object.entries(good)) {
      for (const [index, argument] of args.entries()) {
        const replace = (value: unknown): unknown[] => args.map((old, n) => (n === index ? value : old));
        for (const bad of [undefined, null, true, Symbol.iterator.description, () => 0, new Int8Array(1)]) {
          expect(() => engine[method](...replace(bad)), `${method} ${index} ${bad}`).toThrow(invalid);
        }
        if (typeof argument !== "object" || ArrayBuffer.isView(argument)) continue;
        for (const field of Object.keys(argument as object)) {
          for (const bad of [undefined, null, "x", new Float64Array(1)]) {
            const changed = { ...(argument as object), [field]: bad };
            const used = !(method === "logprobs" && !["tokenIds", "cuSeqlens"].includes(field));
            if (used) expect(() => engine[method](...replace(changed)), `${method}.${field}`).toThrow(invalid);
          }
        }
      }
    }
    // Sizes and ranges are known only on the engine thread.
    await expect(engine.writeParameter(0, new Uint8Array(5), "float32")).rejects.toEqual(invalid);
    await expect(engine.writeTensor("weight", 0, new Float32Array(5))).rejects.toEqual(invalid);
    await expect(engine.readTensor("weight", 999)).rejects.toEqual(invalid);
    await expect(engine.logits(Int32Array.of(101))).rejects.toEqual(invalid);
    await engine.close();
  });
});
