// The rollout semantics lock. What may not change without everybody knowing:
//  1. A history is append-only; what the policy saw at every turn is the concatenation of the segments so far.
//  2. Sampled ids, log-probabilities and policy versions are kept as they came; given tokens are segments of their own.
//  3. The conversation as ids equals what the chat template makes of it.
//  4. Subagents of a turn all start before any ends; reports come in call order; only text after thinking is reported.
//  5. At most maxSubagentsPerCall a call and maxSubagents an episode; the lead is told what was not run.
//  6. A malformed call is answered, costs a turn and is counted; good calls beside it still run.
//  7. The last turn is announced; a call on it ends the agent with "turns" and is not run.
//  8. Tool output that does not fit is cut with a marker and leaves the reserve for the answer.
//  9. A failed subagent reports what it wrote and why it stopped.
// 10. Time limit, failed requests and garbage are data; abort and a broken engine reject, after all agents have ended.
// 11. A turn's seed depends on episode, agent and turn only.
import {
  type Completion,
  type Episode,
  type GenerateRequest,
  type Policy,
  type QaTask,
  type Toolset,
  trajectoryTokenIds,
  WideSeekError,
} from "@wideseek/spec";
import type { ChatTokenizer } from "@wideseek/text";
import fc from "fast-check";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type EpisodeRequest, runEpisode } from "./episode.ts";
import { agentTexts } from "./prompts.ts";
import { type ScriptedContext, ScriptedPolicy } from "./scripted-policy.ts";
import { turnSeed } from "./seeds.ts";
import { byteChat } from "./test-chat.ts";

let chat: ChatTokenizer;
beforeAll(async () => {
  chat = await byteChat();
});
afterEach(() => {
  vi.useRealTimers();
});

const task: QaTask = { kind: "qa", instanceId: "q", question: "Who?", language: "en", answers: ["me"] };
const call = (name: string, args: unknown): string =>
  `<tool_call>\n${JSON.stringify({ name, arguments: args })}\n</tool_call>`;
const delegate = (...prompts: string[]): string =>
  call("create_sub_agents", { sub_agents: prompts.map((prompt) => ({ prompt })) });

const tools: Toolset = {
  definitions: () => [{ type: "function", function: { name: "search", description: "", parameters: {} } }],
  run: async ({ arguments: args }) => ({
    text: `found ${JSON.stringify(args)}`,
    ok: true,
    numSearches: 1,
    numAccesses: 0,
  }),
};

type Reply = (
  context: ScriptedContext & { role: "lead" | "other"; request: string; turn: number },
) => string | Promise<string>;

/** Reads a compact conversation: who is asked, for what, and which turn it is (from 1). */
function scripted(reply: Reply): ScriptedPolicy {
  return new ScriptedPolicy({
    chat,
    version: 7n,
    reply: (context) =>
      reply({
        ...context,
        role: context.text.includes("create_sub_agents") ? "lead" : "other",
        request: /<\|im_start\|>user\n([\s\S]*?)<\|im_end\|>/.exec(context.text)?.[1] ?? "",
        turn: context.text.split("<|im_start|>assistant\n").length - 1,
      }),
  });
}

function episode(policy: Policy, overrides: Partial<EpisodeRequest> = {}): Promise<Episode> {
  return runEpisode({ policy, chat, tools, task, seed: 3n, prompts: "compact", ...overrides });
}

const textOf = (result: Episode, index = 0): Promise<string> => {
  const trajectory = result.trajectories[index];
  if (trajectory === undefined) throw new Error(`no trajectory ${index}`);
  return chat.decode(trajectoryTokenIds(trajectory));
};

/** A policy that records its requests and completions. */
function recorded(policy: Policy): { policy: Policy; log: { request: GenerateRequest; completion: Completion }[] } {
  const log: { request: GenerateRequest; completion: Completion }[] = [];
  const generate = async (request: GenerateRequest): Promise<Completion> => {
    const completion = await policy.generate(request);
    log.push({ request: { ...request, promptIds: request.promptIds.slice() }, completion });
    return completion;
  };
  return {
    log,
    policy: {
      maxContextTokens: 32_768,
      vocabSize: 265,
      version: 0n,
      generate,
      close: async () => {},
      [Symbol.asyncDispose]: async () => {},
    },
  };
}

