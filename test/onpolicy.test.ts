// The property that training rests on: what is recorded while sampling equals what the trainer computes, bit for bit,
// whatever else shares the batch, the cache or the step.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LoadOptions, NativePolicy } from "../packages/engine/src/index.ts";
import type { Completion, GenerateRequest } from "../packages/spec/src/index.ts";

const CONFIG = {
  model_type: "qwen3",
  vocab_size: 331,
  hidden_size: 48,
  intermediate_size: 112,
  num_hidden_layers: 3,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  head_dim: 16,
  max_position_embeddings: 512,
  tie_word_embeddings: true,
  initializer_range: 0.2,
};

/** Experts in the first and the last layer. */
const MOE_CONFIG = {
  ...CONFIG,
  model_type: "qwen3_moe",
  num_experts: 11,
  num_experts_per_tok: 3,
  moe_intermediate_size: 40,
  norm_topk_prob: true,
  mlp_only_layers: [1],
};

async function create(options: Omit<LoadOptions, "modelDir"> = {}, config = CONFIG): Promise<NativePolicy> {
  return await NativePolicy.create(config, 7n, { device: "cpu", threads: 2, maxTrainTokens: 16_384, ...options });
}

/** Small deterministic integers. */
function pseudoRandom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** 80 agents of 10 questions: they share their question's tokens, and every second one shares a longer history. */
function agentRequests(): GenerateRequest[] {
  const random = pseudoRandom(3);
  return Array.from({ length: 80 }, (_, agent) => {
    const question = pseudoRandom(100 + Math.floor(agent / 8));
    const shared = Array.from({ length: 20 + question(60) }, () => question(CONFIG.vocab_size));
    const history = agent % 2 === 0 ? Array.from({ length: 35 }, () => question(CONFIG.vocab_size)) : [];
    const own = Array.from({ length: random(30) }, () => random(CONFIG.vocab_size));
    return {
      promptIds: Int32Array.from([...shared, ...history, ...own]),
      maxNewTokens: 1 + random(60),
      seed: (BigInt(agent) * 0x9e3779b97f4a7c15n) % (1n << 64n),
      sampling: { temperature: [1, 0.7, 1.3, 0][agent % 4] as number, topP: 1, topK: 0, minP: 0 },
      stopTokenIds: agent % 3 === 0 ? [5, 17, 101] : [],
    };
  });
}

const sampled = ({
  tokenIds,
  logprobs,
  finishReason,
}: Completion): Pick<Completion, "tokenIds" | "logprobs" | "finishReason"> => ({
  tokenIds,
  logprobs,
  finishReason,
});

describe.each([
  ["dense", CONFIG],
  ["mixture of experts", MOE_CONFIG],
])("a rollout of 80 agents, %s", (_kind, config) => {
  const requests = agentRequests();
  let alone: Completion[];

  beforeAll(async () => {
    await using policy = await create({ maxBatchTokens: 2048 }, config);
    alone = [];
    for (const request of requests) {
      alone.push(await policy.generate(request));
    }
  });

  // Roomy, chunked prompts, a cache that forces pre-emption, one token a step, one thread, bf16 storage.
  test.each<[string, Omit<LoadOptions, "modelDir">]>([
    ["roomy cache", {}],
    ["prompts in small chunks", { maxBatchTokens: 24 }],
    ["a cache too small for all", { maxBatchTokens: 96, kvCacheTokens: 512 }],
    ["one row a step", { maxBatchTokens: 1, kvCacheTokens: 512 }],
    ["guessed tokens", { maxDraftTokens: 16, maxBatchTokens: 200 }],
    ["one thread", { threads: 1, maxBatchTokens: 200 }],
    ["three threads", { threads: 3, maxBatchTokens: 333 }],
  ])("%s: equal to running alone and to the trainer", async (name, options) => {
    await using policy = await create(options, config);
    const completions = await Promise.all(requests.map((request) => policy.generate(request)));
    expect(completions.map(sampled)).toEqual(alone.map(sampled));

    const stats = await policy.stats();
    expect(stats.numBlocksUsed).toBe(0);
    if (options.maxBatchTokens !== 1) expect(stats.numCachedTokens).toBeGreaterThan(0);
    if (name === "guessed tokens") expect(stats.numRightDrafts).toBeGreaterThan(0);
    if (name === "a cache too small for all") expect(stats.numPreemptions).toBeGreaterThan(0);

    // The trainer's pass over the same tokens, all sequences packed, one temperature at a time.
    for (const temperature of [1, 0.7, 1.3, 0]) {
      const group = requests.flatMap((request, index) =>
        request.sampling.temperature === temperature ? [{ request, completion: completions[index] as Completion }] : [],
      );
      const sequences = group.map(({ request, completion }) => [...request.promptIds, ...completion.tokenIds]);
      const cuSeqlens = new Int32Array(sequences.length + 1);
      for (const [i, sequence] of sequences.entries()) cuSeqlens[i + 1] = (cuSeqlens[i] as number) + sequence.length;
      // Greedy tokens are recorded at temperature 1.
      const { logprobs } = await policy.logprobs(
        { tokenIds: Int32Array.from(sequences.flat()), cuSeqlens },
        temperature === 0 ? 1 : temperature,
      );
      for (const [i, { request, completion }] of group.entries()) {
        const start = (cuSeqlens[i] as number) + request.promptIds.length;
        expect(logprobs.slice(start, start + completion.tokenIds.length)).toEqual(completion.logprobs);
      }
    }
  });

  test("other orders of arrival change nothing", async () => {
    await using policy = await create({ maxBatchTokens: 128, kvCacheTokens: 1024 }, config);
    const order = requests.map((_, index) => (index * 37) % requests.length);
    const completions: Completion[] = [];
    await Promise.all(
      order.map(async (index, n) => {
        // Some join while others are already decoding.
        if (n % 3 === 0) await policy.stats();
        completions[index] = await policy.generate(requests[index] as GenerateRequest);
      }),
    );
    expect(completions.map(sampled)).toEqual(alone.map(sampled));
  });

  test("the next turn of an agent finds its own history in the cache", async () => {
    await using policy = await create({}, config);
    const request = requests[1] as GenerateRequest;
    const first = await policy.generate({ ...request, maxNewTokens: 50, stopTokenIds: [] });
    const promptIds = Int32Array.from([...request.promptIds, ...first.tokenIds, 9, 8, 7]);
    const second = await policy.generate({ ...request, promptIds });
    // All full blocks of what was computed; the last sampled token never was.
    const computed = request.promptIds.length + first.tokenIds.length - 1;
    expect(second.numCachedTokens).toBe(Math.floor(computed / 16) * 16);
    await using fresh = await create({}, config);
    expect(sampled(second)).toEqual(sampled(await fresh.generate({ ...request, promptIds })));
  });

  test("seeds matter, and only they", async () => {
    await using policy = await create({}, config);
    const request = { ...(requests[1] as GenerateRequest), maxNewTokens: 40, stopTokenIds: [] };
    const [a, b, c] = await Promise.all([
      policy.generate({ ...request, seed: 1n }),
      policy.generate({ ...request, seed: 1n }),
      policy.generate({ ...request, seed: 2n }),
    ]);
    expect(b.tokenIds).toEqual(a.tokenIds);
    expect(c.tokenIds).not.toEqual(a.tokenIds);
  });
});

