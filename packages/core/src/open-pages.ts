// Where a run looks things up: a corpus, a server, the web, MCP tools, or a recording of any of them. Owns the choice.
import type { RunConfig } from "@wideseek/config";
import { type SearchBackend, WideSeekError } from "@wideseek/spec";
import { HttpSearchBackend, openMcp, openWeb, RecordingBackend, ReplayBackend } from "@wideseek/tools";
import { openCorpus } from "./corpus-tools.ts";

type FileDataConfig = Extract<RunConfig["data"], { source: "files" }>;
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * A recording that is replayed opens nothing else: it needs no server, no network and no keys.
 * @throws WS_INVALID_ARGUMENT for a missing key or a wrong setting, WS_IO, WS_CORRUPT_FILE
 */
export async function openPages(
  data: FileDataConfig,
  { timeoutSeconds }: Pick<RunConfig["tools"], "timeoutSeconds">,
  environment: Environment = process.env,
): Promise<SearchBackend> {
  const { recording } = data;
  if (recording?.mode === "replay") return ReplayBackend.open(recording.file);
  const backend = await openPlace(data, timeoutSeconds, environment);
  if (recording === null) return backend;
  try {
    return RecordingBackend.open(recording.file, backend);
  } catch (error) {
    await backend[Symbol.asyncDispose]();
    throw error;
  }
}

async function openPlace(
  data: FileDataConfig,
  timeoutSeconds: number,
  environment: Environment,
): Promise<SearchBackend> {
  const { corpus, searchServer, web, mcp } = data;
  if (corpus !== null) return await openCorpus(corpus);
  if (searchServer !== null) return await HttpSearchBackend.open({ baseUrl: searchServer, timeoutSeconds });
  if (web !== null) return await openWeb(web, { timeoutSeconds, environment });
  if (mcp !== null) return await openMcp(mcp, { timeoutSeconds, environment });
  throw new WideSeekError("WS_INVALID_ARGUMENT", "data: give one of corpus, searchServer, web, mcp", {
    op: "openRunData",
  });
}

/** What a backend counted, under TensorBoard tags. */
export function toolMetrics(backend: SearchBackend): Record<string, number> {
  const counts = Object.entries(backend.metrics?.() ?? {});
  return Object.fromEntries(counts.map(([name, value]) => [`tools/${name}`, value]));
}
