import { expect, test } from "vitest";
import { FailureCounter, failureKind } from "./failures.ts";
import { tableReward } from "./testing.ts";

test.each([
  ["turn 3: search: connect ECONNREFUSED 127.0.0.1:8000", "search: connect ECONNREFUSED #:#"],
  ['turn 12: wrong call of "create_sub_agents"', 'wrong call of "create_sub_agents"'],
  ['turn 1: no tool "Weather, please"', 'no tool "…"'],
  ["access: https://a.b/c?d=1 timed out after 60 seconds", "access: URL timed out after # seconds"],
])("%s is of the kind %s", (line, kind) => {
  expect(failureKind(line)).toBe(kind);
});

test("counts kinds, clean episodes and unjudged ones, in bounded memory", () => {
  const counter = new FailureCounter();
  counter.add([], tableReward(1));
  counter.add(["turn 1: a 1", "turn 2: a 2"], tableReward(1));
  counter.add([], { ...tableReward(0, false), reason: "judge llm: HTTP 503" });
  expect(counter.summary()).toEqual({
    numCleanEpisodes: 1,
    unjudged: [{ kind: "judge llm: HTTP #", count: 1 }],
    agents: [{ kind: "a #", count: 2 }],
  });
  const letters = (index: number): string => [...String(index)].map((digit) => "abcdefghij"[Number(digit)]).join("");
  for (let index = 0; index < 1000; index++) counter.add([`hostile ${letters(index)}`], tableReward(1));
  expect(counter.summary().agents).toHaveLength(201);
  expect(counter.summary().agents[0]).toEqual({ kind: "others", count: 801 });
});
