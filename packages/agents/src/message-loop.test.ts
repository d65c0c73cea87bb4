// Agents over messages: the same team, limits and texts as over token ids, alone or mixed with them.
import { ScriptedChatModel } from "@wideseek/llm/testing";
import { type ChatReply, type ChatToolCall, type Toolset, WideSeekError } from "@wideseek/spec";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AgentModel, runTeam, type TeamRequest } from "./episode.ts";
import { chat, delegate, scripted, task, tools } from "./testing/team.ts";

const messages = (model: ScriptedChatModel): AgentModel => ({ kind: "messages", model });
const call = (name: string, args: unknown, id = "c"): ChatToolCall => ({ id, name, arguments: args });
const subagents = (...prompts: string[]): Partial<ChatReply> => ({
  toolCalls: [call("create_sub_agents", { sub_agents: prompts.map((prompt) => ({ prompt })) })],
});
const search: Partial<ChatReply> = { toolCalls: [call("search", { q: 1 })] };

function run(models: TeamRequest["models"], more: Partial<TeamRequest> = {}) {
  return runTeam({ models, tools, task, seed: 3n, prompts: "compact", ...more });
}

test("a team of one API model: delegates, looks up, reports, answers", async () => {
  const lead = new ScriptedChatModel([
    { thinking: "Two parts.", ...subagents("part a", "part b") },
    "It is \\boxed{me}.",
  ]);
  const worker = new ScriptedChatModel(({ messages: asked }) => (asked.length === 2 ? search : "a report"));
  const episode = await run({ lead: messages(lead), subagent: messages(worker) }, { prompts: "full" });
  expect(
    episode.trajectories.map(({ agentId, role, stopReason, answer }) => [agentId, role, stopReason, answer]),
  ).toEqual([
    ["lead", "lead", "answered", "It is \\boxed{me}."],
    ["1", "subagent", "answered", "a report"],
    ["2", "subagent", "answered", "a report"],
  ]);
  expect(episode.trajectories[0]).toMatchObject({ numTurns: 2, numSubagentCalls: 2, segments: [] });
  expect(episode.trajectories[1]).toMatchObject({ numSearches: 1, numTurns: 2 });
  const [first, second] = lead.calls;
  expect(first?.messages.map(({ role }) => role)).toEqual(["system", "user"]);
  expect(first?.messages[1]?.content).toContain("This is your first turn.");
  expect(first?.settings).toMatchObject({ temperature: 1, topP: 1 });
  const told = second?.messages.at(-1);
  expect(told).toMatchObject({ role: "tool", toolCallId: "c" });
  expect(told?.content).toMatch(
    /# Subtask 1:\npart a\n# Result:\na report[\s\S]*# Subtask 2:[\s\S]*Your next turn is turn 2\./,
  );
  expect(worker.calls[0]?.messages[1]?.content).toContain("# Your subtask\npart");
  expect(episode.trajectories[0]?.transcript?.map(({ kind }) => kind)).toEqual([
    "given",
    "sampled",
    "given",
    "sampled",
  ]);
  expect(episode.trajectories[0]?.transcript?.[1]?.text).toMatch(
    /^<think>\nTwo parts.\n<\/think>\n<tool_call>\n\{"name":"create_sub_agents"/,
  );
});

describe("roles on different models", () => {
  test("lead in token ids, subagents in messages", async () => {
    const policy = scripted(({ turn }) => (turn === 1 ? delegate("a") : "\\boxed{x}"));
    const worker = new ScriptedChatModel([search, "found x"]);
    const episode = await run({ lead: { kind: "tokens", policy, chat }, subagent: messages(worker) });
    const [lead, first] = episode.trajectories;
    expect(lead?.transcript).toBeUndefined();
    expect(lead?.segments.map(({ kind }) => kind)).toEqual(["given", "sampled", "given", "sampled"]);
    expect(await chat.decode(lead?.segments[2]?.tokenIds ?? new Int32Array())).toContain("found x");
    expect(first).toMatchObject({ segments: [], answer: "found x", numSearches: 1 });
  });

  test("lead in messages, subagents in token ids", async () => {
    const policy = scripted(() => "found y");
    const lead = new ScriptedChatModel([subagents("a"), "\\boxed{y}"]);
    const episode = await run({ lead: messages(lead), subagent: { kind: "tokens", policy, chat } });
    expect(episode.trajectories[1]).toMatchObject({ answer: "found y", stopReason: "answered" });
    expect(episode.trajectories[1]?.segments).toHaveLength(2);
    expect(lead.calls[1]?.messages.at(-1)?.content).toContain("found y");
  });

  test("a role without a model is the caller's mistake", async () => {
    const lead = new ScriptedChatModel([]);
    await expect(run({ lead: messages(lead) })).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: "runTeam: no model for role subagent of workflow mas",
    });
  });
});

