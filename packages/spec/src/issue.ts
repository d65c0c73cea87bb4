// What zod found wrong, in plain words. Owns no keys and no files: the caller names where.
import type { core } from "zod";

const kinds: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  bigint: "a bigint",
  string: "text",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
  null: "null",
};
/** Longer values would bury the rest of the line. */
const SHOWN_CHARACTERS = 60;

/** "must be a whole number, got 1.5". `input` is what was parsed; without it the value is not shown. */
export function describeIssue(issue: core.$ZodIssue, input?: unknown): string {
  // A message that the schema's author wrote says more than the kind of mistake.
  if (!/^(Invalid|Too small|Too big|Unrecognized)/.test(issue.message)) return issue.message;
  const demand = demandOf(issue);
  if (demand === undefined) return issue.message;
  const isMissing = issue.code === "invalid_type" && issue.message.endsWith("received undefined");
  if (isMissing) return `missing; ${demand}`;
  const got = shownValue(valueAt(input, issue.path));
  return got === undefined ? demand : `${demand}, got ${got}`;
}

function demandOf(issue: core.$ZodIssue): string | undefined {
  switch (issue.code) {
    case "invalid_type":
      return `must be ${kindName(issue.expected)}`;
    case "invalid_value":
      return `must be ${alternatives(issue.values.map((value) => JSON.stringify(value) ?? String(value)))}`;
    case "too_small":
      return lowerLimit(issue);
    case "too_big":
      return `${opening(issue.origin)} ${issue.inclusive === false ? "less than" : "at most"} ${issue.maximum}${counted(issue.origin)}`;
    case "not_multiple_of":
      return `must be a multiple of ${issue.divisor}`;
    case "invalid_format":
      return issue.format === "url" ? "must be a URL" : undefined;
    case "unrecognized_keys":
      return `unknown key ${issue.keys.join(", ")}`;
    case "invalid_union":
      return unionDemand(issue);
    default:
      return undefined;
  }
}

function lowerLimit({ origin, minimum, inclusive }: core.$ZodIssueTooSmall): string {
  if (counted(origin) !== "" && Number(minimum) === 1) return "must not be empty";
  return `${opening(origin)} ${inclusive === false ? "more than" : "at least"} ${minimum}${counted(origin)}`;
}

function unionDemand(issue: core.$ZodIssueInvalidUnion): string {
  const { discriminator, options } = issue as { discriminator?: string; options?: readonly unknown[] };
  if (discriminator !== undefined && options !== undefined) {
    return `must be ${alternatives(options.map((option) => JSON.stringify(option)))}`;
  }
  const expected = issue.errors.map(([first]) =>
    first?.code === "invalid_type" && first.path.length === 0 ? kindName(first.expected) : undefined,
  );
  const known = expected.filter((kind) => kind !== undefined);
  return known.length > 0 && known.length === expected.length
    ? `must be ${alternatives(known)}`
    : "has none of the forms it may have";
}

const kindName = (kind: string): string => kinds[kind] ?? kind;

/** "text or a list", "one of 1, 2, 3" */
function alternatives(names: readonly string[]): string {
  return names.length > 2 ? `one of ${names.join(", ")}` : names.join(" or ");
}

/** Texts and lists are counted, numbers compared. */
const counted = (origin: string): string =>
  (({ string: " characters", array: " items", set: " items" }) as Record<string, string>)[origin] ?? "";
const opening = (origin: string): string => (counted(origin) === "" ? "must be" : "must have");

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key];
  return value;
}

/** Values that fit into the line; others are named by their kind. */
function shownValue(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (Array.isArray(value)) return value.length === 0 ? "[]" : "a list";
  if (typeof value === "object" && value !== null) return "an object";
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
}
