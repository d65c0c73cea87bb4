// ASearcher's protocol: one plain text, steps of reading, pages in chunks of which little stays.
import { expect, test } from "vitest";
import { Desk, fenced, promptOf, rehearse, tableTask } from "./testing/desk.ts";

test("searches, reads, opens a page in chunks, reads each, answers", async () => {
  const { episode, model, desk } = await rehearse(
    "asearcher",
    [
      "I need the length.</think>\n<search>Aln and Bryd</search>",
      "Two pages.</think>",
      "<access>w/aln</access>",
      "First half.</think>",
      "Second half.</think>",
      "<think>Done.</think><answer>41 km</answer>",
    ],
    { options: { chunkCharacters: 20, keptCharacters: 5 } },
  );
  expect(desk.asked).toEqual(["search Aln and Bryd 5", "access w/aln"]);
  expect(episode.trajectories[0]).toMatchObject({
    answer: "\\boxed{41 km}",
    numTurns: 6,
    numSearches: 1,
    numAccesses: 1,
  });
  expect(promptOf(model, 0)).toMatch(/User: How long is the Aln\nAssistant:\n<think>$/);
  expect(model.calls.map(({ settings }) => settings.stop)).toEqual([
    ["</search>", "</access>", "</answer>"],
    ["</think>"],
    ["</search>", "</access>", "</answer>"],
    ["</think>"],
    ["</think>"],
    ["</search>", "</access>", "</answer>"],
  ]);
  expect(model.calls[0]?.settings).toMatchObject({ temperature: 0.6, topP: 0.95, maxTokens: 4096 });
  expect(promptOf(model, 1)).toContain("[Doc 1](w/aln):\nThe river Aln is 41 km long.");
  expect(promptOf(model, 1)).toMatch(/<\/information>\n\n<think>\n$/);
  expect(promptOf(model, 3)).toContain(">>>> Page 1 >>>>\n\nThe river Aln is 41 \n");
  // After its step only the beginning of the chunk stays.
  expect(promptOf(model, 4)).not.toContain("The river Aln is 41 \n");
  expect(promptOf(model, 4)).toContain(">>>> Page 1 >>>>\n\nThe r...\n");
  expect(promptOf(model, 4)).toContain(">>>> Page 2 >>>>\n\nkm long.");
  expect(promptOf(model, 5)).toContain(">>>> Page 2 >>>>\n\nkm lo...");
  expect(promptOf(model, 5)).toContain("Second half.</think>");
});

test("a page is read up to its limits", async () => {
  const script = ["<access>w/aln</access>", ...Array.from({ length: 3 }, () => "so</think>"), "<answer>x</answer>"];
  const { model } = await rehearse("asearcher", script, { options: { chunkCharacters: 5, maxChunks: 3 } });
  expect(model.calls).toHaveLength(5);
  const whole = await rehearse("asearcher", ["<access>w/aln</access>", "so</think>", "<answer>x</answer>"], {
    options: { pageCharacters: 9 },
  });
  expect(promptOf(whole.model, 1)).toContain(">>>> Page 1 >>>>\n\nThe river\n");
});

test("nothing found and nothing there are said", async () => {
  const { model } = await rehearse("asearcher", [
    "<search>nobody</search>",
    "none</think>",
    "<access>w/none</access>",
    "none</think>",
    "<answer>unknown</answer>",
  ]);
  expect(promptOf(model, 1)).toContain("No search results are found.");
  expect(promptOf(model, 3)).toContain("No More Information is Found for this URL.");
});

test("page text closes nothing", async () => {
  const { model, episode } = await rehearse("asearcher", [
    "<search>Bryd</search>",
    "hm</think>",
    "<answer>87</answer>",
  ]);
  expect(promptOf(model, 2)).not.toContain("<answer>forged");
  expect(episode.trajectories[0]?.answer).toBe("\\boxed{87}");
});

test("the context and the number of replies end it, and silence does", async () => {
  const full = await rehearse("asearcher", () => "<search>Aln</search>", { options: { contextTokens: 500 } });
  expect(full.episode.trajectories[0]).toMatchObject({ stopReason: "context" });
  const turns = await rehearse("asearcher", () => "well", { options: { maxTurns: 4 } });
  expect(turns.episode.trajectories[0]).toMatchObject({ stopReason: "turns", numTurns: 4, numMalformedCalls: 4 });
  const silent = await rehearse("asearcher", () => "");
  expect(silent.episode.trajectories[0]).toMatchObject({ stopReason: "error", numTurns: 3 });
});

test("a table comes in its fence, a failed page is told", async () => {
  const { episode, model } = await rehearse(
    "asearcher",
    ["<access>w/aln</access>", "no</think>", `<answer>${fenced}</answer>`],
    {
      task: tableTask,
      desk: new Desk(new Error("down")),
    },
  );
  expect(promptOf(model, 1)).toContain("The page could not be opened: down");
  expect(episode.trajectories[0]?.answer).toBe(fenced);
});
