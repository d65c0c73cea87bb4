// Saving and loading: bit-equal resume, atomicity, and refusal of what is incomplete.
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NativePolicy } from "./native-policy.ts";
import { openSafetensors, writeSafetensors } from "./safetensors.ts";
import { ADAMW, TINY_CONFIG, TINY_MOE_CONFIG, tinyBatch, tinyPolicy, tinyRequest } from "./test-model.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wideseek-checkpoint-"));
});
afterAll(async () => await rm(directory, { recursive: true }));

async function step(policy: NativePolicy): Promise<unknown> {
  const stats = await policy.forwardBackward(tinyBatch(), { kind: "nll" });
  return { stats, ...(await policy.optimizerStep(ADAMW)), completion: await policy.generate(tinyRequest()) };
}

async function tensors(policy: NativePolicy): Promise<Float32Array[]> {
  const kinds = ["weight", "firstMoment", "secondMoment", "gradient"] as const;
  return await Promise.all(policy.parameters.flatMap(({ name }) => kinds.map((kind) => policy.readTensor(kind, name))));
}

describe("training checkpoint", () => {
  test.each(["float32", "bfloat16"] as const)("resumes bit-equal, %s weights", async (weightDtype) => {
    const path = join(directory, `resume-${weightDtype}`);
    await using policy = await tinyPolicy({ weightDtype });
    await step(policy);
    await step(policy);
    await policy.saveCheckpoint(path);
    const saved = await tensors(policy);
    const expected = [await step(policy), await step(policy)];

    // Into a policy with other weights, moments, gradients and version.
    await using resumed = await NativePolicy.create(TINY_CONFIG, 99n, {
      device: "cpu",
      threads: 2,
      maxTrainTokens: 256,
      weightDtype,
    });
    await step(resumed);
    await resumed.forwardBackward(tinyBatch(), { kind: "nll" });
    await resumed.loadCheckpoint(path);
    expect(resumed.version).toBe(2n);
    expect(await tensors(resumed)).toEqual(saved);
    expect([await step(resumed), await step(resumed)]).toEqual(expected);
  });

  test("leaves nothing else behind, and never overwrites", async () => {
    const parent = await mkdtemp(join(directory, "atomic-"));
    const path = join(parent, "step-1");
    await using policy = await tinyPolicy();
    await policy.saveCheckpoint(path);
    expect(await readdir(parent)).toEqual(["step-1"]);
    expect((await readdir(path)).sort()).toEqual([
      "DONE",
      "config.json",
      "model.safetensors",
      "optimizer.safetensors",
      "trainer.json",
    ]);
    await expect(policy.saveCheckpoint(path)).rejects.toMatchObject({ code: "WS_INVALID_ARGUMENT" });
    await expect(policy.saveWeights(path)).rejects.toMatchObject({ code: "WS_INVALID_ARGUMENT" });
    await writeFile(join(parent, "file"), "");
    await expect(policy.saveCheckpoint(join(parent, "file", "below"))).rejects.toMatchObject({ code: "WS_IO" });
    expect((await readdir(parent)).sort()).toEqual(["file", "step-1"]);
  });

  test.each<[string, (path: string) => Promise<void>, string]>([
    ["no DONE marker", async (path) => await rm(join(path, "DONE")), "WS_IO"],
    ["no optimizer state", async (path) => await rm(join(path, "optimizer.safetensors")), "WS_IO"],
    ["truncated weights", async (path) => await truncate(join(path, "model.safetensors"), 4000), "WS_CORRUPT_FILE"],
    ["truncated moments", async (path) => await truncate(join(path, "optimizer.safetensors"), 4000), "WS_CORRUPT_FILE"],
    ["garbage state", async (path) => await writeFile(join(path, "trainer.json"), "{"), "WS_CORRUPT_FILE"],
    [
      "negative step",
      async (path) => await writeFile(join(path, "trainer.json"), '{"format":1,"numSteps":-1,"policyVersion":"0"}'),
      "WS_CORRUPT_FILE",
    ],
  ])("%s: refused, and the policy keeps its state", async (what, damage, code) => {
    await using policy = await tinyPolicy();
    const whole = join(directory, `whole-${what}`);
    const damaged = join(directory, `damaged-${what}`);
    await policy.saveCheckpoint(whole);
    await step(policy);
    const before = await tensors(policy);
    await cp(whole, damaged, { recursive: true });
    await damage(damaged);
    await expect(policy.loadCheckpoint(damaged)).rejects.toMatchObject({ code });
    expect(await tensors(policy)).toEqual(before);
    expect(policy.version).toBe(1n);
  });
});

