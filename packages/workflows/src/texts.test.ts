// The small parts: cutting at tokens and characters, parts of pages, forms of answers, JSON in replies, tags.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { finalAnswer } from "./answer-form.ts";
import { relevantChunks } from "./chunks.ts";
import { jsonReply } from "./json-reply.ts";
import { firstTag, lastTag } from "./tags.ts";
import { fenced, qaTask, tableTask } from "./testing/desk.ts";
import { cutToTokens, estimatedTokens, wholeCharacters } from "./token-cut.ts";

describe("cutting", () => {
  test("keeps the longest part within the limit, never half a character", async () => {
    // A character is a token here, so the right length is known.
    const count = (text: string): number => [...text].length;
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: "grapheme-composite" }),
        fc.nat(20),
        fc.constantFrom("first", "last"),
        async (text, limit, keep) => {
          const part = await cutToTokens(text, limit, keep as "first", count);
          const characters = [...text];
          const expected =
            keep === "first" ? characters.slice(0, limit) : characters.slice(Math.max(0, characters.length - limit));
          expect(part).toBe(expected.join(""));
        },
      ),
    );
    expect(wholeCharacters("a😀", 2)).toBe("a");
    expect(wholeCharacters("😀a", 2, "last")).toBe("a");
  });

  test("estimates by script", () => {
    expect(estimatedTokens("")).toBe(0);
    expect(estimatedTokens("abcdefgh")).toBe(2);
    expect(estimatedTokens("北京大学")).toBe(4);
  });
});

describe("parts of a page", () => {
  const settings = { chunkWords: 4, overlapWords: 1, maxChunks: 2 };

  test("the ones that share most words, in the order of the page, words overlapping", () => {
    const page = "one two three four five six Aln river nine ten eleven twelve thirteen Aln fifteen sixteen";
    expect(relevantChunks(page, "the river Aln", settings)).toEqual(["four five six Aln", "Aln river nine ten"]);
    expect(relevantChunks(page, "the river Aln", { ...settings, maxChunks: 1 })).toEqual(["Aln river nine ten"]);
    expect(relevantChunks(page, "the river Aln", { ...settings, maxChunks: 9 }).join(" ")).toContain("fifteen sixteen");
  });

  test("covers the page whatever it is", () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.string(),
        fc.integer({ min: 1, max: 5 }),
        fc.nat(9),
        (page, query, chunkWords, overlapWords) => {
          const chunks = relevantChunks(page, query, { chunkWords, overlapWords, maxChunks: 1000 });
          for (const word of page.split(/\s+/).filter((each) => each !== "" && each.length < 64)) {
            expect(chunks.some((chunk) => chunk.includes(word))).toBe(true);
          }
        },
      ),
    );
    expect(relevantChunks("", "x", settings)).toEqual([""]);
    expect(relevantChunks("北".repeat(400), "京", settings)).toHaveLength(2);
  });
});

test("answers get the common form once", () => {
  expect(finalAnswer(qaTask, " 41 km ")).toBe("\\boxed{41 km}");
  expect(finalAnswer(qaTask, "so \\boxed{41}")).toBe("so \\boxed{41}");
  expect(finalAnswer(qaTask, "f(x) = {1}")).toBe("\\boxed{f(x) = {1}}");
  expect(finalAnswer(qaTask, "}{")).toBe("\\boxed{}");
  expect(finalAnswer(qaTask, "")).toBe("");
  expect(finalAnswer(tableTask, fenced)).toBe(fenced);
  expect(finalAnswer(tableTask, `first | second\n\nThe table:\n${tableTask.answer}\nThat is all.`)).toBe(fenced);
  expect(finalAnswer(tableTask, "River | Length | x\n---|---|---\nAln | 41 | y")).toContain(
    "```markdown\nRiver | Length",
  );
  expect(finalAnswer(tableTask, "I found nothing.")).toBe("I found nothing.");
  expect(finalAnswer(tableTask, "a | b | c")).toBe("a | b | c");
});

test("JSON is found in a fence, alone and inside a text; what has not the form is not taken", () => {
  const schema = z.object({ a: z.number() });
  expect(jsonReply('{"a": 1}', schema)).toEqual({ a: 1 });
  expect(jsonReply('thought {"a": "x"}\n```json\n{"a": 2}\n```', schema)).toEqual({ a: 2 });
  expect(jsonReply('```json\n{"a": 1}\n```\nno:\n```\n{"a": 3}\n```', schema)).toEqual({ a: 3 });
  expect(jsonReply('It is {"a": 4}.', schema)).toEqual({ a: 4 });
  for (const text of ["", "{", "}{", '{"a": "1"}', "[1]", "null"]) expect(jsonReply(text, schema)).toBeUndefined();
});

test("tags: the first whole one, the last of a name", () => {
  expect(firstTag("<a>x</b><b>y</b><a>z</a>", ["a", "b"])).toEqual({
    tag: { name: "a", content: "x</b><b>y</b><a>z" },
    upToEnd: "<a>x</b><b>y</b><a>z</a>",
  });
  expect(firstTag("<a>x", ["a"])).toBeUndefined();
  expect(lastTag("<a>1</a> <a>2</a> <a>", "a")).toBe("2");
  expect(lastTag("</a>", "a")).toBeUndefined();
});
