// Writes a dense Qwen3 checkpoint (Hugging Face folder, fp32) as GGUF version 3 for llama.cpp, with a stand-in vocabulary:
// the benchmarks feed token ids, no text. Format: ggml docs/gguf.md; tensor and key names: llama.cpp, architecture "qwen3".
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

const alignment = 32;
const valueType = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
const tensorType = { float32: 0, bfloat16: 30 } as const;
export type GgufDtype = keyof typeof tensorType;
/** llama.cpp's file types: ALL_F32 = 0, MOSTLY_BF16 = 32. */
const fileType: Readonly<Record<GgufDtype, number>> = { float32: 0, bfloat16: 32 };

class ByteWriter {
  readonly #parts: Buffer[] = [];

  uint32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.#push(bytes);
  }

  uint64(value: number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return this.#push(bytes);
  }

  float32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return this.#push(bytes);
  }

  string(text: string): this {
    const bytes = Buffer.from(text, "utf8");
    return this.uint64(bytes.length).#push(bytes);
  }

  bool(value: boolean): this {
    return this.#push(Buffer.from([value ? 1 : 0]));
  }

  #push(bytes: Buffer): this {
    this.#parts.push(bytes);
    return this;
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Key-value pairs, counted for the header. */
class Metadata {
  readonly writer: ByteWriter = new ByteWriter();
  count = 0;

  #key(name: string, type: number): ByteWriter {
    this.count++;
    return this.writer.string(name).uint32(type);
  }

  uint32(name: string, value: number): void {
    this.#key(name, valueType.uint32).uint32(value);
  }

  float32(name: string, value: number): void {
    this.#key(name, valueType.float32).float32(value);
  }

  bool(name: string, value: boolean): void {
    this.#key(name, valueType.bool).bool(value);
  }

  string(name: string, value: string): void {
    this.#key(name, valueType.string).string(value);
  }

  strings(name: string, values: readonly string[]): void {
    const writer = this.#key(name, valueType.array).uint32(valueType.string).uint64(values.length);
    for (const value of values) writer.string(value);
  }

  int32s(name: string, values: readonly number[]): void {
    const writer = this.#key(name, valueType.array).uint32(valueType.int32).uint64(values.length);
    for (const value of values) writer.uint32(value);
  }
}

interface Tensor {
  name: string;
  /** Row-major, as in the checkpoint. */
  shape: number[];
  data: Float32Array;
}

/** Tensors of model.safetensors; fp32 only, which is what the benchmarks save. */
function readSafetensors(path: string): Map<string, Tensor> {
  const bytes = readFileSync(path);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = JSON.parse(
    bytes.subarray(8, 8 + headerLength).toString("utf8"),
  );
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    if (entry.dtype !== "F32") throw new Error(`${path}: ${name} is ${entry.dtype}, only F32 is converted`);
    const [begin, end] = entry.data_offsets.map((offset) => 8 + headerLength + offset) as [number, number];
    // A copy, because a float view needs an aligned start.
    const data = new Float32Array(new Uint8Array(bytes.subarray(begin, end)).buffer);
    tensors.set(name, { name, shape: entry.shape, data });
  }
  return tensors;
}

/** Round to nearest, ties to even; the values are finite. */
function toBfloat16(data: Float32Array): Buffer {
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  const rounded = Uint16Array.from(bits, (value) => (value + 0x7fff + ((value >>> 16) & 1)) >>> 16);
  return Buffer.from(rounded.buffer);
}

const layerNames: Readonly<Record<string, string>> = {
  "input_layernorm.weight": "attn_norm.weight",
  "self_attn.q_proj.weight": "attn_q.weight",
  "self_attn.k_proj.weight": "attn_k.weight",
  "self_attn.v_proj.weight": "attn_v.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
  "self_attn.q_norm.weight": "attn_q_norm.weight",
  "self_attn.k_norm.weight": "attn_k_norm.weight",
  "post_attention_layernorm.weight": "ffn_norm.weight",
  "mlp.gate_proj.weight": "ffn_gate.weight",
  "mlp.up_proj.weight": "ffn_up.weight",
  "mlp.down_proj.weight": "ffn_down.weight",
};

const outerNames: Readonly<Record<string, string>> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};

function ggufName(name: string): string {
  const layer = /^model\.layers\.(\d+)\.(.+)$/.exec(name);
  const found = layer ? layerNames[layer[2] ?? ""] : outerNames[name];
  if (found === undefined) throw new Error(`${name}: no such tensor in a dense Qwen3 model`);
  return layer ? `blk.${layer[1]}.${found}` : found;
}