describe("training from the sampled tokens", () => {
  let policy: NativePolicy;
  beforeAll(async () => {
    policy = await create();
  });
  afterAll(async () => await policy.close());

  async function rollout(): Promise<{ ratio: number; kl: number; diff: number }> {
    const requests = agentRequests().slice(0, 16);
    const completions = await Promise.all(
      requests.map((request) =>
        policy.generate({ ...request, sampling: { temperature: 1, topP: 1, topK: 0, minP: 0 } }),
      ),
    );
    const lengths = requests.map(({ promptIds }, i) => promptIds.length + (completions[i]?.tokenIds.length ?? 0));
    const total = lengths.reduce((a, b) => a + b, 0);
    const batch = {
      tokenIds: new Int32Array(total),
      cuSeqlens: new Int32Array(lengths.length + 1),
      lossWeights: new Float32Array(total),
      advantages: new Float32Array(total),
      behaviorLogprobs: new Float32Array(total),
    };
    let offset = 0;
    for (const [i, { promptIds }] of requests.entries()) {
      const completion = completions[i] as Completion;
      batch.tokenIds.set(promptIds, offset);
      const start = offset + promptIds.length;
      batch.tokenIds.set(completion.tokenIds, start);
      batch.behaviorLogprobs.set(completion.logprobs, start);
      batch.lossWeights.fill(0.01, start, start + completion.tokenIds.length);
      batch.advantages.fill(i % 2 === 0 ? 1 : -1, offset, start + completion.tokenIds.length);
      offset = start + completion.tokenIds.length;
      batch.cuSeqlens[i + 1] = offset;
    }
    const stats = await policy.forwardBackward(batch, {
      kind: "grpo",
      temperature: 1,
      clipLow: 0.2,
      clipHigh: 0.28,
      dualClip: 10,
      klCoefficient: 0,
    });
    return { ratio: stats.maxRatio, kl: stats.sumKlK3, diff: stats.maxAbsLogprobDiff };
  }

  const settings = { maxGradNorm: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };

  test("with learning rate 0, fifty steps have a KL of exactly 0", async () => {
    for (let step = 0; step < 50; step++) {
      expect(await rollout()).toEqual({ ratio: 1, kl: 0, diff: 0 });
      const { skipped, gradNorm } = await policy.optimizerStep({ ...settings, learningRate: 0 });
      expect(skipped).toBe(false);
      expect(gradNorm).toBeGreaterThan(0);
    }
    expect(policy.version).toBe(50n);
  });

  test("new weights are on-policy again after every real step", async () => {
    for (let step = 0; step < 3; step++) {
      expect(await rollout()).toEqual({ ratio: 1, kl: 0, diff: 0 });
      await policy.optimizerStep({ ...settings, learningRate: 1e-2 });
      expect((await policy.stats()).numBlocksCached).toBe(0);
    }
  });
});
