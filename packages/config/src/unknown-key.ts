// What to say about a key that no schema knows. Owns how near "did you mean" is; the keys are the schema's.
import { editDistance } from "@wideseek/spec";
import { z } from "zod";

/** The most similar known key of the section, what else the key belongs to, or all known keys when none is close. */
export function describeUnknownKey(path: readonly string[], values: unknown, schema: z.ZodType): string {
  const parents = path.slice(0, -1);
  const wrong = path.at(-1) ?? "";
  const { shape, others, chooser } = sectionShape(parents, values, schema);
  const owner = others.find((other) => Object.hasOwn(other, wrong));
  if (owner)
    return `belongs to ${chooser} ${literalOf(owner[chooser])}, but ${chooser} is ${literalOf(shape[chooser])}`;
  const known = Object.keys(shape);
  // "dir" is far from "directory" in letters.
  const longer = wrong.length >= 3 ? known.filter((key) => key.startsWith(wrong)) : [];
  if (longer.length === 1) return `unknown key; did you mean ${longer[0]}?`;
  const closest = known
    .map((key) => ({ key, distance: editDistance(key.toLowerCase(), wrong.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  if (closest && closest.distance <= Math.max(2, wrong.length / 3)) return `unknown key; did you mean ${closest.key}?`;
  return `unknown key${known.length > 0 ? `; known keys are ${known.join(", ")}` : ""}`;
}

type Shape = Readonly<Record<string, unknown>>;

interface Section {
  shape: Shape;
  others: readonly Shape[];
  /** The key that chooses between several kinds; "" where there is one. */
  chooser: string;
}

/** Keys of the section at `path`; where one of its keys chooses between several kinds, also those of the others. */
function sectionShape(path: readonly string[], values: unknown, schema: z.ZodType): Section {
  let found = kinds(schema, values);
  let section = values;
  for (const key of path) {
    section = (section as Record<string, unknown>)[key];
    found = kinds(bare(found.shape[key]), section);
  }
  return found;
}

function kinds(schema: unknown, section: unknown): Section {
  if (!(schema instanceof z.ZodDiscriminatedUnion)) return { shape: shapeOf(schema), others: [], chooser: "" };
  const chooser = schema.def.discriminator;
  const shapes = schema.options.map(shapeOf);
  const chosen = (section as Record<string, unknown>)[chooser];
  const shape = shapes.find((candidate) => literalOf(candidate[chooser]) === chosen) ?? {};
  return { shape, others: shapes.filter((candidate) => candidate !== shape), chooser };
}

function shapeOf(schema: unknown): Shape {
  return schema instanceof z.ZodObject ? schema.shape : {};
}

function literalOf(schema: unknown): unknown {
  return schema instanceof z.ZodLiteral ? schema.value : undefined;
}

/** The schema inside of defaults, nullable and optional. */
function bare(schema: unknown): unknown {
  let inner = schema;
  while (
    inner instanceof z.ZodDefault ||
    inner instanceof z.ZodPrefault ||
    inner instanceof z.ZodNullable ||
    inner instanceof z.ZodOptional
  ) {
    inner = inner.unwrap();
  }
  return inner;
}