const teamReply: Reply = ({ role, turn, request }) => {
  if (role === "lead") return turn === 1 ? delegate("a", "b") : "<think>\nso\n</think>\n\n\\boxed{ab}";
  return turn === 1
    ? `<think>\nhm\n</think>\n\n${call("search", { q: request })}`
    : `<think>\nsecret\n</think>\n\nreport ${request}`;
};

describe("histories", () => {
  test("1, 2: what the policy saw is the segments so far; sampled segments are the completions", async () => {
    const { policy, log } = recorded(scripted(teamReply));
    const result = await episode(policy);
    expect(log).toHaveLength(6);
    let numSampled = 0;
    for (const trajectory of result.trajectories) {
      let seen: number[] = [];
      for (const segment of trajectory.segments) {
        if (segment.kind === "sampled") {
          const entry = log.find(({ completion }) => completion.tokenIds === segment.tokenIds);
          expect(Array.from(entry?.request.promptIds ?? [])).toEqual(seen);
          expect(segment.logprobs).toBe(entry?.completion.logprobs);
          expect(segment.policyVersion).toBe(7n);
          numSampled += 1;
        }
        seen = [...seen, ...segment.tokenIds];
      }
      expect(trajectory.segments.map((segment) => segment.kind)).toEqual(["given", "sampled", "given", "sampled"]);
    }
    expect(numSampled).toBe(6);
  });

  test("3: ids equal the template's rendering of the conversation", async () => {
    const result = await episode(scripted(teamReply));
    const texts = agentTexts("compact", "en");
    const opening = chat.template.render(
      [
        { role: "system", content: texts.systemPrompt("lead", "qa") },
        { role: "user", content: "Who?" },
      ],
      { tools: [texts.createSubAgents(10)], addGenerationPrompt: true },
    );
    expect(await textOf(result)).toBe(
      `${opening}${delegate("a", "b")}<|im_end|>\n<|im_start|>user\n<tool_response>\n` +
        "# Subtask 1:\na\n# Result:\nreport a\n\n# Subtask 2:\nb\n# Result:\nreport b" +
        "\n</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\nso\n</think>\n\n\\boxed{ab}<|im_end|>",
    );
  });

  test("counts, answers and order of trajectories", async () => {
    const result = await episode(scripted(teamReply), { sample: 4 });
    expect(result).toMatchObject({ task, sample: 4, seed: 3n, workflow: "mas" });
    expect(result.trajectories).toMatchObject([
      {
        agentId: "lead",
        role: "lead",
        prompt: "Who?",
        answer: "\\boxed{ab}",
        numTurns: 2,
        numSubagentCalls: 2,
        stopReason: "answered",
      },
      {
        agentId: "1",
        role: "subagent",
        prompt: "a",
        answer: "report a",
        numSearches: 1,
        numSubagentCalls: 0,
        errors: [],
      },
      { agentId: "2", role: "subagent", prompt: "b", answer: "report b", numTurns: 2, numMalformedCalls: 0 },
    ]);
  });

  test("a single agent has the tools itself", async () => {
    const result = await episode(
      scripted(({ turn }) => (turn === 1 ? call("search", { q: 1 }) + call("search", { q: 2 }) : "done")),
      { workflow: "sa" },
    );
    expect(result.trajectories).toMatchObject([{ agentId: "single", role: "single", numSearches: 2, answer: "done" }]);
    expect(await textOf(result)).toContain('<tool_response>\nfound {"q":1}\n\nfound {"q":2}\n</tool_response>');
  });
});

