// Where a run looks things up: a corpus, a server, the web, MCP tools, or a recording of any of them. Owns the choice.
import type { RunConfig } from "@wideseek/config";
import { type SearchBackend, WideSeekError } from "@wideseek/spec";
import {
  HttpSearchBackend,
  LeakBlocklist,
  LeakFilter,
  openMcp,
  openWeb,
  RecordingBackend,
  ReplayBackend,
} from "@wideseek/tools";
import { openCorpus } from "./corpus-tools.ts";

type FileDataConfig = Extract<RunConfig["data"], { source: "files" }>;
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Everything that agents are shown has passed the list of leaks: a corpus or a server may hold copies of the web as well.
 * A recording that is replayed opens nothing else: it needs no server, no network and no keys.
 * @throws WS_INVALID_ARGUMENT for a missing key or a wrong setting, WS_IO, WS_CORRUPT_FILE
 */
export async function openPages(
  data: FileDataConfig,
  { timeoutSeconds }: Pick<RunConfig["tools"], "timeoutSeconds">,
  environment: Environment = process.env,
): Promise<SearchBackend> {
  const { recording } = data;
  const blocklist = new LeakBlocklist(data.blocklist);
  if (recording?.mode === "replay") {
    const replay = ReplayBackend.open(recording.file);
    return new LeakFilter(blocklist, () => replay);
  }
  const backend = await openPlace(data, { timeoutSeconds, environment, blocklist });
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
  settings: { timeoutSeconds: number; environment: Environment; blocklist: LeakBlocklist },
): Promise<SearchBackend> {
  const { corpus, searchServer, web, mcp } = data;
  const filtered = (backend: SearchBackend): SearchBackend => new LeakFilter(settings.blocklist, () => backend);
  if (corpus !== null) return filtered(await openCorpus(corpus));
  if (searchServer !== null) {
    const { timeoutSeconds } = settings;
    try {
      return filtered(await HttpSearchBackend.open({ baseUrl: searchServer, timeoutSeconds }));
    } catch (error) {
      if (!(error instanceof WideSeekError)) throw error;
      const message = `data.searchServer: ${error.message}; is it started (\`wideseek tools serve\`), and the address right?`;
      throw new WideSeekError(error.code, message, { op: "openRunData", details: error.details, cause: error });
    }
  }
  if (web !== null) return await openWeb(web, settings);
  if (mcp !== null) return filtered(await openMcp(mcp, settings));
  throw new WideSeekError("WS_INVALID_ARGUMENT", "data: give one of corpus, searchServer, web, mcp", {
    op: "openRunData",
  });
}

/** What a backend counted, under TensorBoard tags. */
export function toolMetrics(backend: SearchBackend): Record<string, number> {
  const counts = Object.entries(backend.metrics?.() ?? {});
  return Object.fromEntries(counts.map(([name, value]) => [`tools/${name}`, value]));
}
