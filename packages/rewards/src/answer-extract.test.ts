import { describe, expect, it } from "vitest";
import { extractBoxed, stripThinking } from "./answer-extract.ts";

describe("stripThinking", () => {
  it("keeps what follows the last closing tag", () => {
    expect(stripThinking("<think>a</think>b<think>c</think> d")).toBe(" d");
    expect(stripThinking("no thoughts")).toBe("no thoughts");
  });
});

describe("extractBoxed", () => {
  it.each([
    ["\\boxed{Paris}", "Paris"],
    ["\\boxed{a} and \\boxed{ b }", "b"],
    ["\\boxed{\\text{a {b}}}", "\\text{a {b}}"],
    ["\\boxed{done} then \\boxed{cut {off}", "done"],
    ["} \\boxed{x}", "x"],
    ["\\boxed{}", ""],
    ["\\boxed{open", undefined],
    ["", undefined],
  ])("%s", (text, expected) => {
    expect(extractBoxed(text)).toBe(expected);
  });
});
