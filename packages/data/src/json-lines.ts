// Values of a JSON file: one a line, or one list. Owns how broken lines are named; no schema.
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { atBoundary, errorMessage, WideSeekError } from "@wideseek/spec";

export interface JsonValue {
  value: unknown;
  /** "file:line", or "file[index]" in a list. */
  where: string;
}

/** Streams the values of a JSONL file; blank lines are skipped. @throws WS_IO, WS_INVALID_ARGUMENT naming file and line */
export async function* jsonLines(file: string): AsyncGenerator<JsonValue> {
  const lines = createInterface({ input: createReadStream(file, "utf8"), crlfDelay: Number.POSITIVE_INFINITY });
  let lineNumber = 0;
  try {
    for await (const line of lines) {
      lineNumber++;
      const where = `${file}:${lineNumber}`;
      const text = lineNumber === 1 ? line.replace(/^\u{feff}/u, "") : line;
      if (text.trim() !== "") yield { value: parse(text, where), where };
    }
  } catch (error) {
    if (error instanceof WideSeekError) throw error;
    throw new WideSeekError("WS_IO", `cannot read ${file}: ${errorMessage(error)}`, { cause: error });
  } finally {
    lines.close();
  }
}

/** The values of a `.json` file that holds one list, else the lines of JSONL. */
export async function* jsonValues(file: string): AsyncGenerator<JsonValue> {
  if (!file.endsWith(".json")) {
    yield* jsonLines(file);
    return;
  }
  const text = await atBoundary("WS_IO", `cannot read ${file}`, () => readFile(file, "utf8"));
  const list = parse(text, file);
  if (!Array.isArray(list)) throw new WideSeekError("WS_INVALID_ARGUMENT", `${file}: a .json file must hold one list`);
  for (const [index, value] of list.entries()) yield { value, where: `${file}[${index}]` };
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${where}: not JSON: ${errorMessage(error)}`, { cause: error });
  }
}
