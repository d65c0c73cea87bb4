// MiroFlow's protocol: calls in XML, workers, forced summaries, dropped results and the retreat from a full context.
import { WideSeekError } from "@wideseek/spec";
import { expect, test } from "vitest";
import { readMcpCalls } from "./mcp-call.ts";
import { fenced, promptOf, rehearse, tableTask } from "./testing/desk.ts";

const call = (server: string, tool: string, args: unknown): string =>
  `Plan first.\n<use_mcp_tool>\n<server_name>${server}</server_name>\n<tool_name>${tool}</tool_name>\n<arguments>\n${JSON.stringify(args)}\n</arguments>\n</use_mcp_tool>`;
const delegate = (subtask: string): string => call("agent-worker", "execute_subtask", { subtask });
const search = (q: string): string => call("tool-searching", "google_search", { q });
const options = { date: "2026-01-31" };

test("delegates, the worker searches and reports, the main agent sums up", async () => {
  const { episode, model, desk } = await rehearse(
    "miroflow",
    [
      delegate("length of the Aln"),
      search("Aln"),
      call("tool-searching", "scrape_website", { url: "w/aln" }),
      "All found.",
      "Report: 41 km (w/aln)",
      "The work is done.",
      "Found. \\boxed{41 km}",
    ],
    { options },
  );
  expect(desk.asked).toEqual(["search Aln 10", "access w/aln"]);
  expect(episode.trajectories.map(({ agentId, numTurns, answer }) => [agentId, numTurns, answer])).toEqual([
    ["lead", 3, "Found. \\boxed{41 km}"],
    ["1", 4, "Report: 41 km (w/aln)"],
  ]);
  expect(promptOf(model, 0)).toContain("Today is 2026-01-31");
  expect(promptOf(model, 0)).toContain("### Tool name: execute_subtask");
  expect(promptOf(model, 0)).not.toContain("google_search");
  expect(promptOf(model, 1)).toContain("## Server name: tool-searching");
  expect(model.calls[5]?.messages.at(-1)).toEqual({ role: "user", content: "[msg_0001] Report: 41 km (w/aln)" });
  expect(model.calls.map(({ settings }) => settings.topP)).toEqual([0.95, 1, 1, 1, 1, 0.95, 0.95]);
  expect(promptOf(model, 6)).toContain("\\boxed{...}");
  expect(promptOf(model, 6)).not.toContain("did not finish within your limits");
});

test("old results are left out as asked", async () => {
  const { model } = await rehearse(
    "miroflow",
    [delegate("a"), "x", "report a", delegate("b"), "x", "report b", "done", "\\boxed{1}"],
    {
      options: { ...options, keepToolResults: 1 },
    },
  );
  const last = model.calls[6]?.messages.map(({ content }) => content) ?? [];
  expect(last[3]).toContain("Tool result is omitted to save tokens.");
  expect(last[5]).toContain("report b");
  expect(last[1]).toContain("How long is the Aln");
});

test("wrong calls are told and the agent thinks again", async () => {
  const { episode, model } = await rehearse(
    "miroflow",
    ["<use_mcp_tool>{}</use_mcp_tool>", call("agent-worker", "search", {}), "<use_mcp_tool>", "done", "\\boxed{1}"],
    { options },
  );
  expect(promptOf(model, 1)).toContain("the call names no server or no tool");
  expect(promptOf(model, 2)).toContain("There is no such tool");
  expect(promptOf(model, 3)).toContain("is not closed with");
  expect(episode.trajectories[0]).toMatchObject({ numMalformedCalls: 3, answer: "\\boxed{1}" });
});

test("at the turn limit the summary says so", async () => {
  const { model } = await rehearse("miroflow", [delegate("a"), search("Aln"), "late report", "\\boxed{41}"], {
    options: { ...options, maxTurns: 1 },
  });
  expect(promptOf(model, 2)).toContain("did not finish within your limits");
  // The result and the request for the summary are one message of the user.
  expect(model.calls[3]?.messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user"]);
  expect(model.calls[3]?.messages.at(-1)?.content).toMatch(/late report[\s\S]*did not finish/);
});

test("a full context loses its last exchanges until the summary fits", async () => {
  const full = new WideSeekError("WS_INVALID_ARGUMENT", "too long", { details: { reason: "context" } });
  const { episode, model } = await rehearse(
    "miroflow",
    ({ messages, index }) => {
      if (index === 0 || index === 3) return delegate("a");
      if (index === 1 || index === 4) return "nothing to do";
      if (index === 2 || index === 5) return "report";
      if (messages.length > 3) throw full;
      return "\\boxed{late}";
    },
    { options },
  );
  expect(episode.trajectories[0]).toMatchObject({ stopReason: "answered", answer: "\\boxed{late}" });
  expect(model.calls.at(-1)?.messages).toHaveLength(2);
  expect(promptOf(model, -1)).toContain("did not finish within your limits");
  const never = await rehearse(
    "miroflow",
    () => {
      throw full;
    },
    { options },
  );
  expect(never.episode.trajectories[0]).toMatchObject({ stopReason: "context" });
});

test("a table is asked for and kept", async () => {
  const { episode, model } = await rehearse("miroflow", ["done", fenced], { task: tableTask, options });
  expect(episode.trajectories[0]?.answer).toBe(fenced);
  expect(promptOf(model, 1)).toContain("one Markdown table");
  expect(model.calls[1]?.settings.maxTokens).toBe(8192);
});

test("calls are read as they are meant", () => {
  expect(readMcpCalls("no call")).toEqual({ calls: [], errors: [] });
  expect(readMcpCalls(`${search("a")}\n${search("b")}`).calls.map((each) => each.arguments)).toEqual([
    { q: "a" },
    { q: "b" },
  ]);
  expect(readMcpCalls(call("s", "t", [1])).errors).toEqual(["the arguments are no JSON object"]);
  expect(readMcpCalls("</use_mcp_tool>").errors).toHaveLength(1);
  expect(
    readMcpCalls("<use_mcp_tool><server_name>s</server_name><tool_name>t</tool_name></use_mcp_tool>").calls,
  ).toEqual([{ server: "s", tool: "t", arguments: {} }]);
});
