// The tools `search` and `access`: a model's call in, text for the model out. Owns validation, limits and formats;
// where pages come from is the backend's business.
import {
  errorMessage,
  invalidInput,
  type Language,
  type SearchBackend,
  type SearchHit,
  type ToolCall,
  type ToolDefinition,
  type ToolResult,
  type Toolset,
  WideSeekError,
  withoutControlText,
} from "@wideseek/spec";
import { z } from "zod";
import { firstCharacters } from "./characters.ts";
import { type SearchRole, searchToolDefinitions } from "./definitions.ts";
import { type ToolOptions, type ToolOptionsInput, toolOptionsSchema } from "./options.ts";
import type { PageSummarizer } from "./summary.ts";
import { type ToolTexts, toolTexts } from "./tool-texts.ts";

type RunContext = Parameters<Toolset["run"]>[1];

/** One query or URL of a call, checked and ready to run. */
interface Request {
  kind: "search" | "access";
  /** Label and subject, shown above the result. */
  heading: string;
  look(signal: AbortSignal): Promise<string>;
  /** Of an access: what the page should answer, where the call says so. */
  info?: string | undefined;
}

/** What became of a call: requests to run in order, and lines about what was wrong or left out. */
interface Reading {
  requests: Request[];
  errors: string[];
  notes: string[];
}

/** @throws WS_INVALID_ARGUMENT for impossible options */
export function searchTools({
  backend,
  options = {},
  summarizer,
}: {
  backend: SearchBackend;
  options?: ToolOptionsInput;
  /** Answers `access` with what a page says about `info_to_extract`; left out, with the page. */
  summarizer?: Pick<PageSummarizer, "summarize"> | undefined;
}): Toolset {
  const parsed = toolOptionsSchema.safeParse(options);
  if (!parsed.success) throw invalidInput("tools", parsed.error, options);
  return new SearchToolset(backend, parsed.data, summarizer);
}

// zod's own translations: an error is only useful in the language the model is working in.
const locales = {
  en: { error: z.locales.en().localeError },
  zh: { error: z.locales.zhCN().localeError },
} as const satisfies Record<Language, object>;
type Locale = (typeof locales)[Language];

const accessSchema = z.object({ url: z.string().trim().min(1), info_to_extract: z.string().nullish() });
const searchSchema = (maxCount: number) =>
  z.object({ query: z.string().trim().min(1), count: z.int().min(1).max(maxCount).nullish() });

class SearchToolset implements Toolset {
  readonly #backend: SearchBackend;
  readonly #options: ToolOptions;
  readonly #searchSchema: ReturnType<typeof searchSchema>;
  readonly #summarizer: Pick<PageSummarizer, "summarize"> | undefined;

  constructor(backend: SearchBackend, options: ToolOptions, summarizer: Pick<PageSummarizer, "summarize"> | undefined) {
    this.#backend = backend;
    this.#summarizer = summarizer;
    this.#options = options;
    this.#searchSchema = searchSchema(options.maxCount);
  }

