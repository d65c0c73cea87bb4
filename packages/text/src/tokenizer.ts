// The model's tokenizer: text to ids and back, with control tokens only where the caller trusts the text.
import { join } from "node:path";
import { errorMessage, WideSeekError } from "@wideseek/spec";
import { Tokenizer as NativeTokenizer } from "tokenizers";
import { z } from "zod";
import { parseModelJson, readModelFile, readOptionalModelFile } from "./model-files.ts";

const TOKENIZER_FILE = "tokenizer.json";
const CONFIG_FILE = "tokenizer_config.json";
const GENERATION_FILE = "generation_config.json";

const AddedToken = z.object({
  id: z.int().nonnegative(),
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
});
const TokenizerFile = z.looseObject({
  added_tokens: z.array(AddedToken),
  model: z.looseObject({}),
});
const TokenName = z.union([z.string(), z.looseObject({ content: z.string() }).transform((token) => token.content)]);
const ConfigFile = z.looseObject({ eos_token: TokenName.nullish() });
const GenerationFile = z.looseObject({ eos_token_id: z.union([z.int(), z.array(z.int())]).nullish() });

/** Text with one origin. Only in trusted text is `<|im_end|>` the control token; elsewhere it is ten characters. */
export interface TextPart {
  text: string;
  trusted: boolean;
}

/**
 * The vocabulary of one model. "Control tokens" are all added tokens of tokenizer.json (`<|im_end|>`, `<tool_call>`,
 * `<think>`, ...). Text is normalised as tokenizer.json says (NFC for Qwen3), so ids decode to normalised text.
 */
export class Tokenizer {
  /** Number of ids: the highest one + 1. The model's embedding may have more rows. */
  readonly vocabSize: number;
  /** Ids that end generation, from tokenizer_config.json and, if there is one, generation_config.json. */
  readonly eosTokenIds: readonly number[];
  /** Content to id. */
  readonly controlTokens: ReadonlyMap<string, number>;
  readonly #native: NativeTokenizer;
  /** The same vocabulary and merges without added tokens: it cannot produce a control token from any text. */
  readonly #ordinary: NativeTokenizer;
  readonly #controlPattern: RegExp;

  private constructor(
    native: NativeTokenizer,
    ordinary: NativeTokenizer,
    controlTokens: ReadonlyMap<string, number>,
    eosTokenIds: readonly number[],
  ) {
    this.#native = native;
    this.#ordinary = ordinary;
    this.controlTokens = controlTokens;
    this.eosTokenIds = eosTokenIds;
    this.vocabSize = Math.max(ordinary.getVocabSize(), ...[...controlTokens.values()].map((id) => id + 1));
    // Longest first: of two tokens that match at one place the library takes the longer.
    const contents = [...controlTokens.keys()].sort((a, b) => b.length - a.length);
    // (?!) matches nowhere: a vocabulary without control tokens.
    this.#controlPattern = new RegExp(
      contents.map((content) => content.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|") || "(?!)",
      "g",
    );
  }

  /** Reads tokenizer.json and tokenizer_config.json. @throws WS_IO, WS_CORRUPT_FILE, WS_UNSUPPORTED */
  static async load(modelDir: string): Promise<Tokenizer> {
    const [text, configText, generationText] = await Promise.all([
      readModelFile(modelDir, TOKENIZER_FILE),
      readModelFile(modelDir, CONFIG_FILE),
      readOptionalModelFile(modelDir, GENERATION_FILE),
    ]);
    const path = join(modelDir, TOKENIZER_FILE);
    const file = parseModelJson(modelDir, TOKENIZER_FILE, text, TokenizerFile);
    const config = parseModelJson(modelDir, CONFIG_FILE, configText, ConfigFile);
    const odd = file.added_tokens.find((token) => token.single_word || token.lstrip || token.rstrip);
    if (odd !== undefined)
      throw new WideSeekError(
        "WS_UNSUPPORTED",
        `${path}: added token ${odd.content} has single_word, lstrip or rstrip; only exact tokens are supported`,
        { op: "loadTokenizer", details: { path, token: odd.content } },
      );
    const controlTokens = new Map(file.added_tokens.map((token) => [token.content, token.id]));

    const eosTokenIds = new Set<number>();
    if (config.eos_token != null) {
      const id = controlTokens.get(config.eos_token);
      if (id === undefined)
        throw new WideSeekError(
          "WS_CORRUPT_FILE",
          `${join(modelDir, CONFIG_FILE)}: eos_token ${config.eos_token} is not an added token of ${TOKENIZER_FILE}`,
          { op: "loadTokenizer", details: { path: join(modelDir, CONFIG_FILE), key: "eos_token" } },
        );
      eosTokenIds.add(id);
    }
    if (generationText !== null) {
      const ids = parseModelJson(modelDir, GENERATION_FILE, generationText, GenerationFile).eos_token_id ?? [];
      for (const id of Array.isArray(ids) ? ids : [ids]) eosTokenIds.add(id);
    }

    const tokenizer = new Tokenizer(
      openNative(text, path),
      openNative(JSON.stringify({ ...file, added_tokens: [] }), path),
      controlTokens,
      [...eosTokenIds],
    );
    await tokenizer.#checkOrdinary(path);
    return tokenizer;
  }

