import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { Tokenizer as NativeTokenizer } from "tokenizers";
import { expect, test } from "vitest";
import { trainBpe } from "./bpe-trainer.ts";
import { QWEN3_ADDED_TOKENS, qwen3TokenizerJson } from "./qwen3-format.ts";
import { writeTinyModel } from "./testing/tiny-model.ts";

/** Pseudo-random words of few letters, so that pairs tie often and tokens arise in several ways. */
function sampleLines(): string[] {
  let state = 12345;
  const next = (limit: number): number => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * limit);
  };
  const word = (): string => Array.from({ length: 1 + next(9) }, () => "abcde"[next(5)]).join("");
  return Array.from({ length: 300 }, () => `${Array.from({ length: 8 }, word).join(" ")}.\n`);
}

test("learns the same merges as the library's own trainer", async () => {
  const lines = sampleLines();
  const directory = await mkdtemp(join(tmpdir(), "wideseek-bpe-"));
  try {
    const path = join(directory, "text.txt");
    await writeFile(path, lines.join(""));
    const native = NativeTokenizer.fromString(JSON.stringify(qwen3TokenizerJson([], [], [])));
    native.train([path]);
    native.save(join(directory, "native.json"));
    const expected = JSON.parse(await readFile(join(directory, "native.json"), "utf8")).model.merges;
    const { merges } = trainBpe(lines, { vocabSize: 2000 }).model;
    expect(merges.length).toBeGreaterThan(500);
    expect(merges).toEqual(expected.slice(0, merges.length));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("any texts give a vocabulary of distinct, consecutive ids that encodes any text", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c", " ", "\n", "é", "1") }), { maxLength: 20 }),
      fc.string({ unit: "grapheme" }),
      async (texts, text) => {
        const json = trainBpe(texts, { vocabSize: 320 });
        const { vocab, merges } = json.model;
        const ids = [...Object.values(vocab), ...json.added_tokens.map((token) => token.id)];
        expect(ids.sort((a, b) => a - b)).toEqual(ids.map((_, index) => index));
        expect(ids.length).toBeLessThanOrEqual(320);
        for (const [left, right] of merges) expect(vocab).toHaveProperty([left + right]);
        const native = NativeTokenizer.fromString(JSON.stringify(json));
        const encoding = await native.encode(text);
        expect(await native.decode(encoding.getIds(), false)).toBe(text.normalize("NFC"));
      },
    ),
    { numRuns: 30 },
  );
});

test("fills the vocabulary exactly when the texts allow it, the same way each time", () => {
  const first = trainBpe(sampleLines(), { vocabSize: 400 });
  expect(Object.keys(first.model.vocab).length + first.added_tokens.length).toBe(400);
  expect(trainBpe(sampleLines(), { vocabSize: 400 })).toEqual(first);
});

test("control tokens have the published flags and are not learned from", () => {
  const json = trainBpe(["<tool_call>ab</tool_call>".repeat(50)], { vocabSize: 400 });
  expect(json.model.merges).toEqual([["a", "b"]]);
  expect(json.added_tokens.map(({ content, special }) => ({ content, special }))).toEqual(QWEN3_ADDED_TOKENS);
  expect(json.added_tokens.map(({ id }) => id)).toEqual(QWEN3_ADDED_TOKENS.map((_, index) => 257 + index));
});

test("a vocabulary without room for the bytes is refused", () => {
  for (const vocabSize of [281, Number.NaN, 300.5])
    expect(() => trainBpe(["a"], { vocabSize })).toThrowError(expect.objectContaining({ code: "WS_INVALID_ARGUMENT" }));
  expect(trainBpe(["aaaa aaaa"], { vocabSize: 282 }).model.merges).toEqual([]);
});

test("the saved configuration names the template, the tokens and their ids", async () => {
  await using tiny = await writeTinyModel();
  const config = JSON.parse(await readFile(join(tiny.modelDir, "tokenizer_config.json"), "utf8"));
  const endId = tiny.json.added_tokens.find((token) => token.content === "<|im_end|>")?.id;
  expect(config).toMatchObject({ eos_token: "<|im_end|>", pad_token: "<|endoftext|>" });
  expect(config.added_tokens_decoder[String(endId)]).toMatchObject({ content: "<|im_end|>", special: true });
  expect(config.chat_template).toContain("<tool_response>");
});
