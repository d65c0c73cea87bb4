import { describe, expect, test } from "vitest";
import { z } from "zod";
import { invalidInput } from "./errors.ts";
import { describeIssue } from "./issue.ts";

function described(schema: z.ZodType, input: unknown): string {
  const issue = schema.safeParse(input).error?.issues[0];
  if (issue === undefined) throw new Error("was accepted");
  return describeIssue(issue, input);
}

describe("describeIssue", () => {
  test.each<[z.ZodType, unknown, string]>([
    [z.int(), 1.5, "must be a whole number, got 1.5"],
    [z.int(), "many", 'must be a number, got "many"'],
    [z.number(), Number.NaN, "must be a number, got NaN"],
    [z.int().min(2), 1, "must be at least 2, got 1"],
    [z.int().max(9), 10, "must be at most 9, got 10"],
    [z.number().positive(), 0, "must be more than 0, got 0"],
    [z.number().lt(1), 1, "must be less than 1, got 1"],
    [z.int().multipleOf(4), 3, "must be a multiple of 4, got 3"],
    [z.string().min(1), "", 'must not be empty, got ""'],
    [z.array(z.string()).min(2), ["a"], "must have at least 2 items, got a list"],
    [z.boolean(), "yes", 'must be true or false, got "yes"'],
    [z.enum(["mas", "sa"]), "both", 'must be "mas" or "sa", got "both"'],
    [z.enum(["a", "b", "c"]), null, 'must be one of "a", "b", "c", got null'],
    [z.union([z.string(), z.array(z.string())]), 3, "must be text or a list, got 3"],
    [z.url(), "x", 'must be a URL, got "x"'],
    [z.url({ error: "must be an address" }), "x", "must be an address"],
    [z.object({ a: z.string() }), {}, "missing; must be text"],
    [z.object({ a: z.object({ b: z.int() }) }), { a: { b: 0.5 } }, "must be a whole number, got 0.5"],
    [z.int(), "a".repeat(999), `must be a number, got "${"a".repeat(59)}…`],
  ])("%#", (schema, input, expected) => {
    expect(described(schema, input)).toBe(expected);
  });

  test("a union of objects names the values of its discriminator", () => {
    const schema = z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("one") }),
      z.object({ kind: z.literal("two") }),
    ]);
    expect(described(schema, { kind: "no" })).toBe('must be "one" or "two", got "no"');
  });
});

test("invalidInput names place, key, limit and value", () => {
  const input = { steps: 1.5 };
  const { error } = z.object({ steps: z.int() }).safeParse(input);
  expect(invalidInput("run.yaml", error as z.ZodError, input).message).toBe(
    "run.yaml: steps: must be a whole number, got 1.5",
  );
  expect(invalidInput("run.yaml", error as z.ZodError).message).toBe("run.yaml: steps: must be a whole number");
});
