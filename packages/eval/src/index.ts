export { type Bar, type BarChart, type BarGroup, barChart } from "./bar-chart.ts";
export { type BootstrapSettings, type Estimate, estimateMean } from "./bootstrap.ts";
export { type ComparedScore, type Comparison, compareRuns, type RunScores, readComparable } from "./compare.ts";
export { type AgentResult, type EpisodeResult, type EpisodeScore, parseEpisodeResult } from "./episode-result.ts";
export {
  type EvaluateOptions,
  type EvaluationPart,
  type EvaluationProgress,
  type EvaluationReport,
  episodeSeed,
  evaluate,
  type JudgeAgain,
  type TaskResult,
} from "./evaluate.ts";
export type { FailureKind, FailureSummary } from "./failures.ts";
export { renderReport, writeHtmlReport } from "./html-report.ts";
export { JsonLog } from "./json-log.ts";
export { boundsMeaning, boundsText, fraction, isShown, measureTitle } from "./measure-names.ts";
export { type AtK, atK, type Measure } from "./metrics.ts";
export { type ComparedTable, OfficialLayout, type OfficialSample } from "./official-layout.ts";
export { holm, type PairedResult, pairedTest } from "./paired-test.ts";
export { type ChartPoint, type ChartSeries, type LineChart, lineChart } from "./plot.ts";
export { type PublishedFiles, writePublishedFiles } from "./published-layout.ts";
export { type EpisodeFile, type MetricsRow, type RunDirectory, readRunDirectory } from "./run-directory.ts";
export { type RunFigure, runFigures } from "./run-figures.ts";
export type { EpisodeStatistics } from "./statistics.ts";
export {
  type SweepCurve,
  type SweepOptions,
  type SweepParameter,
  type SweepPoint,
  type SweepPointReport,
  type SweepReport,
  sweep,
  sweepChart,
  sweepTable,
} from "./sweep.ts";
export type { AgentTrace, EpisodeTrace, SegmentTrace } from "./trace.ts";
