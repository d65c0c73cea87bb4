// The JSONL file of finished episodes that lets an interrupted evaluation go on: one line an episode, written once.
import { type FileHandle, open, readFile, truncate } from "node:fs/promises";
import { atBoundary, errorMessage, WideSeekError } from "@wideseek/spec";
import { type EpisodeResult, parseEpisodeResult } from "./episode-result.ts";

export class ResumeLog implements AsyncDisposable {
  readonly results: readonly EpisodeResult[];
  readonly #file: FileHandle;
  // Appends go one after another, so that two episodes ending together never interleave their lines.
  #pending: Promise<void> = Promise.resolve();

  private constructor(file: FileHandle, results: readonly EpisodeResult[]) {
    this.#file = file;
    this.results = results;
  }

  /**
   * Opens or creates the file. A last line without its newline was cut by a crash: it is removed and its episode runs again.
   * @throws WS_INVALID_ARGUMENT when the file was written under another label, WS_CORRUPT_FILE with the line number, WS_IO
   */
  static async open(path: string, label: string): Promise<ResumeLog> {
    const header = `${JSON.stringify({ evaluation: label })}\n`;
    const file = await atBoundary("WS_IO", "evaluate", () => open(path, "a"));
    try {
      const bytes = await atBoundary("WS_IO", "evaluate", () => readFile(path));
      const numWhole = bytes.lastIndexOf(0x0a) + 1;
      if (numWhole < bytes.length) await atBoundary("WS_IO", "evaluate", () => truncate(path, numWhole));
      const lines = bytes.subarray(0, numWhole).toString("utf8").split("\n").slice(0, -1);
      if (lines.length === 0) await atBoundary("WS_IO", "evaluate", () => file.writeFile(header));
      else checkLabel(path, lines[0] ?? "", label);
      return new ResumeLog(file, parseResults(path, lines.slice(1)));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  append(result: EpisodeResult): Promise<void> {
    const line = `${JSON.stringify(result)}\n`;
    const written = this.#pending.then(() => atBoundary("WS_IO", "evaluate", () => this.#file.writeFile(line)));
    // The failure belongs to the caller of this append; the next one reports its own.
    this.#pending = written.catch(() => undefined);
    return written;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pending;
    await this.#file.close();
  }
}

function parseLine(path: string, number: number, line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new WideSeekError(
      "WS_CORRUPT_FILE",
      `${path}:${number}: ${errorMessage(error)}; delete the file to start over`,
      {
        op: "evaluate",
        details: { path, line: number },
        cause: error,
      },
    );
  }
}

function checkLabel(path: string, line: string, label: string): void {
  const header = parseLine(path, 1, line) as { evaluation?: unknown } | null;
  if (header?.evaluation === label) return;
  throw new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `${path}: written by evaluation ${JSON.stringify(header?.evaluation ?? null)}, this one is ${JSON.stringify(label)}; name another file`,
    { op: "evaluate", details: { path } },
  );
}

function parseResults(path: string, lines: readonly string[]): EpisodeResult[] {
  const seen = new Set<string>();
  return lines.map((line, index) => {
    const number = index + 2;
    const result = parseEpisodeResult(parseLine(path, number, line), `${path}:${number}`);
    const key = JSON.stringify([result.instanceId, result.sample]);
    if (seen.has(key)) {
      throw new WideSeekError("WS_CORRUPT_FILE", `${path}:${number}: episode ${key} is there twice`, {
        op: "evaluate",
        details: { path, line: number },
      });
    }
    seen.add(key);
    return result;
  });
}
