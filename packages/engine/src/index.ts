// Public surface of @wideseek/engine.
export { loadAddon } from "./addon.ts";
export type {
  Binding,
  EngineStats,
  NativeModelConfig,
  ParameterInfo,
  TensorKind,
} from "./binding.ts";
export { checkTrainable, type ModelConfig, parseModelConfig, readModelConfig } from "./model-config.ts";
export { NativePolicy } from "./native-policy.ts";
export { type CreateOptions, type LoadOptions, loadOptionsSchema } from "./options.ts";
export {
  openModelWeights,
  openSafetensors,
  type TensorInfo,
  type TensorReader,
  writeSafetensors,
} from "./safetensors.ts";
