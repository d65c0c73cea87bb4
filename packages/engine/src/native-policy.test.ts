// Life of a policy: arguments, cancellation, close, and what the event loop sees meanwhile.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { WideSeekError } from "@wideseek/spec";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { loadAddon } from "./addon.ts";
import { NativePolicy } from "./native-policy.ts";
import { ADAMW, TINY_CONFIG, tinyBatch, tinyPolicy, tinyRequest } from "./test-model.ts";

const GRPO = { kind: "grpo", temperature: 1, clipLow: 0.2, clipHigh: 0.28, dualClip: 10, klCoefficient: 0 } as const;

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
  test("every method with every argument missing or wrong", async () => {
    const { NativeEngine } = loadAddon();
    const options = {
      device: "cpu" as const,
      threads: 1,
      config: (await import("./model-config.ts")).parseModelConfig(TINY_CONFIG).native,
      weightDtype: "float32" as const,
      maxContextTokens: 64,
      kvCacheTokens: 64,
      maxBatchTokens: 16,
      maxTrainTokens: 64,
      recomputeActivations: false,
    };
    const invalid = expect.objectContaining({ code: "WS_INVALID_ARGUMENT" });
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

describe("generation", () => {
  test("streams every token once, in order", async () => {
    await using policy = await tinyPolicy();
    const streams: number[][] = [[], [], []];
    const completions = await Promise.all(
      streams.map((stream, index) =>
        policy.generate(tinyRequest({ seed: BigInt(index), onToken: (tokenId) => stream.push(tokenId) })),
      ),
    );
    expect(streams).toEqual(completions.map((completion) => [...completion.tokenIds]));
  });

  test("a stop token ends the completion and is part of it", async () => {
    await using policy = await tinyPolicy();
    const { tokenIds } = await policy.generate(tinyRequest({ maxNewTokens: 30 }));
    const stop = tokenIds[7] as number;
    const stopped = await policy.generate(tinyRequest({ maxNewTokens: 30, stopTokenIds: [stop] }));
    expect(stopped.finishReason).toBe("stop");
    expect(stopped.tokenIds).toEqual(tokenIds.slice(0, tokenIds.indexOf(stop) + 1));
    expect(stopped.logprobs).toHaveLength(stopped.tokenIds.length);
  });

  test("arguments are copied at the call", async () => {
    await using policy = await tinyPolicy();
    const promptIds = Int32Array.from([1, 2, 3]);
    const expected = await policy.generate(tinyRequest({ promptIds: promptIds.slice() }));
    const running = policy.generate(tinyRequest({ promptIds }));
    promptIds.fill(0);
    expect((await running).tokenIds).toEqual(expected.tokenIds);
  });

  test("aborting rejects with the signal's reason and frees the blocks", async () => {
    await using policy = await tinyPolicy();
    const controller = new AbortController();
    const reason = new Error("enough");
    const other = policy.generate(tinyRequest({ maxNewTokens: 300 }));
    const aborted = policy.generate(
      tinyRequest({
        maxNewTokens: 900,
        signal: controller.signal,
        onToken: () => controller.abort(reason),
      }),
    );
    await expect(aborted).rejects.toBe(reason);
    expect((await other).tokenIds).toHaveLength(300);
    expect((await policy.stats()).numBlocksUsed).toBe(0);
    await expect(policy.generate(tinyRequest({ signal: controller.signal }))).rejects.toBe(reason);
  });

  test("what onToken throws rejects its own request only", async () => {
    await using policy = await tinyPolicy();
    const failure = new Error("callback");
    const other = policy.generate(tinyRequest());
    const onToken = (): void => {
      throw failure;
    };
    await expect(policy.generate(tinyRequest({ maxNewTokens: 900, onToken }))).rejects.toBe(failure);
    expect((await other).tokenIds).toHaveLength(10);
  });

  test("a request that can never fit is named, others go on", async () => {
    await using policy = await tinyPolicy({ kvCacheTokens: 64, maxContextTokens: 512 });
    const large = policy.generate(tinyRequest({ maxNewTokens: 200 }));
    const small = policy.generate(tinyRequest());
    await expect(large).rejects.toMatchObject({
      code: "WS_OUT_OF_MEMORY",
      message: expect.stringContaining("kvCacheTokens"),
    });
    expect((await small).tokenIds).toHaveLength(10);
  });

  test("errors show the caller's stack", async () => {
    await using policy = await tinyPolicy({ kvCacheTokens: 16, maxContextTokens: 512 });
    async function namedCaller(): Promise<void> {
      await policy.generate(tinyRequest({ maxNewTokens: 200 }));
    }
    const error = await namedCaller().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(WideSeekError);
    expect((error as Error).stack).toContain("native-policy.test.ts");
  });
});

describe("training beside generation", () => {
  test("training while sequences are in flight is WS_INVALID_STATE", async () => {
    await using policy = await tinyPolicy();
    const running = policy.generate(tinyRequest({ maxNewTokens: 1000 }));
    const state = { code: "WS_INVALID_STATE" };
    const refused = await Promise.allSettled([policy.optimizerStep(ADAMW), policy.forwardBackward(tinyBatch(), GRPO)]);
    for (const result of refused) expect(result).toMatchObject({ status: "rejected", reason: state });
    expect((await running).policyVersion).toBe(0n);
    await policy.forwardBackward(tinyBatch(), GRPO);
    expect(await policy.optimizerStep(ADAMW)).toMatchObject({ skipped: false });
    expect(policy.version).toBe(1n);
    expect((await policy.generate(tinyRequest())).policyVersion).toBe(1n);
  });

  test("log-probabilities may be asked for meanwhile", async () => {
    await using policy = await tinyPolicy();
    const alone = await policy.logprobs(tinyBatch(), 1);
    const running = policy.generate(tinyRequest({ maxNewTokens: 200 }));
    expect(await policy.logprobs(tinyBatch(), 1)).toEqual(alone);
    await running;
  });

  test("a gradient that is not finite skips the step and says so", async () => {
    await using policy = await tinyPolicy();
    const before = await policy.readTensor("weight", "model.norm.weight");
    const advantages = new Float32Array(20).fill(3e38);
    await policy.forwardBackward(tinyBatch({ advantages, behaviorLogprobs: new Float32Array(20).fill(-80) }), {
      ...GRPO,
      dualClip: Infinity,
      clipHigh: Infinity,
    });
    const { skipped, gradNorm } = await policy.optimizerStep(ADAMW);
    expect(skipped).toBe(true);
    expect(Number.isFinite(gradNorm)).toBe(false);
    expect(policy.version).toBe(0n);
    expect(await policy.readTensor("weight", "model.norm.weight")).toEqual(before);
  });
});

describe("life", () => {
  test("close while generating rejects what is running and queued, and is idempotent", async () => {
    const policy = await tinyPolicy({ maxBatchTokens: 4 });
    const running = Array.from({ length: 20 }, () => policy.generate(tinyRequest({ maxNewTokens: 900 })));
    const results = Promise.allSettled(running);
    await Promise.all([policy.close(), policy.close()]);
    for (const result of await results) {
      expect(result).toMatchObject({ status: "rejected", reason: { code: "WS_CLOSED" } });
    }
    await expect(policy.generate(tinyRequest())).rejects.toMatchObject({ code: "WS_CLOSED" });
    await expect(policy.stats()).rejects.toMatchObject({ code: "WS_CLOSED" });
    await policy.close();
  });

  test("the event loop turns while the engine computes", async () => {
    await using policy = await tinyPolicy();
    let ticks = 0;
    let running = true;
    const generation = policy.generate(tinyRequest({ maxNewTokens: 900 })).finally(() => {
      running = false;
    });
    while (running) {
      await new Promise((resolve) => setImmediate(resolve));
      ticks++;
    }
    await generation;
    expect(ticks).toBeGreaterThan(10);
  });

  test("auto says why it is on the CPU, cuda fails loudly where there is none", async () => {
    await using policy = await tinyPolicy({ device: "auto" });
    if (policy.device !== "cpu") return;
    expect(policy.deviceNote).toContain("cuda");
    await expect(tinyPolicy({ device: "cuda" })).rejects.toMatchObject({ code: "WS_UNSUPPORTED" });
  });

  test("logs nothing", async () => {
    const log = vi.spyOn(console, "log");
    await using policy = await tinyPolicy();
    await policy.generate(tinyRequest());
    expect(log).not.toHaveBeenCalled();
    log.mockRestore();
  });

  const addon = JSON.stringify(join(import.meta.dirname, "index.ts"));
  const script = (end: string): string => `
    const { NativePolicy } = await import(${addon});
    const policy = await NativePolicy.create(${JSON.stringify(TINY_CONFIG)}, 1n, { device: "cpu", threads: 2 });
    const request = { promptIds: Int32Array.of(1, 2), maxNewTokens: 1000, seed: 1n,
      sampling: { temperature: 1, topP: 1, topK: 0, minP: 0 }, stopTokenIds: [] };
    ${end}`;
  // Node strips the types itself; the condition picks the sources of the workspace.
  const node = ["--conditions=@wideseek/source", "--input-type=module", "--eval"];
  const run = promisify(execFile);

  test("an idle engine lets the process exit; a running one holds it", async () => {
    const { stdout } = await run(process.execPath, [
      ...node,
      script("policy.generate(request).then((c) => console.log(c.tokenIds.length));"),
    ]);
    expect(stdout.trim()).toBe("1000");
  });

  test("process.exit while generating ends cleanly", async () => {
    const code = script("policy.generate({ ...request, onToken: () => process.exit(7) });");
    await expect(run(process.execPath, [...node, code])).rejects.toMatchObject({ code: 7, stderr: "" });
  });

  test("works in a worker thread, which may end while generating", async () => {
    const worker = new Worker(
      `const { parentPort } = require("node:worker_threads");
       (async () => { ${script("policy.generate({ ...request, onToken: (id) => parentPort.postMessage(id) });")} })();`,
      { eval: true, execArgv: ["--conditions=@wideseek/source"] },
    );
    const token = await new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
    expect(token).toBeTypeOf("number");
    await worker.terminate();
    await using policy = await tinyPolicy();
    expect((await policy.generate(tinyRequest())).tokenIds[0]).toBeTypeOf("number");
  });
});