  definitions(role: SearchRole, language: Language): readonly ToolDefinition[] {
    return searchToolDefinitions(role, language, this.#options);
  }

  async run(call: ToolCall, { role, language, signal }: RunContext): Promise<ToolResult> {
    signal?.throwIfAborted();
    const texts = toolTexts[language];
    const { requests, errors, notes } = this.#read(call, role, language);
    // Joined before anything is thrown: no lookup outlives its call.
    const outcomes = await Promise.allSettled(requests.map((request) => this.#look(request, language, signal)));
    const sections: string[] = [];
    const failures: string[] = [];
    // The page was found, and the agent has it: only the report is told.
    const summaryFailures: string[] = [];
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") throw outcome.reason;
      sections.push(outcome.value.text);
      if (outcome.value.failure !== undefined) failures.push(outcome.value.failure);
      if (outcome.value.summaryFailure !== undefined) summaryFailures.push(`summary: ${outcome.value.summaryFailure}`);
    }
    const allFailures = [...failures, ...summaryFailures];
    if (errors.length > 0) sections.push([texts.callError, ...errors].join("\n"));
    return {
      // The one way out: hits, titles, pages, summaries, errors of servers and what a model quoted all pass here.
      text: withoutControlText([...sections, ...notes].join("\n\n")),
      ok: errors.length === 0 && failures.length === 0,
      numSearches: requests.filter((request) => request.kind === "search").length,
      numAccesses: requests.filter((request) => request.kind === "access").length,
      malformed: errors.length > 0,
      ...(allFailures.length > 0 && { failures: allFailures }),
    };
  }

  /** Rejects only on abort. */
  async #look(
    request: Request,
    language: Language,
    signal: AbortSignal | undefined,
  ): Promise<{ text: string; failure?: string; summaryFailure?: string }> {
    const texts = toolTexts[language];
    const section = (text: string): string => `${request.heading}\n${texts.result}\n${text}`;
    try {
      const { timeoutSeconds } = this.#options;
      const text = await withTimeout((inner) => request.look(inner), timeoutSeconds, texts, signal);
      // An empty page needs no model to say that it is empty.
      if (this.#summarizer === undefined || request.info === undefined || text === texts.noPage) {
        return { text: section(text) };
      }
      // Behind the tool's time limit: the model has a deadline of its own.
      const summary = await this.#summarizer.summarize(text, request.info, language, signal);
      if ("failure" in summary) return { text: section(text), summaryFailure: summary.failure };
      const heading = `${request.heading}\n${texts.infoToExtract}\n${request.info}`;
      return { text: `${heading}\n${texts.result}\n${summary.text}` };
    } catch (error) {
      signal?.throwIfAborted();
      return {
        text: section(texts.failed(errorMessage(error))),
        failure: `${request.kind}: ${errorMessage(error)}`,
      };
    }
  }

  #read(call: ToolCall, role: SearchRole, language: Language): Reading {
    const texts = toolTexts[language];
    if (call.name !== "search" && call.name !== "access") {
      return { requests: [], errors: [texts.noSuchTool(call.name)], notes: [] };
    }
    const { maxItemsPerCall, defaultCount } = this.#options;
    const list = call.name === "search" ? "queries" : "urls";
    const item = call.name === "search" ? { query: "...", count: defaultCount } : { url: "https://..." };
    const example = JSON.stringify({ name: call.name, arguments: role === "single" ? item : { [list]: [item] } });
    const reading: Reading = { requests: [], errors: [], notes: [] };
    const locale = locales[language];

    let items: readonly unknown[] = [call.arguments];
    if (role === "subagent") {
      const shape = z.object({ [list]: z.array(z.unknown()).min(1) }).safeParse(call.arguments, locale);
      if (!shape.success) return { ...reading, errors: [issueLine("", shape.error), texts.expectedForm(example)] };
      items = shape.data[list] ?? [];
    }
    for (const [index, value] of items.slice(0, maxItemsPerCall).entries()) {
      const request = call.name === "search" ? this.#search(value, locale, texts) : this.#access(value, locale, texts);
      if (!("issues" in request)) reading.requests.push(request);
      else reading.errors.push(issueLine(role === "single" ? "" : `${list}[${index}]`, request));
    }
    if (reading.errors.length > 0) reading.errors.push(texts.expectedForm(example));
    const numDropped = items.length - maxItemsPerCall;
    if (numDropped > 0) reading.notes.push(texts.dropped(numDropped, maxItemsPerCall));
    return reading;
  }

  #search(value: unknown, locale: Locale, texts: ToolTexts): Request | z.ZodError {
    const { defaultCount, maxQueryCharacters, hitCharacters } = this.#options;
    const argument = this.#searchSchema.safeParse(value, locale);
    if (!argument.success) return argument.error;
    const { count } = argument.data;
    const query = firstCharacters(argument.data.query, maxQueryCharacters);
    return {
      kind: "search",
      heading: `${texts.searchQuery}\n${query}`,
      look: async (signal) => {
        const hits = checkedHits(await this.#backend.search(query, count ?? defaultCount, signal));
        if (hits.length === 0) return texts.noHits;
        return hits
          .map((hit, index) => `[Doc ${index + 1}](${hit.url}):\n${firstCharacters(hit.contents, hitCharacters)}`)
          .join("\n\n");
      },
    };
  }

  #access(value: unknown, locale: Locale, texts: ToolTexts): Request | z.ZodError {
    const argument = accessSchema.safeParse(value, locale);
    if (!argument.success) return argument.error;
    const { url, info_to_extract: info } = argument.data;
    return {
      kind: "access",
      info: info?.trim() || undefined,
      heading: `${texts.accessUrl}\n${url}`,
      look: async (signal) => {
        const page: unknown = (await this.#backend.access(url, signal)) ?? "";
        if (typeof page !== "string") throw garbage("a page");
        return page.trim() === "" ? texts.noPage : firstCharacters(page, this.#options.pageCharacters);
      },
    };
  }
}

/** A backend is code of others too: what it gives is looked at before it is shown. */
function checkedHits(value: unknown): SearchHit[] {
  const isHit = (hit: Partial<SearchHit> | null): boolean =>
    typeof hit?.url === "string" && typeof hit.contents === "string";
  if (!Array.isArray(value) || !value.every(isHit)) throw garbage("hits");
  return value as SearchHit[];
}

function garbage(expected: string): WideSeekError {
  return new WideSeekError("WS_IO", `the answer was something else than ${expected}`);
}

function issueLine(where: string, error: z.ZodError): string {
  const issue = error.issues[0];
  const path = [where, ...(issue?.path ?? []).map(String)].filter((part) => part !== "").join(".");
  return path === "" ? `${issue?.message}` : `${path}: ${issue?.message}`;
}

/** Settles at the timeout or abort even when `look` ignores its signal. */
async function withTimeout<T>(
  look: (signal: AbortSignal) => Promise<T>,
  seconds: number,
  texts: ToolTexts,
  signal: AbortSignal | undefined,
): Promise<T> {
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(() => {
    controller.abort(new WideSeekError("WS_TIMEOUT", texts.timedOut(seconds)));
  }, seconds * 1000);
  const aborted = new Promise<never>((_, reject) => {
    controller.signal.addEventListener("abort", () => reject(controller.signal.reason), { once: true });
  });
  try {
    return await Promise.race([look(controller.signal), aborted]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
