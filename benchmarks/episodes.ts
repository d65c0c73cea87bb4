// 1,000 episodes at once in real time against tools and a judge with faults: what is lost, how late the event loop gets,
// how much memory it takes. The model is scripted; tokenizer, agents, tools, scoring and files are the real ones.
import { mkdtemp, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { runEpisode } from "../packages/agents/src/index.ts";
import { runEvaluation } from "../packages/core/src/evaluation-run.ts";
import type { EvaluationReport } from "../packages/eval/src/index.ts";
import { rewardOptionsSchema } from "../packages/rewards/src/index.ts";
import { ChatTokenizer } from "../packages/text/src/index.ts";
import { searchTools } from "../packages/tools/src/index.ts";
import { FaultyBackend, hillTask, issueFaults, OutageJudge, scriptedTeam } from "../test/fault/faults.ts";
import type { Benchmark } from "./context.ts";
import { repositoryRoot } from "./record.ts";

interface Outcome {
  report: EvaluationReport;
  seconds: number;
  delayMs: { p50: number; p99: number; max: number };
  peakHeapMb: number;
  peakRssMb: number;
  faults: FaultyBackend["counts"];
  numJudgeFailures: number;
}

async function run(numEpisodes: number, outageSeconds: number, toolSeconds: number): Promise<Outcome> {
  const chat = await ChatTokenizer.load(join(repositoryRoot, "models/wideseek-tiny"));
  const backend = new FaultyBackend(issueFaults, 7);
  const tools = searchTools({ backend, options: { timeoutSeconds: toolSeconds } });
  const policy = scriptedTeam(chat);
  const directory = await mkdtemp(join(tmpdir(), "wideseek-episodes-"));
  const delay = monitorEventLoopDelay({ resolution: 5 });
  const peak = { heap: 0, rss: 0 };
  const sampler = setInterval(() => {
    const { heapUsed, rss } = process.memoryUsage();
    peak.heap = Math.max(peak.heap, heapUsed);
    peak.rss = Math.max(peak.rss, rss);
  }, 100);
  const start = performance.now();
  const downUntil = start + outageSeconds * 1000;
  const judge = new OutageJudge(() => performance.now() < downUntil);
  delay.enable();
  try {
    const { report } = await runEvaluation({
      directory,
      name: "faults",
      label: "faults",
      model: "scripted",
      tasks: Array.from({ length: numEpisodes / 4 }, (_, index) => hillTask(index)),
      settings: { samples: 4, concurrency: numEpisodes, seed: 1, judgeAttempts: 8, traces: 8, traceSamples: 1 },
      rewards: rewardOptionsSchema.parse({}),
      judge,
      keep: "report",
      progress: { write: () => true },
      signal: new AbortController().signal,
      decode: (tokenIds) => chat.decode(tokenIds),
      runEpisode: (task, sample, seed) => runEpisode({ policy, chat, tools, task, sample, seed }),
    });
    delay.disable();
    const milliseconds = (share: number): number => delay.percentile(share) / 1e6;
    return {
      report,
      seconds: (performance.now() - start) / 1000,
      delayMs: { p50: milliseconds(50), p99: milliseconds(99), max: delay.max / 1e6 },
      peakHeapMb: peak.heap / 1e6,
      peakRssMb: peak.rss / 1e6,
      faults: backend.counts,
      numJudgeFailures: judge.numFailed,
    };
  } finally {
    clearInterval(sampler);
    await rm(directory, { recursive: true });
  }
}

/** Episodes that are not there, not judged, or scored wrong: the scripted answer is always right. */
function numLost({ tasks }: EvaluationReport, numEpisodes: number): number {
  const right = tasks.flatMap(({ episodes }) => episodes).filter(({ reward }) => reward.judged && reward.score === 1);
  return numEpisodes - right.length;
}

export const episodesBenchmark: Benchmark = async function* ({ smoke }) {
  const numEpisodes = smoke ? 20 : 1000;
  const [outageSeconds, toolSeconds] = smoke ? [1, 1] : [60, 20];
  const { report, seconds, delayMs, peakHeapMb, peakRssMb, faults, numJudgeFailures } = await run(
    numEpisodes,
    outageSeconds,
    toolSeconds,
  );
  const { failures, statistics } = report;
  // Other processes on the machine delay the event loop too.
  const loadAverage = Number((loadavg()[0] ?? 0).toFixed(1));
  const params = {
    episodes: numEpisodes,
    shares: issueFaults,
    outageSeconds,
    toolTimeoutSeconds: toolSeconds,
    loadAverage,
  };
  const found = { faults, numJudgeFailures, failures, stopReasons: statistics.leadStopReasons, seconds };
  const name = (figure: string): string => `episodes.${numEpisodes}.${figure}`;
  const lost = numLost(report, numEpisodes);
  yield { name: name("lost"), unit: "1", values: [lost], params: { ...params, ...found } };
  yield { name: name("loop_delay_p99_ms"), unit: "ms", values: [delayMs.p99], params: { ...params, ...delayMs } };
  yield { name: name("peak_rss_mb"), unit: "MB", values: [peakRssMb], params: { ...params, peakHeapMb } };
};