describe("subagents", () => {
  test("4: all start before any ends; reports in call order whatever the order of ending; no thinking in reports", async () => {
    const names = ["a", "b", "c", "d"];
    const waiting = new Map<string, () => void>();
    const started: string[] = [];
    const policy = scripted(async ({ role, turn, request }) => {
      if (role === "lead") return turn === 1 ? delegate("a", "b") + delegate("c", "d") : "done";
      started.push(request);
      await new Promise<void>((resolve) => {
        waiting.set(request, resolve);
        // Only when all are here may they end, the last one first.
        if (waiting.size === names.length) for (const name of names.toReversed()) waiting.get(name)?.();
      });
      return `<think>\nsecret\n</think>\n\nreport ${request}`;
    });
    const result = await episode(policy);
    expect(started.toSorted()).toEqual(names);
    const lead = await textOf(result);
    expect(lead.match(/# Subtask \d:\n\w\n# Result:\nreport \w/g)).toEqual(
      names.map((name, i) => `# Subtask ${i + 1}:\n${name}\n# Result:\nreport ${name}`),
    );
    expect(lead).not.toContain("secret");
    expect(result.trajectories.map((trajectory) => trajectory.agentId)).toEqual(["lead", "1", "2", "3", "4"]);
  });

  test("5: width of the team and of a call", async () => {
    const policy = scripted(({ role, turn, request }) =>
      role === "lead" ? (turn <= 2 ? delegate("a", "b", "c") : "done") : `report ${request}`,
    );
    const result = await episode(policy, { limits: { maxSubagents: 3, maxSubagentsPerCall: 2 } });
    expect(result.trajectories.map((trajectory) => trajectory.prompt)).toEqual(["Who?", "a", "b", "a"]);
    expect(result.trajectories[0]).toMatchObject({ numSubagentCalls: 3, stopReason: "answered" });
    const lead = await textOf(result);
    expect(lead).toContain("Only 2 subagents a call: 1 not run.");
    expect(lead).toContain(
      "# Subtask 1:\na\n# Result:\nreport a\n\n# Subtask 2:\nb\n# Result:\nNot run: no subagents left.",
    );
  });

  test("9: a failed subagent reports what it wrote and why", async () => {
    const policy = scripted(({ role, turn }) =>
      role === "lead" ? (turn === 1 ? delegate("a") : "done") : `so far ${turn}${call("search", {})}`,
    );
    const result = await episode(policy, { limits: { subagentTurns: 2 }, prompts: "full" });
    expect(result.trajectories[1]).toMatchObject({ stopReason: "turns", numTurns: 2, numSearches: 1 });
    expect(await textOf(result)).toContain(
      "# Result:\nThe subagent stopped before it was done, because it used all its turns. What it had written so far:\nso far 2",
    );
  });
});

describe("6: malformed calls", () => {
  test.each([
    ["not JSON", "<tool_call>\n{oops\n</tool_call>", /not valid JSON/],
    ["not closed", '<tool_call>\n{"name":"create_sub_agents"', /not closed/],
    ["a tool of another role", call("search", { q: 1 }), /no tool "search"\. Your only tool: create_sub_agents/],
    [
      "no list",
      call("create_sub_agents", { prompt: "a" }),
      /sub_agents: .*\nA correct call: \{"name":"create_sub_agents"/,
    ],
    ["an empty list", delegate(), /sub_agents: /],
    ["a blank prompt", delegate(" "), /sub_agents\[0\]\.prompt: /],
    ["prompts as strings", call("create_sub_agents", { sub_agents: ["a"] }), /sub_agents\[0\]: .*object/],
  ])("%s", async (_, text, message) => {
    const result = await episode(scripted(({ turn }) => (turn === 1 ? text : "done")));
    expect(result.trajectories).toHaveLength(1);
    expect(result.trajectories[0]).toMatchObject({
      numTurns: 2,
      numMalformedCalls: 1,
      answer: "done",
      stopReason: "answered",
    });
    expect(await textOf(result)).toMatch(/<tool_response>\n# Error in tool call:\n/);
    expect(await textOf(result)).toMatch(message);
  });

  test("good calls beside wrong ones run, and calls inside thinking do not", async () => {
    const first = `<think>\n${delegate("never")}\n</think>\n\n${delegate("a", "")}<tool_call>x</tool_call>${call("browse", {})}`;
    const policy = scripted(({ role, turn }) => (role === "lead" ? (turn === 1 ? first : "done") : "report"));
    const result = await episode(policy);
    expect(result.trajectories.map((trajectory) => trajectory.prompt)).toEqual(["Who?", "a"]);
    expect(result.trajectories[0]?.numMalformedCalls).toBe(3);
    expect(await textOf(result)).toMatch(
      /# Subtask 1:\na\n# Result:\nreport\n\n# Error in tool call:\nsub_agents\[1\][\s\S]*no tool "browse"[\s\S]*not valid JSON/,
    );
  });
});

describe("7: turns", () => {
  test("the last turn is announced; a call on it is not run", async () => {
    const policy = scripted(({ turn }) => `try ${turn}${call("search", { turn })}`);
    const result = await episode(policy, { workflow: "sa", limits: { singleTurns: 4 } });
    expect(result.trajectories[0]).toMatchObject({ stopReason: "turns", numTurns: 4, numSearches: 3, answer: "try 4" });
    const text = await textOf(result);
    expect(text.match(/<tool_response>\nfound [^\n]*\n(?:\n[^\n]*\n)?<\/tool_response>/g)).toEqual([
      '<tool_response>\nfound {"turn":1}\n</tool_response>',
      '<tool_response>\nfound {"turn":2}\n\n2 turns left.\n</tool_response>',
      '<tool_response>\nfound {"turn":3}\n\nLast turn: answer now.\n</tool_response>',
    ]);
  });

  test("full prompts name the turn each time; with one turn the question already asks for the answer", async () => {
    const policy = scripted(({ turn }) => (turn === 1 ? call("search", {}) : "done"));
    const two = await textOf(await episode(policy, { workflow: "sa", prompts: "full", limits: { singleTurns: 3 } }));
    expect(two).toContain("This is your first turn. The whole answer must be finished within 3 turns.<|im_end|>");
    expect(two).toContain("Your next turn is turn 2. The whole answer must be finished by turn 3.\n</tool_response>");
    const one = await episode(policy, { workflow: "sa", limits: { singleTurns: 1 } });
    expect(await textOf(one)).toContain("Who?\n\nLast turn: answer now.<|im_end|>");
    expect(one.trajectories[0]).toMatchObject({ stopReason: "turns", numSearches: 0 });
  });

  test("a turn cut at its own limit is told so and may go on, with the end token given", async () => {
    const policy = scripted(({ turn }) => (turn === 1 ? "x".repeat(50) : "done"));
    const result = await episode(policy, { workflow: "sa", limits: { maxNewTokensPerTurn: 10 } });
    expect(result.trajectories[0]).toMatchObject({ stopReason: "answered", numMalformedCalls: 0, numTurns: 2 });
    expect(await textOf(result)).toContain(
      `${"x".repeat(10)}<|im_end|>\n<|im_start|>user\n<tool_response>\n# Error in tool call:\nTurn too long.\n`,
    );
  });
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

describe("11: seeds", () => {
  test("depend on episode, agent and turn; not on who else runs", async () => {
    const seedsOf = async (prompts: string[]): Promise<bigint[]> => {
      const { policy, log } = recorded(
        scripted(({ role, turn }) => (role === "lead" ? (turn === 1 ? delegate(...prompts) : "done") : "report")),
      );
      await episode(policy, { seed: 9n });
      return log.map(({ request }) => request.seed);
    };
    const two = await seedsOf(["a", "b"]);
    expect(two.toSorted()).toEqual(
      [turnSeed(9n, "lead", 1), turnSeed(9n, "1", 1), turnSeed(9n, "2", 1), turnSeed(9n, "lead", 2)].toSorted(),
    );
    expect(two).toEqual(expect.arrayContaining(await seedsOf(["a"])));
  });

  test("are 64 bits, stable and distinct", () => {
    expect(turnSeed(0n, "lead", 1)).toBe(turnSeed(0n, "lead", 1));
    const seeds = new Set<bigint>();
    for (let seed = 0n; seed < 20n; seed += 1n) {
      for (const agent of ["lead", "single", "1", "2", "11", "12"]) {
        for (let turn = 1; turn <= 20; turn += 1) seeds.add(turnSeed(seed, agent, turn));
      }
    }
    expect(seeds.size).toBe(2400);
    expect([...seeds].every((seed) => seed >= 0n && seed < 1n << 64n)).toBe(true);
    expect([...seeds].filter((seed) => seed >> 63n === 1n).length).toBeGreaterThan(1000);
  });
});
