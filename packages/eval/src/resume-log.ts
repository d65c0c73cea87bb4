// The JSONL file of finished episodes that lets an interrupted evaluation go on: a header, then one line an episode.
import { WideSeekError } from "@wideseek/spec";
import { type EpisodeResult, parseEpisodeResult } from "./episode-result.ts";
import { JsonLog } from "./json-log.ts";

export class ResumeLog implements AsyncDisposable {
  readonly #log: JsonLog;

  private constructor(log: JsonLog) {
    this.#log = log;
  }

  /**
   * Opens or creates the file and shows what it holds. An episode may be there again after lines that were not judged.
   * @throws WS_INVALID_ARGUMENT when the file was written under another label, WS_CORRUPT_FILE with the line number, WS_IO
   */
  static async open(path: string, label: string, visit: (result: EpisodeResult) => void): Promise<ResumeLog> {
    const judged = new Set<string>();
    const log = await JsonLog.open(path, (value, where, index) => {
      if (index === 0) {
        checkLabel(path, value, label);
        return;
      }
      const result = parseEpisodeResult(value, where);
      const key = JSON.stringify([result.instanceId, result.sample]);
      if (judged.has(key)) {
        throw new WideSeekError("WS_CORRUPT_FILE", `${where}: episode ${key} is there twice`, {
          op: "evaluate",
          details: { path, where },
        });
      }
      if (result.reward.judged) judged.add(key);
      visit(result);
    });
    if (log.numLines === 0) await log.append({ evaluation: label });
    return new ResumeLog(log);
  }

  append(result: EpisodeResult): Promise<void> {
    return this.#log.append(result);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#log[Symbol.asyncDispose]();
  }
}

function checkLabel(path: string, value: unknown, label: string): void {
  const header = value as { evaluation?: unknown } | null;
  if (header?.evaluation === label) return;
  throw new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `${path}: written by evaluation ${JSON.stringify(header?.evaluation ?? null)}, this one is ${JSON.stringify(label)}; name another file`,
    { op: "evaluate", details: { path } },
  );
}