  /** Trusted text: control tokens in it become their ids. No token is added. */
  async encode(text: string): Promise<Int32Array> {
    return encodeWith(this.#native, text);
  }

  /** Text from pages, tools and users: a spelled-out control token becomes ordinary tokens that decode to the same text. */
  async encodeUntrusted(text: string): Promise<Int32Array> {
    return encodeWith(this.#ordinary, text);
  }

  /**
   * Ids of the joined parts. Text between two control tokens is encoded whole, across the borders of parts, so the
   * result equals `encode` of the joined text whenever the untrusted parts spell no control token.
   */
  async encodeParts(parts: readonly TextPart[]): Promise<Int32Array> {
    const runs: (string | number)[] = [];
    let run = "";
    for (const part of parts) {
      let end = 0;
      if (part.trusted) {
        for (const match of part.text.matchAll(this.#controlPattern)) {
          runs.push(run + part.text.slice(end, match.index), this.tokenId(match[0]));
          run = "";
          end = match.index + match[0].length;
        }
      }
      run += part.text.slice(end);
    }
    runs.push(run);
    const encoded = await Promise.all(
      runs.map((item) => (typeof item === "number" ? Int32Array.of(item) : this.encodeUntrusted(item))),
    );
    return concatTokenIds(encoded);
  }

  /** Text of the ids, control tokens included. Incomplete UTF-8 becomes U+FFFD; ids without a token become nothing. */
  async decode(tokenIds: Int32Array): Promise<string> {
    return this.#native.decode(Array.from(tokenIds), false);
  }

  /** @throws WS_INVALID_ARGUMENT when the vocabulary has no such token */
  tokenId(token: string): number {
    const id = this.controlTokens.get(token) ?? this.#native.tokenToId(token);
    if (id !== null) return id;
    throw new WideSeekError("WS_INVALID_ARGUMENT", `the vocabulary of ${this.vocabSize} tokens has no token ${token}`, {
      op: "tokenId",
      details: { token },
    });
  }

  /** A vocabulary may list a control token as an ordinary entry too; then untrusted text could produce it. */
  async #checkOrdinary(path: string): Promise<void> {
    const controlIds = new Set(this.controlTokens.values());
    for (const content of this.controlTokens.keys()) {
      const ids = await this.encodeUntrusted(content);
      if (ids.some((id) => controlIds.has(id)))
        throw new WideSeekError(
          "WS_UNSUPPORTED",
          `${path}: ${content} is also reachable as ordinary text, so untrusted text could forge it`,
          { op: "loadTokenizer", details: { path, token: content } },
        );
    }
  }
}

export function concatTokenIds(parts: readonly Int32Array[]): Int32Array {
  const tokenIds = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    tokenIds.set(part, offset);
    offset += part.length;
  }
  return tokenIds;
}

async function encodeWith(native: NativeTokenizer, text: string): Promise<Int32Array> {
  if (text === "") return new Int32Array(0);
  const encoding = await native.encode(text, null, { addSpecialTokens: false });
  return Int32Array.from(encoding.getIds());
}

function openNative(json: string, path: string): NativeTokenizer {
  try {
    const native = NativeTokenizer.fromString(json);
    // A saved limit would cut long texts without a word.
    native.disableTruncation();
    native.disablePadding();
    return native;
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${path} is not a tokenizer file: ${errorMessage(error)}`, {
      op: "loadTokenizer",
      details: { path },
      cause: error,
    });
  }
}
