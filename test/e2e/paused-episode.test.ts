// An episode of the shipped model that is stopped again and again, kept in a file each time and continued by another
// engine has the very tokens and log-probabilities of one that was never stopped.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it } from "vitest";
import { runPausableEpisode } from "../../packages/agents/src/index.ts";
import { loadConfig, loadPolicy } from "../../packages/core/src/index.ts";
import { openRunData } from "../../packages/core/src/run-data.ts";
import { type Episode, isPaused, type PausedEpisode, type Task, type Toolset } from "../../packages/spec/src/index.ts";
import { searchTools } from "../../packages/tools/src/index.ts";
import { readRollouts, writeRollouts } from "../../packages/train/src/rollout-store.ts";

const root = path.resolve(import.meta.dirname, "../..");

it("a stopped, stored and continued episode equals one that was never stopped, bit for bit", async () => {
  const small = [
    "numTrainRegions=20",
    "numTrainTables=4",
    "numTrainFacts=0",
    "numHeldOutTables=1",
    "numHeldOutRegions=10",
  ];
  const config = await loadConfig({
    file: path.join(root, "configs/embedded.yaml"),
    overrides: small.map((setting) => `data.${setting}`),
  });
  const modelDir = path.join(root, config.model.directory);
  const load = () => loadPolicy({ modelDir, device: "cpu", threads: 1, maxContextTokens: 2048 });
  await using data = await openRunData(config.data, config.tools);
  const tools = searchTools({ backend: data.backend, options: config.tools });
  const task = data.trainTasks[0] as Task;
  const { limits, promptStyle: prompts } = config.agents;
  const directory = await mkdtemp(path.join(tmpdir(), "wideseek-paused-"));

  const play = async (pauseAtCall: number, resume?: PausedEpisode): Promise<Episode | PausedEpisode> => {
    await using policy = await load();
    const pause = new AbortController();
    let numCalls = 0;
    const counted: Toolset = {
      definitions: (...args) => tools.definitions(...args),
      run: (...args) => {
        numCalls += 1;
        if (numCalls >= pauseAtCall) pause.abort();
        return tools.run(...args);
      },
    };
    const shared = { policy, chat: policy.chat, tools: counted, limits, prompts, task, seed: 11n };
    return await runPausableEpisode({ ...shared, pause: pause.signal, resume });
  };
  /** Whether a prompt was cached is no part of an episode; its time is. */
  const timeless = (episode: Episode | PausedEpisode) => ({ ...episode, seconds: 0 });

  try {
    const whole = await play(Number.POSITIVE_INFINITY);
    let numPauses = 0;
    let result = await play(1);
    while (isPaused(result)) {
      numPauses += 1;
      const member = { seed: 11n, ended: null, paused: result };
      await writeRollouts(directory, { carried: [{ task, members: [member] }], ready: null });
      const { carried } = await readRollouts(directory);
      result = await play(1, carried[0]?.members[0]?.paused ?? undefined);
    }
    expect(numPauses).toBeGreaterThan(1);
    expect(timeless(result)).toEqual(timeless(whole));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
