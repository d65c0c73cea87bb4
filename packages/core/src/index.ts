// The public face of WideSeek. Exports what people need; everything else is internal.
export type { Limits, LimitsInput } from "@wideseek/agents";
export { type LoadConfigOptions, loadConfig, loadSuite, type RunConfig, type Suite } from "@wideseek/config";
export { readTasks } from "@wideseek/data";
export {
  type Comparison,
  compareRuns,
  type EvaluateOptions,
  type EvaluationReport,
  evaluate,
  measureTitle,
  readComparable,
  runFigures,
} from "@wideseek/eval";
export { type ChatServerOptionsInput, openaiChatModel } from "@wideseek/llm";
export type * from "@wideseek/spec";
export { WideSeekError } from "@wideseek/spec";
export {
  type AdvantageOptions,
  type EpisodeTrace,
  type GroupAdvantages,
  groupAdvantages,
  type PackOptions,
  packEpisodes,
  type TrainLoopOptions,
  trainLoop,
} from "@wideseek/train";
export type { ChatPolicy, LossInput, OptimizerInput } from "./chat-policy.ts";
export { type SearchToolsOptions, searchTools } from "./corpus-tools.ts";
export {
  type ConfiguredRun,
  type CreateRunOptions,
  createRun,
  type EvaluationResult,
  type RunResult,
} from "./create-run.ts";
export { type AgreementReport, type AgreementRequest, judgeAgreement } from "./judge-agreement.ts";
export { llmJudge } from "./llm-judge.ts";
export { type LoadPolicyOptions, loadPolicy } from "./load-policy.ts";
export { LocalChatModel, type LocalChatModelOptions } from "./local-chat-model.ts";
export { type EpisodeRequest, runEpisode } from "./run-episode.ts";
export { type SuiteReport, type SuiteRowReport, suiteText } from "./suite-report.ts";
export { runSuite, type SuiteOptions } from "./suite-run.ts";
export { tableJudge } from "./table-judge.ts";
