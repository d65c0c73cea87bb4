// OWL's protocol: plan, assignment, workers with function calls, a second plan after a failure, and the answerer.
import type { ChatReply } from "@wideseek/spec";
import { expect, test } from "vitest";
import { fenced, promptOf, rehearse, tableTask } from "./testing/desk.ts";

const tasks = (...subtasks: string[]): string =>
  `<tasks>${subtasks.map((each) => `<task>${each}</task>`).join("\n")}</tasks>`;
const assign = (id: string | number): string => JSON.stringify({ assignee_id: id });
const result = (content: string, failed = false): string => JSON.stringify({ content, failed });
const call = (name: string, args: object): Partial<ChatReply> => ({ toolCalls: [{ id: "c", name, arguments: args }] });

test("splits, assigns, works in order and brings the results into form", async () => {
  const { episode, model, desk } = await rehearse("owl", [
    tasks("length of Aln", "answer the question"),
    assign("1"),
    call("search_google", { query: "Aln" }),
    call("extract_document_content", { document_path: "w/aln" }),
    result("Aln: 41 km"),
    assign(2),
    result("41 km"),
    "41 km",
  ]);
  expect(desk.asked).toEqual(["search Aln 5", "access w/aln"]);
  expect(episode.trajectories.map(({ agentId, numTurns }) => [agentId, numTurns])).toEqual([
    ["lead", 1],
    ["planner", 1],
    ["coordinator", 2],
    ["1", 3],
    ["2", 1],
  ]);
  expect(episode.trajectories[0]).toMatchObject({
    answer: "\\boxed{41 km}",
    numSubagentCalls: 2,
    stopReason: "answered",
  });
  expect(episode.trajectories[3]).toMatchObject({ prompt: "length of Aln", numSearches: 1, numAccesses: 1 });
  const tools = model.calls.map(({ settings }) =>
    "tools" in settings ? settings.tools?.map((tool) => tool.function.name) : undefined,
  );
  expect(tools[2]).toEqual(["search_google", "search_wiki", "extract_document_content"]);
  expect(tools[6]).toEqual(["extract_document_content"]);
  expect(model.calls[3]?.messages.at(-1)).toMatchObject({ role: "tool", toolCallId: "c" });
  expect(promptOf(model, 6)).toContain("Result: Aln: 41 km");
  expect(promptOf(model, 7)).toContain("Subtask 2: answer the question\nResult: 41 km");
  expect(model.calls.every(({ settings }) => settings.temperature === 0)).toBe(true);
});

test("a failed subtask makes a new plan that knows why; the last results are used whatever they are", async () => {
  const { episode, model } = await rehearse("owl", [
    tasks("first", "never reached"),
    assign("1"),
    result("page is gone", true),
    tasks("another way"),
    assign("1"),
    result("gone too", true),
    "unknown",
  ]);
  expect(promptOf(model, 3)).toContain("It failed: page is gone");
  expect(promptOf(model, 6)).toContain("It failed: gone too");
  expect(episode.trajectories[0]).toMatchObject({ answer: "\\boxed{unknown}", numSubagentCalls: 2 });
});

test("the tool call after the last ends a worker's work", async () => {
  const search = call("search_wiki", { entity: "Bryd" });
  const { model, desk } = await rehearse("owl", [tasks("t"), assign("1"), search, search, search, result("ok"), "87"], {
    options: { maxToolCalls: 2 },
  });
  expect(desk.asked.filter((asked) => asked.startsWith("search"))).toHaveLength(3);
  expect(model.calls[5]?.settings).not.toHaveProperty("tools");
  expect(promptOf(model, 5)).toContain("used up your tool calls");
});

test("what models write wrong is told or taken as it is", async () => {
  const { episode, model } = await rehearse("owl", [
    "I would rather not split this.",
    "worker seven",
    { callErrors: ["the arguments are not valid JSON."] },
    call("shell", { command: "x" }),
    call("search_google", { q: 1 }),
    "no JSON, but: 41 km",
    "41 km",
  ]);
  expect(promptOf(model, 2)).toContain("Work on this subtask:\nHow long is the Aln");
  expect(promptOf(model, 3)).toContain("the arguments are not valid JSON.");
  expect(promptOf(model, 4)).toContain('There is no tool "shell"');
  expect(promptOf(model, 5)).toContain("search_google needs query");
  expect(promptOf(model, 6)).toContain("Result: no JSON, but: 41 km");
  expect(episode.trajectories.map(({ numMalformedCalls }) => numMalformedCalls)).toEqual([0, 1, 1, 3]);
});

test("tables keep their form", async () => {
  const { episode, model } = await rehearse("owl", [tasks("t"), assign("1"), result("all"), fenced], {
    task: tableTask,
  });
  expect(episode.trajectories[0]?.answer).toBe(fenced);
  expect(promptOf(model, 3)).toContain("The answer is one Markdown table");
  expect(model.calls[3]?.settings.maxTokens).toBe(8192);
});
