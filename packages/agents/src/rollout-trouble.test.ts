// The rollout semantics lock, second part: full contexts, time limits, failures, garbage.
// What may not change without everybody knowing:
//  8. Tool output that does not fit is cut with a marker and leaves the reserve for the answer.
// 10. Time limit, failed requests and garbage are data; abort and a broken engine reject, after all agents have ended.
import {
  type Completion,
  type GenerateRequest,
  type Policy,
  type Toolset,
  trajectoryTokenIds,
  WideSeekError,
} from "@wideseek/spec";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { ScriptedPolicy } from "./scripted-policy.ts";
import { call, chat, delegate, episode, recorded, scripted, task, textOf, tools } from "./testing/team.ts";

afterEach(() => {
  vi.useRealTimers();
});

describe("8: context", () => {
  const long: Toolset = {
    ...tools,
    run: async ({ arguments: args }) => {
      const { n } = args as { n: number };
      return { text: "é".repeat(n), ok: true, numSearches: 0, numAccesses: 1 };
    },
  };
  const sa = { workflow: "sa", tools: long } as const;

  test("long output is cut with a marker, short output beside it stays whole, the reserve stays free", async () => {
    const policy = scripted(({ turn }) =>
      turn === 1 ? call("access", { n: 20 }) + call("access", { n: 5000 }) : "done",
    );
    const result = await episode(policy, { ...sa, limits: { contextTokens: 2000, answerReserveTokens: 300 } });
    expect(result.trajectories[0]).toMatchObject({ stopReason: "answered", answer: "done", numTurns: 2 });
    expect(result.trajectories[0]?.errors).toEqual(["turn 1: tool output was cut to fit into the context"]);
    const text = await textOf(result);
    expect(text).toMatch(/<tool_response>\né{20}\n\né{100,}\[cut\]\n\nLast turn: answer now\.\n<\/tool_response>/);
    const given = result.trajectories[0]?.segments
      .slice(0, 3)
      .reduce((sum, segment) => sum + segment.tokenIds.length, 0);
    expect(given).toBeLessThanOrEqual(1700);
    expect(given).toBeGreaterThan(1600);
  });

  test("a turn after output that had to be cut is the last one", async () => {
    const policy = scripted(() => call("access", { n: 400 }));
    const result = await episode(policy, { ...sa, limits: { contextTokens: 2000 } });
    expect(result.trajectories[0]).toMatchObject({ stopReason: "turns", numTurns: 3, numAccesses: 2 });
    expect(await textOf(result)).toMatch(/é{400}\n<\/tool_response>[\s\S]*é\[cut\]\n\nLast turn: answer now\.\n/);
  });

  test("a turn that fills the context, a prompt that does, and a response without any room", async () => {
    const endless = await episode(
      scripted(() => "x".repeat(9000)),
      { ...sa, limits: { contextTokens: 2000 } },
    );
    expect(endless.trajectories[0]).toMatchObject({ stopReason: "context", numTurns: 1 });
    const longQuestion = { ...task, question: "y".repeat(3000) };
    const full = await episode(
      scripted(() => "x"),
      { ...sa, task: longQuestion, limits: { contextTokens: 2000 } },
    );
    expect(full.trajectories[0]).toMatchObject({ stopReason: "context", numTurns: 0, answer: "" });
    const opening = endless.trajectories[0]?.segments[0]?.tokenIds.length ?? 0;
    const turn = call("access", { n: 1 });
    const tight = { contextTokens: opening + (await chat.encodeAssistantTurn(turn)).length + 30 };
    const noRoom = await episode(
      scripted(() => turn),
      { ...sa, limits: tight },
    );
    expect(noRoom.trajectories[0]).toMatchObject({ stopReason: "context", numTurns: 1 });
  });

  test("a role may have a context of its own, and the policy's limit always holds", async () => {
    const policy = scripted(() => "x".repeat(9000));
    const limits = { contextTokens: 9000, contextTokensByRole: { single: 1500 } };
    expect(trajectoryTokenIds((await episode(policy, { ...sa, limits })).trajectories[0] as never).length).toBe(1500);
    const small = new ScriptedPolicy({ chat, reply: () => "x".repeat(9000), maxContextTokens: 1200 });
    expect(trajectoryTokenIds((await episode(small, { ...sa, limits })).trajectories[0] as never).length).toBe(1200);
  });
});

