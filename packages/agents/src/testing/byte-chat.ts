// For tests: the real chat tokenizer over a vocabulary of 256 bytes and Qwen3's control tokens (one byte = one token).
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ChatTokenizer, readQwen3Template } from "@wideseek/text";

const controlTokens = [
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<tool_call>",
  "</tool_call>",
  "<tool_response>",
  "</tool_response>",
  "<think>",
  "</think>",
];

/** GPT-2's printable stand-ins for bytes, which the ByteLevel pre-tokenizer uses. */
function byteAlphabet(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    if (printable(byte)) return String.fromCharCode(byte);
    next += 1;
    return String.fromCharCode(next - 1);
  });
}

export async function byteChat(): Promise<ChatTokenizer> {
  const directory = await mkdtemp(join(tmpdir(), "wideseek-chat-"));
  try {
    const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
    const tokenizer = {
      version: "1.0",
      added_tokens: controlTokens.map((content, index) => ({
        id: 256 + index,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: { type: "BPE", vocab: Object.fromEntries(byteAlphabet().map((symbol, id) => [symbol, id])), merges: [] },
    };
    await writeFile(join(directory, "tokenizer.json"), JSON.stringify(tokenizer));
    await writeFile(join(directory, "tokenizer_config.json"), JSON.stringify({ eos_token: "<|im_end|>" }));
    await writeFile(join(directory, "chat_template.jinja"), await readQwen3Template());
    return await ChatTokenizer.load(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}
