// Public face of the tools package.
export { CorpusIndex } from "./corpus-index.ts";
export { CountedBackend } from "./counted-backend.ts";
export { HttpSearchBackend, type HttpSearchOptions } from "./http-backend.ts";
export { type ToolOptions, type ToolOptionsInput, toolOptionsSchema } from "./options.ts";
export { readPages } from "./pages.ts";
export { PageSummarizer, type PageSummarizerOptions, type SummaryCounts } from "./summary.ts";
export { searchTools } from "./toolset.ts";
export { LeakBlocklist } from "./web/leak-blocklist.ts";
export { LeakFilter } from "./web/leak-filter.ts";
export { openMcp, openWeb } from "./web/online.ts";
export {
  type BlocklistOptions,
  type BlocklistOptionsInput,
  blocklistOptionsSchema,
  type McpOptions,
  type McpOptionsInput,
  mcpOptionsSchema,
  type RecordingOptions,
  recordingOptionsSchema,
  type WebOptions,
  type WebOptionsInput,
  webOptionsSchema,
} from "./web/options.ts";
export { RecordingBackend, ReplayBackend } from "./web/recording.ts";