describe("10: trouble", () => {
  test("the time limit stops every agent with what it has", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const { promise: bothStarted, resolve } = Promise.withResolvers<void>();
    let numHanging = 0;
    const policy = scripted(({ role, request, turn }) => {
      if (role === "lead") return turn === 1 ? delegate("quick") : delegate("a", "b");
      if (request === "quick") return "report";
      numHanging += 1;
      if (numHanging === 2) resolve();
      return new Promise(() => {});
    });
    const pending = episode(policy, { limits: { episodeSeconds: 60 } });
    await bothStarted;
    vi.advanceTimersByTime(60_000);
    const result = await pending;
    expect(result.trajectories.map((trajectory) => trajectory.stopReason)).toEqual([
      "timeout",
      "answered",
      "timeout",
      "timeout",
    ]);
    expect(result.trajectories[0]?.errors[0]).toMatch(/time limit of 60 seconds/);
    expect(await textOf(result)).toContain("# Subtask 1:\na\n# Result:\nFailed: timeout.");
    expect(vi.getTimerCount()).toBe(0);
  });

  test("abort rejects with its reason, not before all agents have ended", async () => {
    const controller = new AbortController();
    let numRunning = 0;
    const slowTools: Toolset = {
      ...tools,
      run: async (_, { signal }) => {
        numRunning += 1;
        if (numRunning === 2) controller.abort(new Error("user left"));
        await new Promise<void>((resolve) => {
          if (signal?.aborted) resolve();
          else signal?.addEventListener("abort", () => setImmediate(resolve), { once: true });
        });
        numRunning -= 1;
        throw signal?.reason;
      },
    };
    const policy = scripted(({ role }) => (role === "lead" ? delegate("a", "b") : call("search", {})));
    await expect(episode(policy, { tools: slowTools, signal: controller.signal })).rejects.toThrow("user left");
    expect(numRunning).toBe(0);
    await expect(episode(policy, { signal: controller.signal })).rejects.toThrow("user left");
  });

  test("a failed request ends its agent only; a broken engine ends the episode and all its agents", async () => {
    const failing = (code: "WS_OUT_OF_MEMORY" | "WS_DEVICE_LOST"): Policy =>
      scripted(({ role, turn, request, signal }) => {
        if (role === "lead") return turn === 1 ? delegate("a", "b") : "done";
        if (request === "a") throw new WideSeekError(code, "no luck");
        return code === "WS_OUT_OF_MEMORY"
          ? "report"
          : new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
      });
    const result = await episode(failing("WS_OUT_OF_MEMORY"));
    expect(result.trajectories).toMatchObject([
      { stopReason: "answered" },
      { stopReason: "error", errors: ["turn 1: generate: no luck"] },
      { stopReason: "answered" },
    ]);
    await expect(episode(failing("WS_DEVICE_LOST"))).rejects.toMatchObject({ code: "WS_DEVICE_LOST" });
    const closed = scripted(() => "x");
    await closed.close();
    await expect(episode(closed)).rejects.toMatchObject({ code: "WS_CLOSED" });
  });

  test("a bug in one agent ends the episode and the agents beside it; no timer stays", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const policy = scripted(({ role, request, signal }) => {
      if (role === "lead") return delegate("a", "b");
      if (request === "a") return call("search", {});
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    });
    const buggyChat = {
      encodePrompt: chat.encodePrompt.bind(chat),
      turnText: chat.turnText.bind(chat),
      endsTurn: chat.endsTurn.bind(chat),
      stopTokenIds: chat.stopTokenIds,
      encodeToolResponse: async () => {
        throw new TypeError("bug");
      },
    };
    await expect(episode(policy, { chat: buggyChat })).rejects.toThrow("bug");
    expect((await episode(scripted(() => "done"))).trajectories[0]?.answer).toBe("done");
    expect(vi.getTimerCount()).toBe(0);
  });

  test("a toolset that breaks its promise costs a result, not the episode", async () => {
    const broken: Toolset = {
      ...tools,
      run: () => {
        throw new Error("bug");
      },
    };
    const policy = scripted(({ turn }) => (turn === 1 ? call("search", {}) : "done"));
    const result = await episode(policy, { workflow: "sa", tools: broken });
    expect(await textOf(result)).toContain("Tool execution failed: bug");
    expect(result.trajectories[0]?.stopReason).toBe("answered");
  });

  test("garbage never throws, always ends, and always obeys the context", async () => {
    const piece = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_start|>", '{"name":', "<|im_end|>"),
      fc.constantFrom(delegate("a"), call("search", { q: 1 }), delegate("x", "y"), call("create_sub_agents", null)),
    );
    const ids = fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 60 });
    const texts = fc.array(piece, { maxLength: 6 }).map((parts) => parts.join(""));
    const turn = fc.oneof(
      ids.map((list) => ({ ids: list })),
      texts.map((text) => ({ text })),
    );
    const limits = { contextTokens: 900, leadTurns: 4, subagentTurns: 3, maxSubagents: 5, maxNewTokensPerTurn: 200 };
    await fc.assert(
      fc.asyncProperty(fc.array(turn, { minLength: 1, maxLength: 12 }), async (turns) => {
        let next = 0;
        const generate = async ({ maxNewTokens, promptIds }: GenerateRequest): Promise<Completion> => {
          expect(promptIds.length + maxNewTokens).toBeLessThanOrEqual(900);
          const chosen = turns[next % turns.length] ?? { ids: [0] };
          next += 1;
          const all = "ids" in chosen ? Int32Array.from(chosen.ids) : await chat.encodeAssistantTurn(chosen.text);
          const tokenIds = all.slice(0, maxNewTokens);
          const finishReason = chat.stopTokenIds.includes(tokenIds.at(-1) ?? -1) ? "stop" : "length";
          return {
            tokenIds,
            logprobs: new Float32Array(tokenIds.length),
            finishReason,
            policyVersion: 0n,
            numCachedTokens: 0,
          };
        };
        const policy = { ...recorded(scripted(() => "")).policy, generate };
        for (const workflow of ["mas", "sa"] as const) {
          const result = await episode(policy, { workflow, limits });
          for (const trajectory of result.trajectories) {
            expect(trajectoryTokenIds(trajectory).length).toBeLessThanOrEqual(900);
            expect(trajectory.stopReason).not.toBe("timeout");
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  test("impossible requests are one clear error", async () => {
    const policy = scripted(() => "x");
    const invalid = { code: "WS_INVALID_ARGUMENT" };
    await expect(episode(policy, { seed: -1n })).rejects.toMatchObject(invalid);
    await expect(episode(policy, { limits: { leadTurns: 0 } })).rejects.toMatchObject({
      ...invalid,
      message: /leadTurns/,
    });
    await expect(episode(policy, { limits: { turns: 3 } as object })).rejects.toMatchObject({
      ...invalid,
      message: /turns/,
    });
  });
});
