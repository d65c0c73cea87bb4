export type { AgentResult, EpisodeResult } from "./episode-result.ts";
export {
  type EvaluateOptions,
  type EvaluationProgress,
  type EvaluationReport,
  episodeSeed,
  evaluate,
  type TaskResult,
} from "./evaluate.ts";
export { renderReport, writeHtmlReport } from "./html-report.ts";
export { type AtK, atK, type BootstrapSettings, type Estimate, estimateMean, type Measure } from "./metrics.ts";
export { type ChartPoint, type ChartSeries, type LineChart, lineChart } from "./plot.ts";
export { type EpisodeFile, type MetricsRow, type RunDirectory, readRunDirectory } from "./run-directory.ts";
export type { EpisodeStatistics } from "./statistics.ts";
export {
  type SweepCurve,
  type SweepOptions,
  type SweepParameter,
  type SweepPoint,
  type SweepReport,
  sweep,
  sweepChart,
} from "./sweep.ts";
export type { AgentTrace, EpisodeTrace, SegmentTrace } from "./trace.ts";