test.each([
  [undefined, "zh"],
  ["task", "zh"],
  ["en", "en"],
] as const)("a Chinese question under promptLanguage %s is worked on in %s", async (promptLanguage, language) => {
  const asked: string[] = [];
  const model = new ScriptedChatModel([search, "\\boxed{1}"]);
  await run(
    { single: messages(model) },
    {
      ...{ task: { ...task, language: "zh" }, workflow: "sa", prompts: "full", promptLanguage },
      tools: {
        definitions: (role, given) => {
          asked.push(given);
          return tools.definitions(role, given);
        },
        run: async (tool, context) => {
          asked.push(context.language);
          return await tools.run(tool, context);
        },
      },
    },
  );
  expect(asked).toEqual([language, language]);
  const given = (model.calls[1]?.messages ?? []).filter(({ role }) => role === "system" || role === "tool");
  expect(given).toHaveLength(2);
  for (const { content } of given) expect(/[一-龥]{4}/.test(content)).toBe(language === "zh");
});

describe("turns", () => {
  const single = (model: ScriptedChatModel, more: Partial<TeamRequest> = {}) =>
    run({ single: messages(model) }, { workflow: "sa", ...more });

  test("wrong calls are told: to their own call, or by the user", async () => {
    const model = new ScriptedChatModel([
      { callErrors: ["the arguments are not valid JSON."] },
      { ...search, callErrors: ["half."] },
      "\\boxed{1}",
    ]);
    const episode = await single(model);
    expect(model.calls[1]?.messages.at(-1)).toMatchObject({ role: "user" });
    expect(model.calls[1]?.messages.at(-1)?.content).toContain("the arguments are not valid JSON.");
    expect(model.calls[2]?.messages.at(-1)).toMatchObject({ role: "tool" });
    expect(model.calls[2]?.messages.at(-1)?.content).toMatch(/found \{"q":1\}[\s\S]*half\./);
    expect(episode.trajectories[0]).toMatchObject({ numMalformedCalls: 2, stopReason: "answered" });
  });

  test("why lookups failed is kept for the report", async () => {
    const dead: Toolset = {
      ...tools,
      run: async () => ({ text: "no", ok: false, numSearches: 1, numAccesses: 0, failures: ["search: down"] }),
    };
    const episode = await single(new ScriptedChatModel([search, "\\boxed{1}"]), { tools: dead });
    expect(episode.trajectories[0]?.errors).toEqual(["turn 1: search: down"]);
  });

  test("the last turn is announced and is the last", async () => {
    const model = new ScriptedChatModel(() => search);
    const episode = await single(model, { limits: { singleTurns: 3 } });
    expect(episode.trajectories[0]).toMatchObject({ stopReason: "turns", numTurns: 3, numSearches: 2 });
    expect(model.calls[2]?.messages.at(-1)?.content).toContain("Last turn: answer now.");
    expect(model.calls[1]?.messages.at(-1)?.content).not.toContain("Last turn");
  });

  test("output that does not fit is cut, and then the answer is asked for", async () => {
    const long: Toolset = {
      ...tools,
      run: async () => ({ text: "word ".repeat(2000), ok: true, numSearches: 1, numAccesses: 0 }),
    };
    const model = new ScriptedChatModel([{ ...search, numPromptTokens: 300, numCompletionTokens: 20 }, "\\boxed{1}"]);
    const episode = await single(model, { tools: long, limits: { contextTokens: 1000, answerReserveTokens: 200 } });
    const told = model.calls[1]?.messages.at(-1)?.content ?? "";
    expect(told).toMatch(/^word [\s\S]*\[cut\]\n\nLast turn: answer now\.$/);
    expect(told.length).toBeLessThan(480 * 4);
    expect(episode.trajectories[0]).toMatchObject({ stopReason: "answered" });
    expect(episode.trajectories[0]?.errors).toEqual(["turn 1: tool output was cut to fit into the context"]);
  });

  test("a full context, said by the count or by the server, ends the agent", async () => {
    const counted = await single(new ScriptedChatModel([{ ...search, numPromptTokens: 999, numCompletionTokens: 1 }]), {
      limits: { contextTokens: 1000, answerReserveTokens: 0 },
    });
    expect(counted.trajectories[0]).toMatchObject({ stopReason: "context", numTurns: 1 });
    const refused = await single(
      new ScriptedChatModel(() => {
        throw new WideSeekError("WS_INVALID_ARGUMENT", "too long", { details: { reason: "context" } });
      }),
    );
    expect(refused.trajectories[0]).toMatchObject({ stopReason: "context", numTurns: 0 });
    const cut = await single(
      new ScriptedChatModel([{ text: "and", finishReason: "length", numPromptTokens: 900, numCompletionTokens: 100 }]),
      { limits: { contextTokens: 1000, answerReserveTokens: 0 } },
    );
    expect(cut.trajectories[0]).toMatchObject({ stopReason: "context", numTurns: 1 });
  });

  test("a turn that was cut off is told, an unreachable model is an error, a hang a timeout", async () => {
    const model = new ScriptedChatModel([
      { text: "and so on", finishReason: "length", numCompletionTokens: 9 },
      "\\boxed{1}",
    ]);
    await single(model, { limits: { maxNewTokensPerTurn: 9 } });
    expect(model.calls[0]?.settings.maxTokens).toBe(9);
    expect(model.calls[1]?.messages.at(-1)).toMatchObject({ role: "user" });
    expect(model.calls[1]?.messages.at(-1)?.content).toContain("Turn too long.");
    const dead = await single(new ScriptedChatModel([]));
    expect(dead.trajectories[0]).toMatchObject({ stopReason: "error", numTurns: 0 });
    const hanging = new ScriptedChatModel(
      ({ settings }) =>
        new Promise((_, reject) => {
          settings.signal?.addEventListener("abort", () => reject(settings.signal?.reason));
        }),
    );
    const hung = await single(hanging, { limits: { episodeSeconds: 0.01 } });
    expect(hung.trajectories[0]).toMatchObject({ stopReason: "timeout" });
    const reason = new Error("enough");
    await expect(single(new ScriptedChatModel([]), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  test("takes whatever a model writes", async () => {
    const reply = fc.record(
      {
        text: fc.string(),
        toolCalls: fc.array(
          fc.record({
            id: fc.string(),
            name: fc.oneof(fc.string(), fc.constant("create_sub_agents")),
            arguments: fc.jsonValue(),
          }),
          { maxLength: 3 },
        ),
        callErrors: fc.array(fc.string(), { maxLength: 2 }),
        finishReason: fc.constantFrom("stop", "length"),
        numPromptTokens: fc.nat(5000),
        numCompletionTokens: fc.nat(500),
      },
      { requiredKeys: ["text"] },
    ) as fc.Arbitrary<Partial<ChatReply>>;
    await fc.assert(
      fc.asyncProperty(fc.array(reply, { minLength: 1, maxLength: 8 }), async (replies) => {
        const model = new ScriptedChatModel(({ index }) => replies[index % replies.length] ?? "");
        const { trajectories } = await run(
          { lead: messages(model), subagent: messages(model) },
          { limits: { contextTokens: 4000 } },
        );
        for (const { stopReason } of trajectories) expect(["answered", "turns", "context"]).toContain(stopReason);
      }),
      { numRuns: 60 },
    );
  });
});
