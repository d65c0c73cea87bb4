// loadPolicy: a model folder becomes a trainable, chatting policy. Owns no weights and no tokenizer.
import { checkTrainable, type LoadOptions, NativePolicy, readModelConfig } from "@wideseek/engine";
import { ChatTokenizer } from "@wideseek/text";
import { ChatPolicy } from "./chat-policy.ts";

export type LoadPolicyOptions = LoadOptions & {
  /** Refuses a model that cannot be trained, before its weights are read. Default: false. */
  trainable?: boolean;
};

/** Largest packed batch; its memory is taken at the first training operation. */
const DEFAULT_TRAIN_TOKENS = 16_384;

/**
 * Loads weights, tokenizer and chat template of a Hugging Face folder.
 * @throws WS_IO, WS_CORRUPT_FILE, WS_UNSUPPORTED, WS_OUT_OF_MEMORY
 */
export async function loadPolicy({ trainable = false, ...options }: LoadPolicyOptions): Promise<ChatPolicy> {
  // The tokenizer first: its mistakes are found before memory for weights is taken.
  const chat = await ChatTokenizer.load(options.modelDir);
  if (trainable) checkTrainable(await readModelConfig(options.modelDir), options.modelDir);
  return new ChatPolicy(await NativePolicy.load({ maxTrainTokens: DEFAULT_TRAIN_TOKENS, ...options }), chat);
}
