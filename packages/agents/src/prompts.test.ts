import type { Language, Role } from "@wideseek/spec";
import { describe, expect, test } from "vitest";
import { agentTexts, type PromptStyle } from "./prompts.ts";

const roles: readonly Role[] = ["lead", "subagent", "single"];
const kinds = ["table", "qa"] as const;
const languages: readonly Language[] = ["en", "zh"];
const styles: readonly PromptStyle[] = ["full", "compact"];

describe.each(styles)("%s prompts", (style) => {
  test.each(languages)(
    "%s: the answer format of each task kind reaches those who answer, and only them",
    (language) => {
      const texts = agentTexts(style, language);
      for (const role of roles) {
        const [table, qa] = kinds.map((kind) => texts.systemPrompt(role, kind));
        if (role === "subagent") {
          expect(table).toBe(qa);
          expect(table).not.toMatch(/boxed|```/);
        } else {
          expect(table).toContain("```markdown");
          expect(table).not.toContain("\\boxed");
          expect(qa).toContain("\\boxed{");
          expect(qa).not.toContain("```");
        }
      }
    },
  );

  test.each(languages)("%s: names the tools of the role, carries question and subtask", (language) => {
    const texts = agentTexts(style, language);
    expect(texts.systemPrompt("lead", "table")).toContain(texts.createSubAgents(10).function.name);
    for (const role of ["subagent", "single"] as const)
      expect(texts.systemPrompt(role, "table")).toMatch(/search.*access/s);
    expect(texts.userMessage("lead", "Q", "Q")).toContain("Q");
    expect(texts.userMessage("subagent", "Q", "S")).toContain("S");
  });
});

test("compact prompts stay within 25 words and the user message is the request itself", () => {
  const texts = agentTexts("compact", "en");
  for (const role of roles) {
    for (const kind of kinds) expect(texts.systemPrompt(role, kind).split(/\s+/).length).toBeLessThanOrEqual(25);
    expect(texts.userMessage(role, "Q", role === "subagent" ? "S" : "Q")).toBe(role === "subagent" ? "S" : "Q");
  }
  expect(texts.firstTurn(10)).toBe("");
  expect([2, 3, 4, 5].map((turn) => texts.nextTurn(turn, 5) !== "")).toEqual([false, false, true, true]);
});

test("full table prompts of lead and single agent have worked examples whose complete calls are valid JSON", () => {
  for (const language of languages) {
    const texts = agentTexts("full", language);
    for (const role of ["lead", "single"] as const) {
      const blocks = [...texts.systemPrompt(role, "table").matchAll(/<tool_call>\n(.*)\n<\/tool_call>/g)].map(
        (match) => match[1],
      );
      // An ellipsis stands for "and so on".
      const whole = blocks.filter((block) => !/\.\.\.|……/.test(block ?? ""));
      expect(whole.length).toBeGreaterThanOrEqual(2);
      for (const block of whole) expect(JSON.parse(block ?? "")).toHaveProperty("arguments");
      expect(texts.systemPrompt(role, "qa")).not.toContain("<tool_call>");
    }
  }
});

test("Chinese texts are Chinese", () => {
  for (const style of styles) {
    const texts = agentTexts(style, "zh");
    const said = [
      texts.answerNow,
      texts.callError,
      texts.cut(1),
      texts.emptyReport,
      texts.notRun(1),
      texts.result,
      texts.subtask(1),
    ];
    for (const text of [...said, texts.failedReport("turns", ""), texts.turnCutOff(1)])
      expect(text).toMatch(/\p{Script=Han}/u);
  }
});
