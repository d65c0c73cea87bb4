// Public face of the agents package.
export type { AgentChat } from "./agent-loop.ts";
export {
  type AgentModel,
  defaultSampling,
  type EpisodeRequest,
  type PausableRequest,
  runEpisode,
  runPausableEpisode,
  runTeam,
  type TeamRequest,
} from "./episode.ts";
export { EpisodeControl } from "./episode-control.ts";
export { leadToolName } from "./lead.ts";
export { type Limits, type LimitsInput, limitsSchema } from "./limits.ts";
export {
  type AgentTexts,
  agentTexts,
  type PromptLanguage,
  type PromptStyle,
  promptLanguage,
  promptLanguageSchema,
  promptStyleSchema,
} from "./prompts.ts";
export { type ScriptedContext, ScriptedPolicy, type ScriptedPolicySettings } from "./scripted-policy.ts";
export { turnSeed } from "./seeds.ts";