describe("Hugging Face folder", () => {
  test.each(["float32", "bfloat16"] as const)("%s weights load again with the same logits", async (weightDtype) => {
    const modelDir = join(directory, `weights-${weightDtype}`);
    await using policy = await tinyPolicy({ weightDtype });
    await step(policy);
    await policy.saveWeights(modelDir);
    expect(JSON.parse(await readFile(join(modelDir, "config.json"), "utf8"))).toEqual(TINY_CONFIG);
    await using file = await openSafetensors(join(modelDir, "model.safetensors"));
    expect(file.metadata).toEqual({ format: "pt" });
    expect([...file.tensors.keys()]).toEqual(policy.parameters.map((parameter) => parameter.name));
    await using loaded = await NativePolicy.load({ modelDir, device: "cpu", weightDtype });
    const ids = Int32Array.from([1, 2, 3, 4, 5]);
    expect(await loaded.logits(ids)).toEqual(await policy.logits(ids));
  });

  test.each(["float32", "bfloat16"] as const)("%s mixture of experts, also in shards", async (weightDtype) => {
    const modelDir = join(directory, `moe-${weightDtype}`);
    const options = { device: "cpu", weightDtype } as const;
    await using policy = await NativePolicy.create(TINY_MOE_CONFIG, 1n, options);
    await policy.saveWeights(modelDir);
    expect(JSON.parse(await readFile(join(modelDir, "config.json"), "utf8"))).toEqual(TINY_MOE_CONFIG);
    const names = policy.parameters.map((parameter) => parameter.name);
    expect(names).toContain("model.layers.0.mlp.gate.weight");
    expect(names).toContain("model.layers.0.mlp.experts.5.down_proj.weight");
    expect(names).toContain("model.layers.1.mlp.down_proj.weight");

    // The same tensors in three files, as large checkpoints are published.
    const shardDir = await mkdtemp(join(directory, "shards-"));
    await cp(join(modelDir, "config.json"), join(shardDir, "config.json"));
    await using whole = await openSafetensors(join(modelDir, "model.safetensors"));
    const weightMap: Record<string, string> = {};
    for (let shard = 0; shard < 3; shard++) {
      const file = `model-0000${shard + 1}-of-00003.safetensors`;
      const tensors = [...whole.tensors.values()].filter((_, index) => index % 3 === shard);
      for (const { name } of tensors) weightMap[name] = file;
      await writeSafetensors(
        join(shardDir, file),
        tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape, read: () => whole.read(name) })),
      );
    }
    await writeFile(join(shardDir, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));

    const ids = Int32Array.from([1, 2, 3, 4, 5]);
    const expected = await policy.logits(ids);
    for (const folder of [modelDir, shardDir]) {
      await using loaded = await NativePolicy.load({ modelDir: folder, ...options });
      expect(await loaded.logits(ids)).toEqual(expected);
    }
    delete weightMap["model.layers.0.mlp.experts.3.up_proj.weight"];
    await writeFile(join(shardDir, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
    await expect(NativePolicy.load({ modelDir: shardDir, ...options })).rejects.toMatchObject({
      code: "WS_CORRUPT_FILE",
      message: expect.stringContaining("experts.3.up_proj.weight"),
    });
  });

  test("a missing, misshapen, integer or unknown tensor is named", async () => {
    await using policy = await tinyPolicy();
    const good = join(directory, "good");
    await policy.saveWeights(good);
    const write = async (
      change: (
        name: string,
        shape: readonly number[],
      ) => { name: string; shape: readonly number[]; dtype: "F32" | "I32" } | null,
      extra: string[] = [],
    ): Promise<string> => {
      const modelDir = await mkdtemp(join(directory, "bad-"));
      await cp(join(good, "config.json"), join(modelDir, "config.json"));
      const entries = policy.parameters.flatMap(({ name, shape }) => change(name, shape) ?? []);
      for (const name of extra) entries.push({ name, shape: [1], dtype: "F32" });
      await writeSafetensors(
        join(modelDir, "model.safetensors"),
        entries.map((entry) => ({
          ...entry,
          read: async () => new Uint8Array(4 * entry.shape.reduce((product, size) => product * size, 1)),
        })),
      );
      return modelDir;
    };
    const same = (name: string, shape: readonly number[]) => ({ name, shape, dtype: "F32" as const });
    const norm = "model.norm.weight";
    const cases = [
      [await write((name, shape) => (name === norm ? null : same(name, shape))), "WS_CORRUPT_FILE", norm],
      [await write((name, shape) => same(name, name === norm ? [31] : shape)), "WS_CORRUPT_FILE", norm],
      [await write((name, shape) => ({ name, shape, dtype: name === norm ? "I32" : "F32" })), "WS_CORRUPT_FILE", norm],
      [await write(same, ["model.layers.0.self_attn.q_proj.bias"]), "WS_UNSUPPORTED", "q_proj.bias"],
    ] as const;
    for (const [modelDir, code, hint] of cases) {
      await expect(NativePolicy.load({ modelDir, device: "cpu" })).rejects.toMatchObject({
        code,
        message: expect.stringContaining(hint),
      });
    }
    // Published tied checkpoints carry a copy of the embedding.
    const tied = await NativePolicy.load({ modelDir: await write(same, ["lm_head.weight"]), device: "cpu" });
    await tied.close();
  });

  test("a folder that is not there names its config.json", async () => {
    await expect(NativePolicy.load({ modelDir: join(directory, "absent") })).rejects.toMatchObject({
      code: "WS_IO",
      message: expect.stringContaining(join("absent", "config.json")),
    });
  });
});
