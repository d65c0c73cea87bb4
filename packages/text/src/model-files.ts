// Reads the text files of a model folder. Owns how a missing or broken one is reported.
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describeIssue, errorMessage, WideSeekError } from "@wideseek/spec";
import type { z } from "zod";

/** What a file is for, where its name alone does not say so to a reader. */
const purposes: Readonly<Record<string, string>> = { "tokenizer.json": "tokenizer" };

/** The file's text, or null when there is none. @throws WS_IO when it cannot be read */
export async function readOptionalModelFile(modelDir: string, name: string): Promise<string | null> {
  const path = join(modelDir, name);
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && ["ENOENT", "ENOTDIR"].includes(String(error.code))) return null;
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
  const folder = await stat(modelDir).catch(() => undefined);
  const message = folder?.isDirectory()
    ? `${path} does not exist; a model folder needs ${name}`
    : `${modelDir}: ${folder ? "is a file" : "no such folder"}; a model folder holds config.json, model.safetensors and tokenizer.json`;
  throw new WideSeekError("WS_IO", message, {
    op: "readModelFile",
    details: { path },
  });
}

/** @throws WS_CORRUPT_FILE naming the file and the key */
export function parseModelJson<T>(modelDir: string, name: string, text: string, schema: z.ZodType<T>): T {
  const path = join(modelDir, name);
  const purpose = purposes[name];
  const where = purpose === undefined ? `${path}:` : `${path} is not a ${purpose} file:`;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${where} not JSON: ${errorMessage(error)}`, {
      op: "readModelFile",
      details: { path },
      cause: error,
    });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const key = issue?.path.map(String).join(".") || "the file";
  throw new WideSeekError(
    "WS_CORRUPT_FILE",
    `${where} ${key}: ${issue ? describeIssue(issue, value) : "invalid value"}`,
    {
      op: "readModelFile",
      details: { path, key },
      cause: result.error,
    },
  );
}
