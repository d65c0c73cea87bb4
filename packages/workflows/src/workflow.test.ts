// What holds for every workflow: hostile models, dead tools, time limits, aborts, callers' mistakes.
import { ScriptedChatModel } from "@wideseek/llm/testing";
import {
  type ChatReply,
  longestTurnTokens,
  numContextTokens,
  numPromptTokens,
  numSampledTokens,
  WideSeekError,
} from "@wideseek/spec";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runWorkflow, workflowOptions, workflows } from "./index.ts";
import { Desk, qaTask, rehearse, tableTask } from "./testing/desk.ts";

const names = [...workflows.keys()];
const rogue = fc.oneof(
  fc.string(),
  fc
    .array(
      fc.constantFrom(
        "<search>",
        "</search>",
        "<access>w/aln</access>",
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "Aln",
        "<use_mcp_tool>",
        "</use_mcp_tool>",
        "<server_name>agent-worker</server_name>",
        "<tool_name>execute_subtask</tool_name>",
        '<arguments>{"subtask":"x"}</arguments>',
        "<tasks>",
        "<task>",
        "</task>",
        '{"assignee_id":1}',
        '{"content":"c","failed":true}',
        "Context: a",
        "Sub-Goal: b",
        "Tool Name: Google_Search",
        '{"command":{"query":"Aln"}}',
        '{"stop_signal":false}',
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "\\boxed{",
        "{",
        "}",
        "```markdown",
        "\ud800",
      ),
      { maxLength: 12 },
    )
    .map((parts) => parts.join(" ")),
);

describe.each(names)("%s", (name) => {
  test("takes whatever a model writes", async () => {
    const reply = fc.record(
      {
        text: rogue,
        toolCalls: fc.array(
          fc.record({
            id: fc.string(),
            name: fc.oneof(fc.string(), fc.constantFrom("search_google", "extract_document_content")),
            arguments: fc.oneof(fc.jsonValue(), fc.constant({ query: "Aln" })),
          }),
          { maxLength: 3 },
        ),
        callErrors: fc.array(fc.string(), { maxLength: 2 }),
      },
      { requiredKeys: ["text"] },
    ) as fc.Arbitrary<Partial<ChatReply>>;
    await fc.assert(
      fc.asyncProperty(fc.array(reply, { minLength: 1, maxLength: 12 }), fc.boolean(), async (replies, table) => {
        const { episode } = await rehearse(name, ({ index }) => replies[index % replies.length] ?? "", {
          task: table ? tableTask : qaTask,
        });
        expect(["answered", "turns", "context", "error"]).toContain(episode.trajectories[0]?.stopReason);
        expect(episode.trajectories.every(({ errors }) => errors.every((error) => typeof error === "string"))).toBe(
          true,
        );
      }),
      { numRuns: 25 },
    );
  });

  test("a model that cannot be reached, a full context and a time limit are data", async () => {
    const unreachable = await rehearse(name, () => {
      throw new WideSeekError("WS_IO", "connection refused");
    });
    expect(unreachable.episode.trajectories[0]).toMatchObject({ stopReason: "error", numTurns: 0 });
    expect(unreachable.episode.trajectories[0]?.errors.at(-1)).toContain("connection refused");
    const full = await rehearse(name, () => {
      throw new WideSeekError("WS_INVALID_ARGUMENT", "too long", { details: { reason: "context" } });
    });
    expect(full.episode.trajectories[0]?.stopReason).toBe("context");
    const slow = await rehearse(
      name,
      ({ settings }) =>
        new Promise((_, reject) => {
          settings.signal?.addEventListener("abort", () => reject(settings.signal?.reason));
        }),
      { options: { episodeSeconds: 0.01 } },
    );
    expect(slow.episode.trajectories[0]?.stopReason).toBe("timeout");
  });

  test("the caller's abort and a closed model end the episode", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const aborted = rehearse(
      name,
      () => {
        controller.abort(reason);
        return "too late";
      },
      { signal: controller.signal },
    );
    await expect(aborted).rejects.toBe(reason);
    await expect(rehearse(name, ["x"], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const model = new ScriptedChatModel([]);
    await model[Symbol.asyncDispose]();
    await expect(rehearse(name, [], { models: { default: { model } } })).rejects.toMatchObject({ code: "WS_CLOSED" });
  });

  test("the same seed asks the same questions with the same seeds", async () => {
    const seeds = async (seed: bigint): Promise<unknown[]> => {
      const { model } = await rehearse(name, ["a", "b", "c"], { seed });
      return model.calls.map(({ settings }) => settings.seed);
    };
    const first = await seeds(1n);
    expect(await seeds(1n)).toEqual(first);
    expect(await seeds(2n)).not.toEqual(first);
    expect(new Set(first).size).toBe(first.length);
  });

  test("callers' mistakes are named before anything is asked", async () => {
    const workflow = workflows.get(name);
    if (workflow === undefined) throw new Error(name);
    const model = new ScriptedChatModel([]);
    const request = { workflow, task: qaTask, models: { default: { model } }, backend: new Desk(), seed: 0n };
    const code = "WS_INVALID_ARGUMENT";
    await expect(runWorkflow({ ...request, options: { maxTurnz: 1 } })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(`${name} options: unknown key maxTurnz`),
    });
    await expect(runWorkflow({ ...request, models: {} })).rejects.toMatchObject({ code });
    await expect(runWorkflow({ ...request, models: { default: { model }, boss: { model } } })).rejects.toThrow(
      `${name}: has no role "boss"; its roles are default, `,
    );
    await expect(runWorkflow({ ...request, seed: -1n })).rejects.toMatchObject({ code });
    expect(model.calls).toHaveLength(0);
    expect(workflowOptions(workflow).episodeSeconds).toBe(1800);
  });
});

test("tokens are counted as the model reports them", async () => {
  const { episode } = await rehearse("search-r1", [
    { text: "<search>Aln</search>", numPromptTokens: 100, numCompletionTokens: 7 },
    { text: "<answer>41</answer>", numPromptTokens: 150, numCompletionTokens: 30 },
  ]);
  const [agent] = episode.trajectories;
  if (agent === undefined) throw new Error("no agent");
  expect([numSampledTokens(agent), numPromptTokens(agent), numContextTokens(agent), longestTurnTokens(agent)]).toEqual([
    37, 250, 180, 30,
  ]);
});
