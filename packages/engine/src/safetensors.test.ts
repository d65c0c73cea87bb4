// The file reader against files that lie: each gives one WS_CORRUPT_FILE that names the file, and the tensor if any.
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openModelWeights, openSafetensors, writeSafetensors } from "./safetensors.ts";
import { parseHeader } from "./safetensors-header.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wideseek-safetensors-"));
});
afterAll(async () => await rm(directory, { recursive: true }));

let numFiles = 0;
async function fileOf(header: unknown, dataBytes = 8, headerBytes?: bigint): Promise<string> {
  const json = typeof header === "string" ? header : JSON.stringify(header);
  const text = new TextEncoder().encode(json);
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, headerBytes ?? BigInt(text.length), true);
  bytes.set(text, 8);
  const path = join(directory, `${numFiles++}.safetensors`);
  await writeFile(path, bytes);
  return path;
}

const f32 = (shape: unknown, begin: unknown, end: unknown, dtype: unknown = "F32"): object => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe("corrupt files", () => {
  test.each<[string, unknown, number, bigint | undefined, string | undefined]>([
    ["no JSON", "{", 8, undefined, undefined],
    ["an array", "[]", 8, undefined, undefined],
    ["null", "null", 8, undefined, undefined],
    ["leading white space", ' {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8, undefined, undefined],
    ["header longer than the file", { a: f32([2], 0, 8) }, 8, 1000n, undefined],
    ["header over the limit", { a: f32([2], 0, 8) }, 8, 100_000_001n, undefined],
    ["header size of 2^64-1", { a: f32([2], 0, 8) }, 8, 2n ** 64n - 1n, undefined],
    ["header size 0", { a: f32([2], 0, 8) }, 8, 0n, undefined],
    ["truncated data", { a: f32([3], 0, 12) }, 8, undefined, "a"],
    ["bytes left over", { a: f32([1], 0, 4) }, 8, undefined, undefined],
    ["no tensors but data", {}, 8, undefined, undefined],
    ["a gap", { a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12, undefined, "b"],
    ["a gap at the start", { a: f32([1], 4, 8) }, 8, undefined, "a"],
    ["overlap", { a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12, undefined, "b"],
    ["two tensors on the same bytes", { a: f32([2], 0, 8), b: f32([2], 0, 8) }, 8, undefined, "b"],
    ["offsets backwards", { a: f32([0], 8, 4) }, 8, undefined, "a"],
    ["negative offset", { a: f32([2], -8, 0) }, 8, undefined, "a"],
    ["fractional offset", { a: f32([2], 0.5, 8.5) }, 8, undefined, "a"],
    ["offset as a string", { a: f32([2], "0", 8) }, 8, undefined, "a"],
    ["three offsets", { a: { dtype: "F32", shape: [2], data_offsets: [0, 4, 8] } }, 8, undefined, "a"],
    ["no offsets", { a: { dtype: "F32", shape: [2] } }, 8, undefined, "a"],
    ["offset beyond 2^53", { a: f32([2], 0, 2 ** 60) }, 8, undefined, "a"],
    ["shape larger than its bytes", { a: f32([3], 0, 8) }, 8, undefined, "a"],
    ["shape smaller than its bytes", { a: f32([1], 0, 8) }, 8, undefined, "a"],
    ["shape whose product wraps round", { a: f32([2 ** 32, 2 ** 32, 2 ** 2], 0, 8) }, 8, undefined, "a"],
    ["negative shape", { a: f32([-2], 0, 8) }, 8, undefined, "a"],
    ["fractional shape", { a: f32([2.5], 0, 10) }, 10, undefined, "a"],
    ["shape not a list", { a: f32(2, 0, 8) }, 8, undefined, "a"],
    ["unknown dtype", { a: f32([2], 0, 8, "F31") }, 8, undefined, "a"],
    ["dtype of the prototype", { a: f32([2], 0, 8, "toString") }, 8, undefined, "a"],
    ["dtype missing", { a: { shape: [2], data_offsets: [0, 8] } }, 8, undefined, "a"],
    ["entry not an object", { a: 5 }, 8, undefined, "a"],
    ["entry null", { a: null }, 8, undefined, "a"],
    ["metadata not strings", { __metadata__: { n: 1 }, a: f32([2], 0, 8) }, 8, undefined, undefined],
    ["metadata an array", { __metadata__: [], a: f32([2], 0, 8) }, 8, undefined, undefined],
    [
      "the same tensor twice",
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"\\u0061":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
      8,
      undefined,
      "a",
    ],
    ["a field twice", '{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', 8, undefined, "shape"],
  ])("%s", async (_what, header, dataBytes, headerBytes, tensor) => {
    const path = await fileOf(header, dataBytes, headerBytes);
    await expect(openSafetensors(path)).rejects.toMatchObject({
      code: "WS_CORRUPT_FILE",
      message: expect.stringContaining(path),
      details: tensor === undefined ? { path } : { path, tensor },
    });
  });

  test("too short for a header size", async () => {
    const path = join(directory, "short.safetensors");
    await writeFile(path, new Uint8Array(7));
    await expect(openSafetensors(path)).rejects.toMatchObject({ code: "WS_CORRUPT_FILE" });
  });

  test("invalid UTF-8", async () => {
    const path = await fileOf('{"a":1}', 0);
    const bytes = await readFile(path);
    bytes[10] = 0xff;
    await writeFile(path, bytes);
    await expect(openSafetensors(path)).rejects.toMatchObject({ code: "WS_CORRUPT_FILE" });
  });

  test("a missing file is WS_IO", async () => {
    await expect(openSafetensors(join(directory, "absent"))).rejects.toMatchObject({ code: "WS_IO" });
  });

  test("cut while open", async () => {
    const path = await fileOf({ a: f32([2], 0, 8) });
    await using file = await openSafetensors(path);
    await truncate(path, 20);
    await expect(file.read("a")).rejects.toMatchObject({ code: "WS_CORRUPT_FILE", details: { path, tensor: "a" } });
  });

  test("cut at every length: never a crash, always one error", async () => {
    const whole = await readFile(await fileOf({ a: f32([1], 0, 4), b: f32([1], 4, 8) }));
    const path = join(directory, "cut.safetensors");
    for (let length = 0; length < whole.length; length++) {
      await writeFile(path, whole.subarray(0, length));
      await expect(openSafetensors(path)).rejects.toMatchObject({ code: "WS_CORRUPT_FILE" });
    }
  });

  test("random headers never crash", () => {
    fc.assert(
      fc.property(fc.json(), fc.nat(16), (json, dataBytes) => {
        const text = new TextEncoder().encode(json);
        try {
          parseHeader("fuzz", text, 8 + text.length + dataBytes);
        } catch (error) {
          expect(error).toMatchObject({ code: "WS_CORRUPT_FILE" });
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe("shards", () => {
  async function model(index: unknown, files: Record<string, object>): Promise<string> {
    const path = await mkdtemp(join(directory, "model-"));
    await writeFile(
      join(path, "model.safetensors.index.json"),
      typeof index === "string" ? index : JSON.stringify(index),
    );
    for (const [name, header] of Object.entries(files)) {
      await writeFile(join(path, name), await readFile(await fileOf(header)));
    }
    return path;
  }

  test("reads each tensor from its file", async () => {
    const path = await model(
      { weight_map: { a: "1.safetensors", b: "2.safetensors" } },
      { "1.safetensors": { a: f32([2], 0, 8) }, "2.safetensors": { b: f32([1, 2], 0, 8) } },
    );
    await using weights = await openModelWeights(path);
    expect([...weights.tensors.keys()]).toEqual(["a", "b"]);
    expect(await weights.read("b")).toHaveLength(8);
    await expect(weights.read("c")).rejects.toMatchObject({ code: "WS_INVALID_ARGUMENT" });
  });

  test.each<[string, unknown, string]>([
    ["index is not JSON", "{", "WS_CORRUPT_FILE"],
    ["no weight_map", {}, "WS_CORRUPT_FILE"],
    ["tensor is not in its shard", { weight_map: { z: "1.safetensors" } }, "WS_CORRUPT_FILE"],
    ["shard outside the folder", { weight_map: { a: "../1.safetensors" } }, "WS_CORRUPT_FILE"],
    ["shard is missing", { weight_map: { a: "9.safetensors" } }, "WS_IO"],
  ])("%s", async (_what, index, code) => {
    const path = await model(index, { "1.safetensors": { a: f32([2], 0, 8) } });
    await expect(openModelWeights(path)).rejects.toMatchObject({ code });
  });

  test("a folder without weights is WS_IO", async () => {
    await expect(openModelWeights(await mkdtemp(join(directory, "empty-")))).rejects.toMatchObject({ code: "WS_IO" });
  });
});

test("what is written reads back", async () => {
  const path = join(directory, "written.safetensors");
  const data = {
    "x.weight": new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]),
    empty: new Uint8Array(0),
    名: new Uint8Array([9, 9]),
  };
  await writeSafetensors(
    path,
    [
      { name: "x.weight", dtype: "F32", shape: [2, 1], read: async () => data["x.weight"] },
      { name: "empty", dtype: "F32", shape: [0, 3], read: async () => data.empty },
      { name: "名", dtype: "BF16", shape: [1], read: async () => data.名 },
    ],
    { format: "pt" },
  );
  await using file = await openSafetensors(path);
  expect(file.metadata).toEqual({ format: "pt" });
  for (const [name, bytes] of Object.entries(data)) expect(await file.read(name)).toEqual(bytes);
  // The data begin at a multiple of 8, as other readers expect.
  expect(file.tensors.get("x.weight")?.byteOffset).toSatisfy((offset: number) => offset % 8 === 0);
  await expect(writeSafetensors(path, [])).rejects.toMatchObject({ code: "WS_IO" });
});
