// Life of a policy: streams, cancellation, close, and what the event loop sees meanwhile.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { WideSeekError } from "@wideseek/spec";
import { describe, expect, test, vi } from "vitest";
import { NativePolicy } from "./native-policy.ts";
import { ADAMW, GRPO, TINY_CONFIG, TINY_MOE_CONFIG, tinyBatch, tinyPolicy, tinyRequest } from "./test-model.ts";

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

  test("1,024 requests in flight that the cache cannot hold together all end, each with the tokens it gets alone", async () => {
    const numRequests = 1024;
    await using policy = await tinyPolicy({ kvCacheTokens: 2048, maxBatchTokens: 256 });
    const requests = Array.from({ length: numRequests }, (_, index) =>
      tinyRequest({
        promptIds: Int32Array.from({ length: 1 + (index % 40) }, (_, at) => (at < 16 ? at : index + at) % 50),
        seed: BigInt(index),
        maxNewTokens: 1 + (index % 7),
      }),
    );
    const completions = await Promise.all(requests.map((request) => policy.generate(request)));
    for (let index = 0; index < numRequests; index += 97) {
      const { tokenIds, logprobs } = await policy.generate(requests[index] as (typeof requests)[number]);
      expect(completions[index]).toMatchObject({ tokenIds, logprobs });
    }
    expect(completions.map(({ tokenIds }) => tokenIds.length)).toEqual(requests.map((request) => request.maxNewTokens));
    expect((await policy.stats()).numBlocksUsed).toBe(0);
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

  test("gradients computed while others generate are those computed apart, and the generation's too", async () => {
    const results = async (together: boolean) => {
      await using policy = await tinyPolicy({ trainWhileGenerating: true });
      const running = Promise.all(
        Array.from({ length: 64 }, (_, i) => policy.generate(tinyRequest({ maxNewTokens: 400, seed: BigInt(i) }))),
      );
      if (!together) await running;
      // Whether the generation still runs then, a busy machine decides; native/test/engine_test.cc makes sure of it.
      const stats = [await policy.forwardBackward(tinyBatch(), GRPO), await policy.forwardBackward(tinyBatch(), GRPO)];
      expect((await policy.stats()).trainingSeconds).toBeGreaterThan(0);
      const sampled = (await running).map(({ tokenIds, logprobs }) => ({ tokenIds, logprobs }));
      expect((await policy.stats()).generatingSeconds).toBeGreaterThan(0);
      await policy.optimizerStep(ADAMW);
      const weights = await policy.readTensor("weight", "model.embed_tokens.weight");
      return { stats, sampled, weights };
    };
    expect(await results(true)).toEqual(await results(false));
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

describe("a mixture of experts", () => {
  const options = { device: "cpu", threads: 1, weightDtype: "bfloat16", maxTrainTokens: 256 } as const;

  test("generates and scores; whatever would train it is refused at the call", async () => {
    await using policy = await NativePolicy.create(TINY_MOE_CONFIG, 1n, options);
    const refused = { code: "WS_UNSUPPORTED", message: expect.stringContaining("mixture of experts") };
    await expect(policy.forwardBackward(tinyBatch(), GRPO)).rejects.toMatchObject(refused);
    await expect(policy.optimizerStep(ADAMW)).rejects.toMatchObject(refused);
    await expect(policy.saveCheckpoint(join("no", "such", "folder"))).rejects.toMatchObject(refused);
    await expect(policy.loadCheckpoint(join("no", "such", "folder"))).rejects.toMatchObject(refused);
    expect((await policy.generate(tinyRequest())).tokenIds).toHaveLength(10);
  });

  test("its memory plan holds, and has no gradients in it", async () => {
    await using policy = await NativePolicy.create({ ...TINY_MOE_CONFIG, num_experts: 1000 }, 1n, options);
    const { memory: before } = await policy.stats();
    await policy.generate(tinyRequest());
    await policy.logprobs(tinyBatch(), 1);
    const { memory } = await policy.stats();
    expect(memory.allocatedMiB).toBeGreaterThan(before.allocatedMiB);
    expect(memory.peakMiB).toBeLessThanOrEqual(
      memory.weightsMiB + memory.kvCacheMiB + memory.inferenceMiB + memory.trainingMiB,
    );
    // Gradients, moments and master weights would be 8 times bfloat16 weights.
    expect(memory.trainingMiB).toBeLessThan(memory.weightsMiB);
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
    expect(policy.deviceNote).toMatch(/^running on the CPU: (no CUDA device|this build has no CUDA backend|the )[^:]*/);
    await expect(tinyPolicy({ device: "cuda" })).rejects.toMatchObject({
      code: "WS_UNSUPPORTED",
      message: expect.stringMatching(/or run with device cpu|install it/),
    });
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
