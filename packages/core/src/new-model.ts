// Makes a new small model for the cold start: a vocabulary from the expert's traces, random weights. Owns no training.
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import type { RunConfig } from "@wideseek/config";
import { NativePolicy } from "@wideseek/engine";
import { type Task, type Toolset, trajectoryTokenIds } from "@wideseek/spec";
import { ChatTokenizer, readQwen3Template, saveTokenizer, trainBpe } from "@wideseek/text";
import { expertTraces } from "./expert-traces.ts";
import { saveModel } from "./model-folder.ts";

type NewModelConfig = NonNullable<RunConfig["model"]["create"]>;

export interface NewModelParts {
  config: RunConfig;
  shape: NewModelConfig;
  tools: Toolset;
  tasks: readonly Task[];
}

/** Writes a Hugging Face folder at `directory` unless it is there; whole or not at all. */
export async function createModel(directory: string, parts: NewModelParts): Promise<void> {
  if (existsSync(directory)) return;
  const vocabulary = await mkdtemp(`${directory}.tmp-`);
  try {
    await learnVocabulary(vocabulary, parts);
    const config = modelConfig(parts.shape, await ChatTokenizer.load(vocabulary));
    await using policy = await NativePolicy.create(config, BigInt(parts.shape.seed), { device: "cpu" });
    await saveModel(policy, vocabulary, directory);
  } finally {
    await rm(vocabulary, { recursive: true, force: true });
  }
}

/** Byte pairs of what the agents read and write; a first tokenizer of single bytes makes the traces readable. */
async function learnVocabulary(directory: string, { config, shape, tools, tasks }: NewModelParts): Promise<void> {
  const template = await readQwen3Template();
  await saveTokenizer(directory, trainBpe([], { vocabSize: MIN_VOCAB }), template);
  const chat = await ChatTokenizer.load(directory);
  const limits = { ...config.agents.limits, contextTokens: BYTE_CONTEXT, contextTokensByRole: {} };
  const roomy = { ...config, agents: { ...config.agents, limits } };
  const trace = expertTraces({ config: roomy, chat, tools, tasks, split: "train" });
  const texts: string[] = [];
  for (let index = 0; index < shape.vocabularyTraces; index++) {
    const { trajectories } = await trace(index);
    texts.push(...(await Promise.all(trajectories.map((agent) => chat.decode(trajectoryTokenIds(agent))))));
  }
  await saveTokenizer(directory, trainBpe(texts, { vocabSize: shape.vocabSize }), template);
}

/** 256 bytes and Qwen3's 26 control tokens. */
const MIN_VOCAB = 282;
/** Tokens of a context that no trace of single bytes fills. */
const BYTE_CONTEXT = 10_000_000;

/** config.json of a dense Qwen3 with tied embeddings. */
function modelConfig(shape: NewModelConfig, chat: ChatTokenizer): Record<string, unknown> {
  return {
    architectures: ["Qwen3ForCausalLM"],
    model_type: "qwen3",
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: chat.tokenizer.tokenId("<|endoftext|>"),
    eos_token_id: chat.turnEndTokenId,
    head_dim: shape.headDim,
    hidden_act: "silu",
    hidden_size: shape.hiddenSize,
    initializer_range: shape.initStd,
    intermediate_size: shape.intermediateSize,
    max_position_embeddings: shape.maxPositions,
    num_attention_heads: shape.numHeads,
    num_hidden_layers: shape.numLayers,
    num_key_value_heads: shape.numKvHeads,
    rms_norm_eps: 1e-6,
    rope_scaling: null,
    rope_theta: shape.ropeTheta,
    sliding_window: null,
    tie_word_embeddings: true,
    torch_dtype: "float32",
    use_cache: true,
    use_sliding_window: false,
    vocab_size: chat.vocabSize,
  };
}
