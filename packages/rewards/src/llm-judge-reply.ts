// Reads what a judging model says: the last JSON object of its reply, checked. Owns no requests.
import type { ChatRequest } from "@wideseek/spec";
import { z } from "zod";

/** What was said, or why it cannot be used, in words for the model. */
export type Reading<T> = { value: T } | { problem: string };

/** Objects are tried from the end of a reply; further ones are hardly what was asked for. */
const maxTries = 500;

const binary = z
  .union([z.literal(0), z.literal(1), z.literal("0"), z.literal("1"), z.boolean()])
  .transform((grade) => Number(grade));
const gradesSchema = z.object({
  grades: z.union([
    z.array(z.object({ id: z.string(), grade: binary })),
    z.record(z.string(), binary).transform((map) => Object.entries(map).map(([id, grade]) => ({ id, grade }))),
  ]),
});
const matchesSchema = z.object({
  matches: z.union([
    z.array(z.object({ id: z.string(), match: z.string().nullable() })),
    z
      .record(z.string(), z.string().nullable())
      .transform((map) => Object.entries(map).map(([id, match]) => ({ id, match }))),
  ]),
});
const answerSchema = z.object({ correct: z.boolean() });

const object = (properties: Record<string, unknown>): Record<string, unknown> => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
const analysis = { type: "string" };

/** The same forms for servers that hold a model to a schema. */
export const jsonSchemas: Readonly<Record<"grades" | "matches" | "answer", NonNullable<ChatRequest["jsonSchema"]>>> = {
  grades: {
    name: "grades",
    schema: object({
      analysis,
      grades: { type: "array", items: object({ id: { type: "string" }, grade: { type: "integer", enum: [0, 1] } }) },
    }),
  },
  matches: {
    name: "matches",
    schema: object({
      analysis,
      matches: {
        type: "array",
        items: object({ id: { type: "string" }, match: { anyOf: [{ type: "string" }, { type: "null" }] } }),
      },
    }),
  },
  answer: { name: "verdict", schema: object({ analysis, correct: { type: "boolean" } }) },
};

/** Grades in the order of `ids`; every id must be there. */
export function readGrades(text: string, ids: readonly string[]): Reading<number[]> {
  const read = readLast(text, gradesSchema);
  if ("problem" in read) return read;
  return byId(
    read.value.grades.map(({ id, grade }) => [id, grade]),
    ids,
  );
}

/** Reference texts (null: none) in the order of `ids`; every id must be there and every match one of `references`. */
export function readMatches(
  text: string,
  ids: readonly string[],
  references: ReadonlyMap<string, string>,
): Reading<(string | null)[]> {
  const read = readLast(text, matchesSchema);
  if ("problem" in read) return read;
  const unknown = read.value.matches.find(({ match }) => match !== null && !references.has(match));
  if (unknown) return { problem: `the match of ${shown(unknown.id)} is no id of a reference entry` };
  return byId(
    read.value.matches.map(({ id, match }) => [id, match === null ? null : (references.get(match) ?? null)]),
    ids,
  );
}

export function readVerdict(text: string): Reading<number> {
  const read = readLast(text, answerSchema);
  return "problem" in read ? read : { value: read.value.correct ? 1 : 0 };
}

function byId<T>(entries: readonly (readonly [string, T])[], ids: readonly string[]): Reading<T[]> {
  const found = new Map<string, T>();
  for (const [id, value] of entries) {
    if (found.has(id) && found.get(id) !== value) return { problem: `the id ${shown(id)} is there twice` };
    found.set(id, value);
  }
  const missing = ids.filter((id) => !found.has(id));
  if (missing.length > 0) {
    return { problem: `${missing.length} of ${ids.length} ids are missing, the first is ${missing[0]}` };
  }
  return { value: ids.map((id) => found.get(id) as T) };
}

/** The last JSON object in `text` that has the form; the whole text, fenced, or after other words. */
function readLast<T>(text: string, schema: z.ZodType<T>): Reading<T> {
  let problem = "it holds no JSON object";
  const fences = [...text.matchAll(/```(?:json)?\s*(\{[\s\S]*?\})\s*```/g)].map((match) => match[1] ?? "");
  for (const candidate of [text.trim(), ...fences.reverse(), ...endingObjects(text)]) {
    const value = parseObject(candidate);
    if (value === undefined) continue;
    const read = schema.safeParse(value);
    if (read.success) return { value: read.data };
    const issue = read.error.issues[0];
    problem = `its JSON object has not the demanded form (${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""})`;
  }
  return { problem };
}

/** Every text from a `{` to the last `}`, shortest first: only the outermost of them is JSON. */
function* endingObjects(text: string): Generator<string> {
  const end = text.lastIndexOf("}") + 1;
  let start = end;
  for (let tries = 0; tries < maxTries && start > 0; tries++) {
    start = text.lastIndexOf("{", start - 1);
    if (start < 0) return;
    yield text.slice(start, end);
  }
}

function parseObject(text: string): object | undefined {
  if (!text.startsWith("{")) return undefined;
  try {
    return JSON.parse(text) as object;
  } catch {
    return undefined;
  }
}

const shown = (id: string): string => JSON.stringify(id.slice(0, 40));