interface HuggingFaceConfig {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  max_position_embeddings: number;
  rms_norm_eps: number;
  rope_theta?: number;
  rope_parameters?: { rope_theta?: number };
}

function modelMetadata(config: HuggingFaceConfig, dtype: GgufDtype): Metadata {
  const metadata = new Metadata();
  metadata.string("general.architecture", "qwen3");
  metadata.string("general.name", "benchmark");
  metadata.uint32("general.file_type", fileType[dtype]);
  metadata.uint32("qwen3.context_length", config.max_position_embeddings);
  metadata.uint32("qwen3.embedding_length", config.hidden_size);
  metadata.uint32("qwen3.block_count", config.num_hidden_layers);
  metadata.uint32("qwen3.feed_forward_length", config.intermediate_size);
  metadata.uint32("qwen3.attention.head_count", config.num_attention_heads);
  metadata.uint32("qwen3.attention.head_count_kv", config.num_key_value_heads);
  metadata.uint32("qwen3.attention.key_length", config.head_dim);
  metadata.uint32("qwen3.attention.value_length", config.head_dim);
  metadata.float32("qwen3.attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  metadata.float32("qwen3.rope.freq_base", config.rope_parameters?.rope_theta ?? config.rope_theta ?? 10_000);
  metadata.uint32("qwen3.vocab_size", config.vocab_size);
  addVocabulary(metadata, config.vocab_size);
  return metadata;
}

/** The 256 byte symbols of GPT-2, fillers, two control tokens at the end. */
function addVocabulary(metadata: Metadata, size: number): void {
  const isPrintable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let numShifted = 0;
  const bytes = Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(isPrintable(byte) ? byte : 256 + numShifted++),
  );
  const fillers = Array.from({ length: size - 258 }, (_, index) => `filler${index}`);
  metadata.string("tokenizer.ggml.model", "gpt2");
  metadata.string("tokenizer.ggml.pre", "qwen2");
  metadata.strings("tokenizer.ggml.tokens", [...bytes, ...fillers, "<|endoftext|>", "<|im_end|>"]);
  // 1 = normal, 3 = control
  metadata.int32s(
    "tokenizer.ggml.token_type",
    Array.from({ length: size }, (_, id) => (id < size - 2 ? 1 : 3)),
  );
  metadata.strings("tokenizer.ggml.merges", [`${bytes[97]} ${bytes[98]}`]);
  metadata.uint32("tokenizer.ggml.eos_token_id", size - 1);
  metadata.uint32("tokenizer.ggml.padding_token_id", size - 2);
  metadata.bool("tokenizer.ggml.add_bos_token", false);
}

const padding = (length: number): Buffer => Buffer.alloc((alignment - (length % alignment)) % alignment);

/** Matrices are stored as `dtype`, vectors (norms) always as fp32, as llama.cpp wants them. */
export function writeGguf(modelDirectory: string, path: string, dtype: GgufDtype): void {
  const config: HuggingFaceConfig = JSON.parse(readFileSync(join(modelDirectory, "config.json"), "utf8"));
  const tensors = [...readSafetensors(join(modelDirectory, "model.safetensors")).values()];
  const metadata = modelMetadata(config, dtype);

  const infos = new ByteWriter();
  const blobs: Buffer[] = [];
  let offset = 0;
  for (const { name, shape, data } of tensors) {
    const type = shape.length > 1 ? dtype : "float32";
    const bytes = type === "bfloat16" ? toBfloat16(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    infos.string(ggufName(name)).uint32(shape.length);
    // ggml names the fastest dimension first.
    for (const size of [...shape].reverse()) infos.uint64(size);
    infos.uint32(tensorType[type]).uint64(offset);
    const padded = Buffer.concat([bytes, padding(bytes.length)]);
    blobs.push(padded);
    offset += padded.length;
  }
  const magic = Buffer.from("GGUF", "latin1");
  const counts = new ByteWriter().uint32(3).uint64(tensors.length).uint64(metadata.count).done();
  const header = Buffer.concat([magic, counts, metadata.writer.done(), infos.done()]);

  const file = openSync(path, "w");
  try {
    for (const part of [header, padding(header.length), ...blobs]) writeSync(file, part);
  } finally {
    closeSync(file);
  }
}
