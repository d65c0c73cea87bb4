// Reads the text files of a model folder. Owns how a missing or broken one is reported.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, WideSeekError } from "@wideseek/spec";
import type { z } from "zod";

/** The file's text, or null when there is none. @throws WS_IO when it cannot be read */
export async function readOptionalModelFile(modelDir: string, name: string): Promise<string | null> {
  const path = join(modelDir, name);
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw new WideSeekError("WS_IO", `cannot read ${path}: ${errorMessage(error)}`, {
      op: "readModelFile",
      details: { path },
      cause: error,
    });
  }
}

/** @throws WS_IO when the file is missing or cannot be read */
export async function readModelFile(modelDir: string, name: string): Promise<string> {
  const text = await readOptionalModelFile(modelDir, name);
  if (text !== null) return text;
  const path = join(modelDir, name);
  throw new WideSeekError("WS_IO", `${path} does not exist; a model folder needs ${name}`, {
    op: "readModelFile",
    details: { path },
  });
}

/** @throws WS_CORRUPT_FILE naming the file and the key */
export function parseModelJson<T>(modelDir: string, name: string, text: string, schema: z.ZodType<T>): T {
  const path = join(modelDir, name);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${path} is not JSON: ${errorMessage(error)}`, {
      op: "readModelFile",
      details: { path },
      cause: error,
    });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const key = issue?.path.map(String).join(".") || "the file";
  throw new WideSeekError("WS_CORRUPT_FILE", `${path}: ${key}: ${issue?.message ?? "invalid value"}`, {
    op: "readModelFile",
    details: { path, key },
    cause: result.error,
  });
}
