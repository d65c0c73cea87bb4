// Paused episodes: stopped at any turn boundary, however often, they end as if they had never stopped.
import { type Episode, isPaused, type PausedEpisode, type Policy, type Toolset } from "@wideseek/spec";
import { describe, expect, test } from "vitest";
import { type PausableRequest, runPausableEpisode } from "./episode.ts";
import { call, chat, delegate, episode, type Reply, scripted, task, tools } from "./testing/team.ts";

const teamReply: Reply = ({ role, turn, request }) => {
  if (role === "lead") {
    if (turn === 1) return delegate("a", "b") + call("create_sub_agents", { sub_agents: [{ prompt: 3 }] });
    return turn === 2 ? `seen\n${delegate("c", "d", "e")}` : "\\boxed{done}";
  }
  if (turn === 3) return `report ${request}`;
  return `looking\n${call("search", { q: `${request}${turn}` })}${turn === 1 ? "<tool_call>{oops</tool_call>" : ""}`;
};

const timeless = ({ seconds: _, ...rest }: Episode): Omit<Episode, "seconds"> => rest;

/** Pauses before the `at`-th event (a generation or a tool call, from 1) of every run, until the episode ends. */
async function inPieces(at: number, overrides: Partial<PausableRequest> = {}): Promise<[Episode, number]> {
  let resume: PausedEpisode | undefined;
  for (let numPauses = 0; ; numPauses++) {
    const pause = new AbortController();
    let numEvents = 0;
    const count = (): void => {
      numEvents += 1;
      if (numEvents >= at) pause.abort();
    };
    const inner = scripted(teamReply);
    const policy: Policy = {
      ...{ maxContextTokens: 32_768, vocabSize: 265, version: 7n },
      generate: (request) => {
        count();
        return inner.generate(request);
      },
      close: async () => {},
      [Symbol.asyncDispose]: async () => {},
    };
    const counted: Toolset = {
      ...tools,
      run: (...args) => {
        count();
        return tools.run(...args);
      },
    };
    const request = { policy, chat, tools: counted, task, seed: 3n, prompts: "compact" as const, ...overrides };
    const result = await runPausableEpisode({ ...request, pause: pause.signal, resume });
    if (!isPaused(result)) return [result, numPauses];
    if (numPauses > 100) throw new Error("does not end");
    resume = result;
  }
}

describe("pause", () => {
  test("a team that is stopped at any turn ends with the same tokens, counts and errors", async () => {
    const whole = await episode(scripted(teamReply));
    expect(whole.trajectories).toHaveLength(6);
    expect(whole.trajectories[0]).toMatchObject({ stopReason: "answered", numSubagentCalls: 5, numMalformedCalls: 1 });
    for (let at = 1; at <= 20; at++) {
      const [result, numPauses] = await inPieces(at);
      expect(timeless(result)).toEqual(timeless(whole));
      if (at <= 4) expect(numPauses).toBeGreaterThan(2);
    }
  });

  test("a single agent too, on its last turn and when a turn is cut off", async () => {
    const limits = { singleTurns: 3, maxNewTokensPerTurn: 60 };
    const whole = await episode(scripted(teamReply), { workflow: "sa", limits });
    expect(whole.trajectories[0]?.errors.length).toBeGreaterThan(0);
    for (const at of [1, 2, 3, 4]) {
      const [result] = await inPieces(at, { workflow: "sa", limits });
      expect(timeless(result)).toEqual(timeless(whole));
    }
  });

  test("running calls are ended, and run again once: then the next pause lets them end", async () => {
    const events: string[] = [];
    const policy = scripted(({ turn }) => {
      events.push(`turn ${turn}`);
      return turn === 2 ? "done" : call("search", { q: turn });
    });
    let pause = new AbortController();
    let numCalls = 0;
    const slow: Toolset = {
      ...tools,
      run: async (toolCall, context) => {
        events.push("call");
        numCalls += 1;
        const { promise, resolve } = Promise.withResolvers<void>();
        context.signal?.addEventListener("abort", () => resolve());
        pause.abort();
        // The first one would never end by itself.
        if (numCalls === 1) await promise;
        expect(context.signal?.aborted).toBe(numCalls === 1);
        return numCalls === 1
          ? { text: "ended", ok: false, numSearches: 1, numAccesses: 0 }
          : tools.run(toolCall, context);
      },
    };
    const request = { policy, chat, tools: slow, task, seed: 3n, prompts: "compact", workflow: "sa" } as const;
    const first = (await runPausableEpisode({ ...request, pause: pause.signal })) as PausedEpisode;
    expect(isPaused(first)).toBe(true);
    expect(first.agents[0]?.trajectory).toMatchObject({ numTurns: 1, numSearches: 0, errors: [] });
    pause = new AbortController();
    const second = (await runPausableEpisode({ ...request, pause: pause.signal, resume: first })) as PausedEpisode;
    expect(isPaused(second)).toBe(true);
    expect(second.agents[0]?.trajectory).toMatchObject({ numTurns: 1, numSearches: 1 });
    const end = (await runPausableEpisode({ ...request, resume: second })) as Episode;
    expect(events).toEqual(["turn 1", "call", "call", "turn 2"]);
    expect(end.trajectories[0]).toMatchObject({ stopReason: "answered", answer: "done", numSearches: 1 });
  });

  test("an abort of a paused episode rejects, and its time limit counts what it has used", async () => {
    const pause = AbortSignal.abort();
    const request = { chat, tools, task, seed: 3n, prompts: "compact" as const };
    const paused = (await runPausableEpisode({ ...request, policy: scripted(teamReply), pause })) as PausedEpisode;
    expect(paused.agents).toMatchObject([{ ended: false, trajectory: { numTurns: 0 } }]);
    const resume = { ...paused, seconds: 1e9 };
    const hanging = scripted(() => new Promise<never>(() => {}));
    const result = (await runPausableEpisode({ ...request, policy: hanging, resume })) as Episode;
    expect(result.trajectories[0]?.stopReason).toBe("timeout");
    const reason = new Error("stop");
    const signal = AbortSignal.abort(reason);
    await expect(runPausableEpisode({ ...request, policy: scripted(teamReply), resume: paused, signal })).rejects.toBe(
      reason,
    );
  });
});
