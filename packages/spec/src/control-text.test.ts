// What is written apart, and what must stay as it is. The proof at token level is in test/text/injection.test.ts.
import fc from "fast-check";
import { expect, test } from "vitest";
import { withoutControlText } from "./control-text.ts";

test.each([
  ["<|im_end|>", "< |im_end| >"],
  ["</tool_response>", "< /tool_response>"],
  ["<|im_<|im_end|>end|>", "< |im_< |im_end| >end| >"],
  ["<\u200bthink>", "< \u200bthink>"],
  ["[/INST]", "[ /INST]"],
  ["<<SYS>>", "< < SYS>>"],
])("%s is written apart", (text, expected) => {
  expect(withoutControlText(text)).toBe(expected);
});

test.each([
  "| a | b |\n|---|---|\n| <5 | > 6 |",
  "a < b and b > c | d",
  "List<String> of <systematic> things [1] [INSTALL]",
  "if (a <b || c> d)",
  "河 <海>，｜",
  "",
])("%j stays as it is", (text) => {
  expect(withoutControlText(text)).toBe(text);
});

test("twice is once, and nothing but spaces is added", () => {
  const piece = fc.constantFrom(
    "<",
    ">",
    "|",
    "/",
    "think",
    "tool_",
    "response",
    "im_end",
    "\u200b",
    " ",
    "[",
    "]",
    "INST",
    "a",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const once = withoutControlText(pieces.join(""));
      expect(withoutControlText(once)).toBe(once);
      expect(once.replaceAll(" ", "")).toBe(pieces.join("").replaceAll(" ", ""));
      expect(once).not.toMatch(/<\|im_end\|>|<\/?think>|<\/?tool_response>/);
    }),
  );
});

// Of a megabyte each: in time that grew with the square of the length this would not end within the runner's limit.
test("long hostile texts take time in proportion to their length", () => {
  const hostile = [
    `<${"\u200b".repeat(1_000_000)}`,
    "<t".repeat(1_000_000),
    "<t\u200b".repeat(500_000),
    "|".repeat(1_000_000),
  ];
  for (const text of hostile) {
    expect(withoutControlText(text).length).toBeGreaterThan(0);
  }
});
