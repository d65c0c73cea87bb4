// A thousand episodes at once whose judge is dead for a minute, and faulty before and after: every one is judged in the
// end as if nothing had happened, or says that it was not judged; the event loop stays free and memory bounded.
import { describe, expect, it } from "vitest";
import { openaiChatModel } from "../../packages/llm/src/index.ts";
import { ScriptedServer, type ServerFault, type ServerRequest } from "../../packages/llm/src/testing/index.ts";
import { LlmJudge, scoreEpisode } from "../../packages/rewards/src/index.ts";
import type { ClientTiming, Episode, RewardBreakdown, TableTask } from "../../packages/spec/src/index.ts";
import { judgeAgain } from "../../packages/train/src/judge-again.ts";

const NUM_EPISODES = 1000;

/** Sleepers wake in order when everything else has had its turn; nobody waits in truth. */
class VirtualClock implements ClientTiming {
  time = 0;
  #sleepers: { at: number; wake: () => void }[] = [];
  #running = true;
  #state = 12345;

  now(): number {
    return this.time;
  }

  /** Pseudo-random and the same in every run. */
  random(): number {
    this.#state = (Math.imul(this.#state, 1103515245) + 12345) >>> 0;
    return this.#state / 2 ** 32;
  }

  async sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((wake) => this.#sleepers.push({ at: this.time + milliseconds, wake }));
  }

