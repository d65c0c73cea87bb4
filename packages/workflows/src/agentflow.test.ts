// AgentFlow's protocol: stateless roles over a memory of steps, both forms of plans and verdicts, tools by their names.
import { ScriptedChatModel } from "@wideseek/llm/testing";
import { expect, test } from "vitest";
import { Desk, fenced, promptOf, rehearse, tableTask } from "./testing/desk.ts";

const plan = (tool: string, goal = "find the length"): string =>
  `Justification: needed\n**Context:** the Aln\n**Sub-Goal:** ${goal}\n**Tool Name:** ${tool}`;
const command = (value: object): string => JSON.stringify({ analysis: "", explanation: "", command: value });
const verdict = (stop_signal: boolean): string =>
  `\`\`\`json\n${JSON.stringify({ analysis: "a", stop_signal })}\n\`\`\``;

test("analyses, plans, runs, checks and answers, each role with its own model", async () => {
  const planner = new ScriptedChatModel([plan("Google Search Tool"), plan("web_search")]);
  const fixed = new ScriptedChatModel(["the analysis", "1. Process Summary ...\n2. Answer\n<answer>41 km</answer>"]);
  const verifier = new ScriptedChatModel(["still open. Conclusion: CONTINUE", "all there. Conclusion: STOP"]);
  const executor = new ScriptedChatModel([command({ query: "Aln" }), command({ query: "length", url: "w/aln" })]);
  const [p, f, v, e] = [planner, fixed, verifier, executor].map((model) => ({ model }));
  const { episode, desk } = await rehearse("agentflow", [], {
    models: { planner: p, fixed: f, verifier: v, executor: e },
  });
  expect(desk.asked).toEqual(["search Aln 10", "access w/aln"]);
  const [first, ...others] = episode.trajectories;
  expect(first).toMatchObject({ role: "lead", answer: "\\boxed{41 km}", numTurns: 2, stopReason: "answered" });
  expect(others.map(({ agentId, numTurns }) => [agentId, numTurns])).toEqual([
    ["planner", 2],
    ["executor", 2],
    ["verifier", 2],
  ]);
  expect(promptOf(planner, 0)).toContain("the analysis");
  expect(promptOf(planner, 1)).toContain('"Action Step 1"');
  expect(promptOf(planner, 1)).toContain("The river Aln is 41 km long.");
  expect(promptOf(fixed, 1)).toContain('"Action Step 2"');
  expect(fixed.calls[1]?.settings.maxTokens).toBe(8192);
});

test("an unknown tool and an unreadable command become results of their steps", async () => {
  const { episode, model } = await rehearse("agentflow", [
    "analysis",
    plan("Python_Coder"),
    verdict(false),
    plan("Google_Search"),
    "execution = tool.execute(query='x')",
    verdict(true),
    "no form at all",
  ]);
  expect(promptOf(model, 2)).toContain("No matched tool given: Python_Coder");
  expect(promptOf(model, 5)).toContain("The command could not be read");
  expect(episode.trajectories.map(({ numMalformedCalls }) => numMalformedCalls)).toEqual([0, 1, 1, 0]);
  expect(episode.trajectories[0]?.answer).toBe("\\boxed{no form at all}");
});

test("of several plans in one reply the last counts, and JSON is read too", async () => {
  const json = JSON.stringify({ justification: "", context: "c", sub_goal: "think", tool_name: "Base_Generator_Tool" });
  const { model, desk } = await rehearse("agentflow", [
    "analysis",
    `${plan("Python_Coder")}\n${plan("Wikipedia_Search")}`,
    command({ query: "Bryd" }),
    verdict(false),
    json,
    command({ query: "What is 40 + 1?" }),
    "it is 41",
    verdict(true),
    "<answer>41</answer>",
  ]);
  expect(desk.asked).toEqual(["search Bryd 1", "access w/bryd"]);
  expect(promptOf(model, 6)).toBe("What is 40 + 1?");
  expect(promptOf(model, 7)).toContain("it is 41");
});

test("steps and seconds are limited, then the answer is written all the same", async () => {
  const script = [
    "analysis",
    ...Array.from({ length: 2 }, () => [plan("Google_Search"), command({ query: "Aln" }), verdict(false)]).flat(),
    fenced,
  ];
  const { episode } = await rehearse("agentflow", script, { task: tableTask, options: { maxSteps: 2 } });
  expect(episode.trajectories[0]).toMatchObject({ answer: fenced, stopReason: "answered" });
  const none = await rehearse("agentflow", ["analysis", fenced], { task: tableTask, options: { loopSeconds: 1e-9 } });
  expect(promptOf(none.model, 1)).toContain("none yet");
});

test("tools that fail or lack an address say so", async () => {
  const { model } = await rehearse(
    "agentflow",
    [
      "a",
      plan("Web_Search"),
      command({ query: "x" }),
      verdict(false),
      plan("Google_Search"),
      command({ query: "x" }),
      verdict(true),
      "z",
    ],
    { desk: new Desk(new Error("down")) },
  );
  expect(promptOf(model, 3)).toContain("Web_Search needs the address of a page");
  expect(promptOf(model, 6)).toContain("The tool failed: down");
});
