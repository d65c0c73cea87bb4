// Replies that are JSON objects, as models write them: in a fence, after a thought, or plain. Owns no schema.
import type { z } from "zod";

/** The last JSON object in `text` that has the form of `schema`, or undefined. */
export function jsonReply<T>(text: string, schema: z.ZodType<T>): T | undefined {
  const fenced = [...text.matchAll(/```(?:json)?\s*\n?([\s\S]*?)```/g)].map((match) => match[1] ?? "");
  for (const candidate of [...fenced.reverse(), text, between(text)]) {
    const parsed = schema.safeParse(parsedOrUndefined(candidate));
    if (parsed.success) return parsed.data;
  }
  return undefined;
}

/** From the first opening to the last closing brace. */
function between(text: string): string {
  const start = text.indexOf("{");
  const end = text.lastIndexOf("}");
  return start < 0 || end < start ? "" : text.slice(start, end + 1);
}

function parsedOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