  async run(): Promise<void> {
    while (this.#running) {
      for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
      const first = Math.min(...this.#sleepers.map(({ at }) => at));
      if (!Number.isFinite(first)) continue;
      this.time = Math.max(this.time, first);
      const due = this.#sleepers.filter(({ at }) => at <= this.time);
      this.#sleepers = this.#sleepers.filter(({ at }) => at > this.time);
      for (const { wake } of due) wake();
    }
  }

  stop(): void {
    this.#running = false;
  }
}

/** Equal but for case is right. */
function verdict({ messages }: ServerRequest): string {
  const data = JSON.parse(/<data>\n(.*)\n<\/data>/.exec(messages[1]?.content ?? "")?.[1] ?? "null");
  const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();
  if (data.items) {
    type Item = { id: string; response: string; target: string };
    return JSON.stringify({
      grades: data.items.map(({ id, response, target }: Item) => ({ id, grade: same(response, target) ? 1 : 0 })),
    });
  }
  type Name = { id: string; text: string };
  const match = ({ text }: Name): string | null => data.reference.find((r: Name) => same(r.text, text))?.id ?? null;
  return JSON.stringify({ matches: data.predicted.map((name: Name) => ({ id: name.id, match: match(name) })) });
}

const table = (rows: readonly string[][]): string =>
  `\`\`\`markdown\n| town | river | year |\n| --- | --- | --- |\n${rows.map((row) => `| ${row.join(" | ")} |`).join("\n")}\n\`\`\``;

/** Episode `index` has `index % 5` of its four rows right. */
function episodeOf(index: number): { episode: Episode; expected: number } {
  const rows = Array.from({ length: 4 }, (_, row) => [`town ${index}-${row}`, `river ${row}`, `year ${row}`]);
  const numRight = index % 5;
  const answered = rows.map(([town = "", ...rest], row) => [
    town.toUpperCase(),
    ...rest.map((cell) => (row < numRight ? cell.toUpperCase() : `no ${cell}`)),
  ]);
  const task: TableTask = {
    kind: "table",
    instanceId: `t${index}`,
    question: "q",
    language: "en",
    answer: table(rows),
    uniqueColumns: ["town"],
    requiredColumns: [],
  };
  const episode: Episode = {
    task,
    sample: 0,
    seed: BigInt(index),
    workflow: "sa",
    seconds: 0,
    trajectories: [
      {
        agentId: "single",
        role: "single",
        prompt: "",
        segments: [],
        stopReason: "answered",
        numTurns: 1,
        numSubagentCalls: 0,
        numSearches: 0,
        numAccesses: 0,
        numMalformedCalls: 0,
        answer: table(answered),
        errors: [],
      },
    ],
  };
  return { episode, expected: (4 + 2 * numRight) / 12 };
}

interface Outcome {
  rewards: readonly RewardBreakdown[];
  numUnjudgedAtFirst: number;
  numBreakerOpenings: number;
  heapMiB: number;
}

/** Scores all episodes at once; the server is dead in `[deadFrom, deadTo)` milliseconds of the virtual clock. */
async function scoreAll(options: {
  deadFrom: number;
  deadTo: number;
  deadlineSeconds: number;
  maxAttempts: number;
  maxPauseSeconds: number;
}): Promise<Outcome> {
  const clock = new VirtualClock();
  const fault = (request: ServerRequest): ServerFault | undefined => {
    if (clock.time >= options.deadFrom && clock.time < options.deadTo) {
      return request.index % 2 ? { fault: "status", status: 503 } : { fault: "cut", beforeHeaders: true };
    }
    if (request.index % 20 === 7) return { fault: "status", status: 500 };
    if (request.index % 100 === 33) return { fault: "garbage" };
    if (request.index % 100 === 66) return { fault: "hang" };
    return undefined;
  };
  await using server = await ScriptedServer.start({
    script: (request) => fault(request) ?? verdict(request),
    maxKept: 0,
  });
  const { deadlineSeconds, maxAttempts } = options;
  const server64 = { baseUrl: server.baseUrl, model: "judge", maxConcurrent: 64, attemptSeconds: 0.5 };
  await using model = openaiChatModel({ ...server64, deadlineSeconds, maxAttempts }, { timing: clock });
  const judge = new LlmJudge({ model });
  const { signal } = new AbortController();
  const episodes = Array.from({ length: NUM_EPISODES }, (_, index) => episodeOf(index).episode);
  const score = (some: readonly Episode[]): Promise<RewardBreakdown[]> =>
    Promise.all(some.map((episode) => scoreEpisode(episode, { judge, signal })));

  const ticking = clock.run();
  globalThis.gc?.();
  const heapBefore = process.memoryUsage().heapUsed;
  let heapMost = heapBefore;
  const sampler = setInterval(() => {
    heapMost = Math.max(heapMost, process.memoryUsage().heapUsed);
  }, 50);
  try {
    const first = await score(episodes);
    const { rewards } = await judgeAgain(
      first,
      (indices) => score(indices.map((index) => episodes[index] as Episode)),
      {
        maxPauseSeconds: options.maxPauseSeconds,
        sleep: (seconds, abort) => clock.sleep(seconds * 1000, abort),
        signal,
      },
    );
    return {
      rewards,
      numUnjudgedAtFirst: first.filter(({ judged }) => !judged).length,
      numBreakerOpenings: model.usage.numBreakerOpenings,
      heapMiB: (heapMost - heapBefore) / 2 ** 20,
    };
  } finally {
    clearInterval(sampler);
    clock.stop();
    await ticking;
  }
}

function expectTrueScores(rewards: readonly RewardBreakdown[]): void {
  for (const [index, reward] of rewards.entries()) {
    if (reward.judged) expect(reward.score, `episode ${index}`).toBeCloseTo(episodeOf(index).expected, 10);
    else expect(reward).toMatchObject({ score: 0, total: 0, reason: expect.stringMatching(/judge/) });
  }
}

describe("a judge that is dead for a minute, among a thousand episodes", () => {
  it("is waited for by its client: all episodes get their true score", async () => {
    const outcome = await scoreAll({
      deadFrom: 200,
      deadTo: 60_200,
      deadlineSeconds: 600,
      maxAttempts: 8,
      maxPauseSeconds: 0,
    });
    expect(outcome.rewards.filter(({ judged }) => !judged)).toEqual([]);
    expectTrueScores(outcome.rewards);
    expect(outcome.numBreakerOpenings).toBeGreaterThan(0);
    expect(outcome.heapMiB).toBeLessThan(300);
    // The scripted server lives in this process too, and the machine may be busy: alone it stays below 50.
  });

  it("and by whoever scores, where the client is impatient", async () => {
    const impatient = { deadlineSeconds: 5, maxAttempts: 3 };
    const outcome = await scoreAll({ deadFrom: 0, deadTo: 60_000, ...impatient, maxPauseSeconds: 600 });
    expect(outcome.numUnjudgedAtFirst).toBe(NUM_EPISODES);
    expectTrueScores(outcome.rewards);
    expect(outcome.rewards.filter(({ judged }) => !judged)).toEqual([]);
  });

  it("and is never a score, where nobody waits", async () => {
    const impatient = { deadlineSeconds: 5, maxAttempts: 2 };
    const outcome = await scoreAll({
      deadFrom: 100,
      deadTo: Number.POSITIVE_INFINITY,
      ...impatient,
      maxPauseSeconds: 0,
    });
    expect(outcome.rewards.filter(({ judged }) => !judged).length).toBeGreaterThan(0);
    expectTrueScores(outcome.rewards);
  });
});
