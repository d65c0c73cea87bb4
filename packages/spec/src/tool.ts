// Tools as agents see them: definitions for the prompt, calls in, text out.
import type { Language } from "./task.ts";

/** OpenAI function style, rendered by the chat template. */
export interface ToolDefinition {
  type: "function";
  function: { name: string; description: string; parameters: Readonly<Record<string, unknown>> };
}

/** A call as the model wrote it; `arguments` is not validated yet. */
export interface ToolCall {
  name: string;
  arguments: unknown;
}

/** A page found by `search`. */
export interface SearchHit {
  url: string;
  title: string;
  contents: string;
}

/** Where `search` and `access` look things up: an embedded index, a server, the web. */
export interface SearchBackend extends AsyncDisposable {
  search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]>;
  /** Page text, or null when the URL is unknown. */
  access(url: string, signal?: AbortSignal): Promise<string | null>;
  /** What was counted since it was opened, under names with underscores; absent = nothing is counted. */
  metrics?(): Readonly<Record<string, number>>;
}

/** One section of the tool message that answers a turn. */
export interface ToolResult {
  text: string;
  /** False when the model's call was wrong or the tool failed; `text` then says why, for the model to read. */
  ok: boolean;
  numSearches: number;
  numAccesses: number;
  /** True when the model wrote the call wrong, wholly or in part; a tool that failed is not the model's mistake. */
  malformed?: boolean | undefined;
  /** Why lookups and page summaries failed, one line each, for reports; the model's own mistakes are not among them. */
  failures?: readonly string[] | undefined;
}

/** The tools of a subagent or a single agent. Never rejects for a bad call or a dead backend; rejects only on abort. */
export interface Toolset {
  definitions(role: "subagent" | "single", language: Language): readonly ToolDefinition[];
  run(
    call: ToolCall,
    context: { role: "subagent" | "single"; language: Language; signal?: AbortSignal | undefined },
  ): Promise<ToolResult>;
}
