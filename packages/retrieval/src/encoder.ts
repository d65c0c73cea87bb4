// Text to unit vectors by an E5 encoder in ONNX. Owns tokenizer and session; both libraries load only when it is opened.
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { errorMessage, invalidInput, WideSeekError } from "@wideseek/spec";
import type { InferenceSession, Tensor, TypedTensor } from "onnxruntime-node";
import type { Tokenizer } from "tokenizers";
import { type EncoderOptions, type EncoderOptionsInput, encoderSchema } from "./options.ts";

/** The tokenizer knows no padding token of its own; the mask makes its id irrelevant. */
const paddingId = 0;

/** It is large, and most never need it; the version is the one of our tests. */
const installCommand = "pnpm add onnxruntime-node@1.30.0";

interface Waiting {
  text: string;
  resolve(vector: Float32Array): void;
  reject(error: unknown): void;
}

/** Vectors have length 1, so that their product is the cosine. Texts of callers that wait are encoded together. */
export class E5Encoder implements AsyncDisposable {
  /** Numbers of a vector. */
  readonly dimension: number;
  readonly #options: EncoderOptions;
  readonly #tokenizer: Tokenizer;
  readonly #session: InferenceSession;
  readonly #tensor: typeof Tensor;
  readonly #queue: Waiting[] = [];
  #working: Promise<void> | null = null;
  #closed = false;

  private constructor(
    options: EncoderOptions,
    tokenizer: Tokenizer,
    session: InferenceSession,
    tensor: typeof Tensor,
    dimension: number,
  ) {
    this.#options = options;
    this.#tokenizer = tokenizer;
    this.#session = session;
    this.#tensor = tensor;
    this.dimension = dimension;
  }

  /**
   * @throws WS_INVALID_ARGUMENT for an option, WS_IO without a file, WS_CORRUPT_FILE for one that cannot be used,
   * WS_UNSUPPORTED when onnxruntime-node is not installed
   */
  static async open(input: EncoderOptionsInput): Promise<E5Encoder> {
    const parsed = encoderSchema.safeParse(input);
    if (!parsed.success) throw invalidInput("encoder", parsed.error, input);
    const options = parsed.data;
    const modelPath = join(options.directory, options.model);
    const tokenizerPath = join(options.directory, "tokenizer.json");
    for (const path of [modelPath, tokenizerPath]) {
      if (!existsSync(path)) throw new WideSeekError("WS_IO", `${path}: no such file; the encoder needs it`);
    }
    const runtime = await import("onnxruntime-node").catch((cause: unknown) => {
      const hint = `dense search needs the package onnxruntime-node; install it: ${installCommand}`;
      throw new WideSeekError("WS_UNSUPPORTED", `${hint} (${errorMessage(cause)})`, { cause });
    });
    const { Tokenizer: NativeTokenizer } = await import("tokenizers");
    try {
      const tokenizer = NativeTokenizer.fromString(readFileSync(tokenizerPath, "utf8"));
      tokenizer.disablePadding();
      tokenizer.setTruncation(options.maxTokens);
      const session = await runtime.InferenceSession.create(modelPath, {
        intraOpNumThreads: options.threads ?? availableParallelism(),
      });
      const probe = new E5Encoder(options, tokenizer, session, runtime.Tensor, 0);
      const [vector] = await probe.#encode([options.queryPrefix]);
      return new E5Encoder(options, tokenizer, session, runtime.Tensor, vector?.length ?? 0);
    } catch (cause) {
      if (cause instanceof WideSeekError) throw cause;
      const message = `${options.directory}: not a usable encoder: ${errorMessage(cause)}`;
      throw new WideSeekError("WS_CORRUPT_FILE", message, { cause });
    }
  }

  encodeQueries(queries: readonly string[]): Promise<Float32Array[]> {
    return this.#enqueue(queries.map((query) => this.#options.queryPrefix + query));
  }

