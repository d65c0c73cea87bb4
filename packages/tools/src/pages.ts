// Pages of a corpus file: one JSON object per line. Owns reading and checking lines; does not own the index.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { errorMessage, invalidInput, type SearchHit, WideSeekError } from "@wideseek/spec";
import { z } from "zod";

/** A page as the published corpora have it. */
export const pageSchema: z.ZodType<SearchHit> = z.object({
  url: z.string().trim().min(1),
  // The published Wikipedia corpus has no titles.
  title: z
    .string()
    .nullish()
    .transform((title) => title ?? ""),
  contents: z.string(),
});

/**
 * Streams the pages of a JSONL file `{url, title?, contents}`; blank lines and further keys are ignored.
 * @throws WS_IO when the file cannot be read, WS_INVALID_ARGUMENT naming file and line of the first bad line
 */
export async function* readPages(jsonlPath: string): AsyncGenerator<SearchHit, void, void> {
  const stream = createReadStream(jsonlPath, "utf8");
  try {
    let line = 0;
    for await (const text of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      line += 1;
      if (text.trim() !== "") yield parsePage(text, `${jsonlPath}:${line}`, line);
    }
  } catch (error) {
    if (error instanceof WideSeekError) throw error;
    throw new WideSeekError("WS_IO", `${jsonlPath}: cannot read the corpus: ${errorMessage(error)}`, {
      op: "readPages",
      details: { path: jsonlPath },
      cause: error,
    });
  } finally {
    stream.destroy();
  }
}

function parsePage(text: string, where: string, line: number): SearchHit {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${where}: not JSON: ${errorMessage(error)}`, {
      op: "readPages",
      details: { line },
      cause: error,
    });
  }
  const page = pageSchema.safeParse(value);
  if (!page.success) throw invalidInput(where, page.error, value);
  return page.data;
}
