import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { QWEN3_ADDED_TOKENS } from "./qwen3-format.ts";
import { type TinyModel, writeTinyModel } from "./testing/tiny-model.ts";
import { Tokenizer } from "./tokenizer.ts";

let tiny: TinyModel;
let tokenizer: Tokenizer;
beforeAll(async () => {
  tiny = await writeTinyModel();
  tokenizer = await Tokenizer.load(tiny.modelDir);
});
afterAll(() => tiny[Symbol.asyncDispose]());

const controlToken = fc.constantFrom(...QWEN3_ADDED_TOKENS.map((token) => token.content));
const plainText = fc
  .oneof(fc.string({ unit: "grapheme" }), fc.constantFrom("\n", "\n\n", ".", " ", "user\n", "北京市", "e\u0301"))
  .map((text) => text.replaceAll("<", "("));
const anyText = fc.array(fc.oneof(plainText, controlToken), { maxLength: 8 }).map((pieces) => pieces.join(""));

/** A model folder whose tokenizer.json is a changed copy of the tiny one. */
async function changedModel(
  change: (json: TinyModel["json"]) => unknown,
  files: Record<string, unknown> = {},
): Promise<TinyModel> {
  const model = await writeTinyModel();
  const json = structuredClone(model.json);
  await writeFile(join(model.modelDir, "tokenizer.json"), JSON.stringify(change(json) ?? json));
  for (const [name, content] of Object.entries(files))
    await writeFile(join(model.modelDir, name), typeof content === "string" ? content : JSON.stringify(content));
  return model;
}

describe("encode and decode", () => {
  test("control tokens of trusted text are single ids after the BPE vocabulary", async () => {
    const firstControlId = Object.keys(tiny.json.model.vocab).length;
    expect(tokenizer.tokenId("<|endoftext|>")).toBe(firstControlId);
    expect(tokenizer.vocabSize).toBe(firstControlId + 26);
    for (const { content } of QWEN3_ADDED_TOKENS)
      expect([...(await tokenizer.encode(content))]).toEqual([tokenizer.tokenId(content)]);
  });

  test("text comes back as its NFC form", async () => {
    await fc.assert(
      fc.asyncProperty(anyText, async (text) => {
        expect(await tokenizer.decode(await tokenizer.encode(text))).toBe(text.normalize("NFC"));
      }),
    );
  });

  test("no added beginning or end, empty text is no tokens", async () => {
    expect(await tokenizer.encode("")).toEqual(new Int32Array(0));
    expect(await tokenizer.decode(new Int32Array(0))).toBe("");
  });

  test("an incomplete character decodes to U+FFFD", async () => {
    const ids = await tokenizer.encode("é😀");
    expect(await tokenizer.decode(ids.subarray(0, -1))).toContain("\uFFFD");
  });

  test("a token that does not exist", () => {
    expect(() => tokenizer.tokenId("<no>")).toThrowError(expect.objectContaining({ code: "WS_INVALID_ARGUMENT" }));
  });
});

describe("untrusted text", () => {
  test("never yields a control token and still reads the same", async () => {
    const controlIds = new Set(tokenizer.controlTokens.values());
    await fc.assert(
      fc.asyncProperty(anyText, async (text) => {
        const ids = await tokenizer.encodeUntrusted(text);
        expect(ids.filter((id) => controlIds.has(id))).toHaveLength(0);
        expect(await tokenizer.decode(ids)).toBe(text.normalize("NFC"));
      }),
    );
  });

  test("parts are encoded as their joined text", async () => {
    const part = fc.oneof(
      fc.record({ text: anyText, trusted: fc.constant(true) }),
      fc.record({ text: plainText, trusted: fc.constant(false) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 8 }), async (parts) => {
        const joined = parts.map(({ text }) => text).join("");
        expect(await tokenizer.encodeParts(parts)).toEqual(await tokenizer.encode(joined));
      }),
    );
  });

  test("a control token made of a trusted and an untrusted half is not one", async () => {
    const ids = await tokenizer.encodeParts([
      { text: "<thi", trusted: true },
      { text: "nk>", trusted: false },
    ]);
    expect(ids).not.toContain(tokenizer.tokenId("<think>"));
    expect(await tokenizer.decode(ids)).toBe("<think>");
  });

  test("a vocabulary that would let text forge a control token is refused", async () => {
    await using model = await changedModel((json) => {
      json.model.vocab["<|im_end|>"] = json.added_tokens.find((token) => token.content === "<|im_end|>")?.id ?? -1;
      const model = { ...json.model, ignore_merges: true };
      return { ...json, model, pre_tokenizer: json.decoder };
    });
    await expect(Tokenizer.load(model.modelDir)).rejects.toMatchObject({
      code: "WS_UNSUPPORTED",
      message: expect.stringContaining("<|im_end|>"),
    });
  });
});

describe("files", () => {
  test("a saved truncation does not cut texts", async () => {
    const truncation = { max_length: 2, strategy: "LongestFirst", stride: 0, direction: "Right" };
    await using model = await changedModel((json) => ({ ...json, truncation }));
    const limited = await Tokenizer.load(model.modelDir);
    const text = "The page lists towns. ".repeat(20);
    expect(await limited.encode(text)).toEqual(await tokenizer.encode(text));
  });

  test("generation_config.json adds end tokens", async () => {
    expect(tokenizer.eosTokenIds).toEqual([tokenizer.tokenId("<|im_end|>")]);
    const ids = [tokenizer.tokenId("<|im_end|>"), tokenizer.tokenId("<|endoftext|>")];
    await using model = await changedModel((json) => json, { "generation_config.json": { eos_token_id: ids } });
    expect((await Tokenizer.load(model.modelDir)).eosTokenIds).toEqual(ids);
  });

  test("a missing folder", async () => {
    await expect(Tokenizer.load("/no/such/model")).rejects.toMatchObject({
      code: "WS_IO",
      message: expect.stringContaining("/no/such/model: no such folder; a model folder holds"),
    });
  });

  test.each([
    ["not JSON", { "tokenizer.json": "{" }, "WS_CORRUPT_FILE", "tokenizer.json is not a tokenizer file: not JSON"],
    [
      "no model",
      { "tokenizer.json": { added_tokens: [] } },
      "WS_CORRUPT_FILE",
      "tokenizer.json is not a tokenizer file: model: missing",
    ],
    [
      "an empty model",
      { "tokenizer.json": { added_tokens: [], model: {} }, "tokenizer_config.json": {} },
      "WS_CORRUPT_FILE",
      "tokenizer.json is not a tokenizer file",
    ],
    ["wrong eos_token", { "tokenizer_config.json": { eos_token: 5 } }, "WS_CORRUPT_FILE", "eos_token"],
    ["unknown eos_token", { "tokenizer_config.json": { eos_token: "<eos>" } }, "WS_CORRUPT_FILE", "<eos>"],
    ["wrong eos_token_id", { "generation_config.json": { eos_token_id: "x" } }, "WS_CORRUPT_FILE", "eos_token_id"],
  ])("%s is a corrupt file", async (_, files, code, message) => {
    await using model = await changedModel((json) => json, files);
    await expect(Tokenizer.load(model.modelDir)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });

  test("tokens that swallow neighbouring space are not supported", async () => {
    await using model = await changedModel((json) => ({
      ...json,
      added_tokens: json.added_tokens.map((token) => ({ ...token, lstrip: true })),
    }));
    await expect(Tokenizer.load(model.modelDir)).rejects.toMatchObject({ code: "WS_UNSUPPORTED" });
  });
});
