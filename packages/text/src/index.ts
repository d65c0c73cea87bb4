export * from "./bpe-trainer.ts";
export * from "./chat-template.ts";
export * from "./chat-tokenizer.ts";
export * from "./qwen3-format.ts";
export * from "./tokenizer.ts";
export * from "./tool-call-parser.ts";
