// What every tokenizer of the Qwen3 family has in common: control tokens, text splitting, the layout of tokenizer.json.

export interface AddedToken {
  content: string;
  /** As published: decoders told to skip special tokens drop these. */
  special: boolean;
}

/** In the order of their ids, which follow the BPE vocabulary. */
export const QWEN3_ADDED_TOKENS: readonly AddedToken[] = [
  ...[
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
  ].map((content) => ({ content, special: true })),
  ...[
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
  ].map((content) => ({ content, special: false })),
];

/** English clitics, words with one leading mark, single digits, punctuation with its newlines, white space. */
const SPLIT_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const BYTE_LEVEL = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false } as const;
const EXACT_TOKEN = { single_word: false, lstrip: false, rstrip: false, normalized: false } as const;

/** tokenizer.json of the Hugging Face `tokenizers` library. */
export interface TokenizerJson {
  version: "1.0";
  truncation: null;
  padding: null;
  added_tokens: (AddedToken & typeof EXACT_TOKEN & { id: number })[];
  normalizer: { type: "NFC" };
  pre_tokenizer: Readonly<Record<string, unknown>>;
  post_processor: Readonly<Record<string, unknown>>;
  decoder: Readonly<Record<string, unknown>>;
  model: {
    type: "BPE";
    dropout: null;
    unk_token: null;
    continuing_subword_prefix: "";
    end_of_word_suffix: "";
    fuse_unk: false;
    byte_fallback: false;
    ignore_merges: false;
    vocab: Record<string, number>;
    merges: [string, string][];
  };
}

/** @param vocab tokens in the order of their ids, in the byte-level alphabet */
export function qwen3TokenizerJson(
  vocab: readonly string[],
  merges: readonly (readonly [string, string])[],
  addedTokens: readonly AddedToken[],
): TokenizerJson {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens.map((token, index) => ({ id: vocab.length + index, ...EXACT_TOKEN, ...token })),
    normalizer: { type: "NFC" },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: SPLIT_PATTERN }, behavior: "Isolated", invert: false },
        BYTE_LEVEL,
      ],
    },
    post_processor: BYTE_LEVEL,
    decoder: BYTE_LEVEL,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocab.map((token, id) => [token, id])),
      merges: merges.map(([left, right]) => [left, right]),
    },
  };
}

/** tokenizer_config.json that makes Hugging Face load the folder as a Qwen tokenizer with `chatTemplate`. */
export function qwen3TokenizerConfig(tokenizer: TokenizerJson, chatTemplate: string): Record<string, unknown> {
  return {
    add_bos_token: false,
    add_prefix_space: false,
    added_tokens_decoder: Object.fromEntries(tokenizer.added_tokens.map(({ id, ...token }) => [id, token])),
    additional_special_tokens: tokenizer.added_tokens
      .filter((token) => token.special && token.content !== "<|endoftext|>")
      .map((token) => token.content),
    bos_token: null,
    chat_template: chatTemplate,
    clean_up_tokenization_spaces: false,
    eos_token: "<|im_end|>",
    errors: "replace",
    model_max_length: 131072,
    pad_token: "<|endoftext|>",
    split_special_tokens: false,
    tokenizer_class: "Qwen2Tokenizer",
    unk_token: null,
  };
}