  encodePassages(passages: readonly string[]): Promise<Float32Array[]> {
    return this.#enqueue(passages.map((passage) => this.#options.passagePrefix + passage));
  }

  /** What waits is rejected with WS_CLOSED. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const { reject } of this.#queue.splice(0)) reject(closedError());
    await this.#working;
    await this.#session.release();
  }

  #enqueue(texts: readonly string[]): Promise<Float32Array[]> {
    if (this.#closed) return Promise.reject(closedError());
    const vectors = texts.map(
      (text) =>
        new Promise<Float32Array>((resolve, reject) => {
          this.#queue.push({ text, resolve, reject });
        }),
    );
    this.#working ??= this.#work().finally(() => {
      this.#working = null;
    });
    return Promise.all(vectors);
  }

  async #work(): Promise<void> {
    // Callers of the same turn come into the first batch.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      // Texts of like length together need little padding.
      this.#queue.sort((a, b) => a.text.length - b.text.length);
      const batch = this.#queue.splice(0, this.#options.batchSize);
      try {
        const vectors = await this.#encode(batch.map(({ text }) => text));
        for (const [i, { resolve }] of batch.entries()) resolve(vectors[i] as Float32Array);
      } catch (cause) {
        const error = new WideSeekError("WS_IO", `the encoder failed: ${errorMessage(cause)}`, { cause });
        for (const { reject } of batch) reject(error);
      }
    }
  }

  async #encode(texts: readonly string[]): Promise<Float32Array[]> {
    const encodings = await this.#tokenizer.encodeBatch([...texts]);
    const rows = encodings.map((encoding) => encoding.getIds());
    const width = rows.reduce((most, ids) => Math.max(most, ids.length), 1);
    const ids = new BigInt64Array(rows.length * width).fill(BigInt(paddingId));
    const mask = new BigInt64Array(rows.length * width);
    for (const [row, tokens] of rows.entries()) {
      for (const [column, id] of tokens.entries()) {
        ids[row * width + column] = BigInt(id);
        mask[row * width + column] = 1n;
      }
    }
    const shape = [rows.length, width];
    const inputs: Record<string, BigInt64Array> = {
      input_ids: ids,
      attention_mask: mask,
      token_type_ids: new BigInt64Array(ids.length),
    };
    const feeds: Record<string, TypedTensor<"int64">> = {};
    for (const name of this.#session.inputNames) {
      const data = inputs[name];
      if (data === undefined) throw new Error(`the model has an input ${name}, which a BERT encoder has not`);
      feeds[name] = new this.#tensor("int64", data, shape);
    }
    const output = await this.#session.run(feeds);
    const hidden = output.last_hidden_state ?? output[this.#session.outputNames[0] as string];
    if (hidden === undefined || hidden.type !== "float32" || hidden.dims.length !== 3) {
      throw new Error("the model has no output last_hidden_state [texts, tokens, numbers] of 32-bit floats");
    }
    const states = hidden.data as Float32Array;
    const size = hidden.dims[2] as number;
    return rows.map((tokens, row) => pool(states, row * width * size, tokens.length, size));
  }
}

/** The mean over a text's own tokens, scaled to length 1; sums in double precision. */
function pool(states: Float32Array, begin: number, numTokens: number, size: number): Float32Array {
  const sums = new Float64Array(size);
  for (let token = 0; token < numTokens; token += 1) {
    const at = begin + token * size;
    for (let i = 0; i < size; i += 1) sums[i] = (sums[i] as number) + (states[at + i] as number);
  }
  let squares = 0;
  for (const sum of sums) squares += sum * sum;
  const norm = Math.sqrt(squares);
  // All zeros has no direction; it stays as it is.
  return Float32Array.from(sums, (sum) => (norm === 0 ? 0 : sum / norm));
}

function closedError(): WideSeekError {
  return new WideSeekError("WS_CLOSED", "the encoder is closed");
}
