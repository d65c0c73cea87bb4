// Opens the web from its options. Owns which parts make up the backend.
import { DiskCache } from "@wideseek/cache";
import { invalidInput, type SearchBackend, WideSeekError } from "@wideseek/spec";
import { Agent } from "undici";
import { DirectReader } from "./direct-reader.ts";
import type { PageReader, SearchEngine } from "./engine.ts";
import { guardedAgent } from "./guarded-agent.ts";
import { JinaReader } from "./jina.ts";
import { type Environment, readKey } from "./keys.ts";
import type { LeakBlocklist } from "./leak-blocklist.ts";
import { LeakFilter } from "./leak-filter.ts";
import { type WebOptions, type WebOptionsInput, webOptionsSchema } from "./options.ts";
import { PageExtractor } from "./page-extractor.ts";
import { Searxng } from "./searxng.ts";
import { Serper } from "./serper.ts";
import { WebBackend } from "./web-backend.ts";
import { WebClient } from "./web-client.ts";

const day = 24 * 3600;
const mebibyte = 2 ** 20;
/** A page that is short and will stay, for finding out whether a key is right. */
const probePage = "https://example.com/";

export interface OpenWebSettings {
  /** Deadline of one lookup in seconds, its retries and waits included. */
  timeoutSeconds: number;
  /** Where keys are looked up. */
  environment: Environment;
  /** What agents must not see. Redirects are checked too, which only the readers of pages know. */
  blocklist: LeakBlocklist;
}

/**
 * `search` and `access` on the live web. Asks each service once, so that a wrong key or a dead address is found before
 * anything starts.
 * @throws WS_INVALID_ARGUMENT naming option or variable, WS_IO, WS_TIMEOUT, WS_CORRUPT_FILE for a broken cache
 */
export async function openWeb(input: WebOptionsInput, settings: OpenWebSettings): Promise<SearchBackend> {
  const parsed = webOptionsSchema.safeParse(input);
  if (!parsed.success) throw invalidInput("web", parsed.error, input);
  const options = parsed.data;
  const keys = webKeys(options, settings.environment);
  const engine = openEngine(options, settings, keys.search);
  const reader = openReader(options, settings, keys.access);
  let cache: DiskCache | undefined;
  try {
    const { file, maxMiB, maxAgeDays } = options.cache;
    if (file !== null) {
      const limits = { maxBytes: maxMiB * mebibyte, maxAgeSeconds: maxAgeDays * day };
      cache = DiskCache.open(file, { contents: "web pages", ...limits });
    }
    await tried("web.search", () => engine.search("wikipedia", 1));
    if (reader instanceof JinaReader) await tried("web.access", () => reader.read(new URL(probePage), () => {}));
  } catch (error) {
    await Promise.all([engine[Symbol.asyncDispose](), reader[Symbol.asyncDispose]()]);
    cache?.[Symbol.dispose]();
    throw error;
  }
  return new LeakFilter(settings.blocklist, (checkAddress) => new WebBackend({ engine, reader, cache, checkAddress }));
}

/** The first request to a service: its failure is that of a setting. */
async function tried(setting: string, ask: () => Promise<unknown>): Promise<void> {
  try {
    await ask();
  } catch (error) {
    if (!(error instanceof WideSeekError)) throw error;
    const { code, op = "openWeb", details } = error;
    throw new WideSeekError(code, `${setting}: ${error.message}`, { op, details });
  }
}

/** Both before anything is opened. */
function webKeys({ search, access }: WebOptions, environment: Environment): { search: string; access: string } {
  return {
    search: search.engine === "serper" ? readKey("web.search.apiKeyEnv", search.apiKeyEnv, environment) : "",
    access: access.reader === "jina" ? readKey("web.access.apiKeyEnv", access.apiKeyEnv, environment) : "",
  };
}

interface HostSettings {
  maxConcurrentPerHost: number;
  requestsPerSecondPerHost: number;
  maxConcurrent?: number;
}

function client(
  options: WebOptions,
  { timeoutSeconds }: OpenWebSettings,
  host: HostSettings,
  isGuarded: boolean,
): WebClient {
  const { maxAttempts, attemptSeconds, breakerFailures, breakerSeconds, maxPageMiB } = options;
  const { maxConcurrentPerHost, requestsPerSecondPerHost, maxConcurrent = maxConcurrentPerHost } = host;
  const connectMs = Math.min(attemptSeconds, 10) * 1000;
  const dispatcher = isGuarded
    ? guardedAgent({ maxConnectionsPerHost: maxConcurrentPerHost, connectMs })
    : new Agent({
        connections: maxConcurrentPerHost,
        connect: { timeout: connectMs },
        headersTimeout: 0,
        bodyTimeout: 0,
      });
  return new WebClient(dispatcher, {
    ...{ maxConcurrent, maxConcurrentPerHost, requestsPerSecondPerHost, breakerFailures, breakerSeconds },
    ...{ maxAttempts, attemptSeconds, deadlineSeconds: timeoutSeconds },
    maxBytes: Math.ceil(maxPageMiB * mebibyte),
  });
}

function openEngine(options: WebOptions, settings: OpenWebSettings, key: string): SearchEngine {
  const { search } = options;
  const web = client(options, settings, search, false);
  if (search.engine === "searxng") {
    const { baseUrl, engines, categories, language } = search;
    return new Searxng(web, { baseUrl, engines, categories, language });
  }
  const { endpoint, country, language, apiKeyEnv } = search;
  return new Serper(web, { endpoint, country, language }, key, apiKeyEnv);
}

function openReader(options: WebOptions, settings: OpenWebSettings, key: string): PageReader {
  const { access } = options;
  if (access.reader === "jina") {
    return new JinaReader(
      client(options, settings, access, false),
      { endpoint: access.endpoint },
      key,
      access.apiKeyEnv,
    );
  }
  const extractor = new PageExtractor({ threads: access.threads });
  return new DirectReader({ client: client(options, settings, access, true), extractor, userAgent: access.userAgent });
}
