// The rollout semantics lock, first part: histories, teams, calls, turns, seeds. Points 8 and 10 are in rollout-trouble.test.ts.
// What may not change without everybody knowing:
//  1. A history is append-only; what the policy saw at every turn is the concatenation of the segments so far.
//  2. Sampled ids, log-probabilities and policy versions are kept as they came; given tokens are segments of their own.
//  3. The conversation as ids equals what the chat template makes of it.
//  4. Subagents of a turn all start before any ends; reports come in call order; only text after thinking is reported.
//  5. At most maxSubagentsPerCall a call and maxSubagents an episode; the lead is told what was not run.
//  6. A malformed call is answered, costs a turn and is counted; good calls beside it still run.
//  7. The last turn is announced; a call on it ends the agent with "turns" and is not run.
//  9. A failed subagent reports what it wrote and why it stopped.
// 11. A turn's seed depends on episode, agent and turn only.
import { describe, expect, test } from "vitest";
import { agentTexts } from "./prompts.ts";
import { turnSeed } from "./seeds.ts";
import { call, chat, delegate, episode, type Reply, recorded, scripted, task, textOf } from "./testing/team.ts";

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
