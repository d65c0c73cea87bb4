// The tools over a corpus on disk, opened at first use. Owns which file of a folder is the index.
import { existsSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import {
  type Language,
  type SearchBackend,
  type ToolCall,
  type ToolDefinition,
  type ToolResult,
  type Toolset,
  WideSeekError,
} from "@wideseek/spec";
import { CorpusIndex, type ToolOptionsInput, searchTools as toolsOver } from "@wideseek/tools";

const INDEX_FILE = "index.sqlite";

export interface SearchToolsOptions {
  /** Folder with one JSONL file of pages {url, title, contents}; the index is built beside it once. */
  corpusDir: string;
  options?: ToolOptionsInput | undefined;
}

/** `search` and `access` over a corpus folder. @throws WS_IO when there is no corpus */
export function searchTools({ corpusDir, options = {} }: SearchToolsOptions): CorpusTools {
  return new CorpusTools(findCorpus(corpusDir), options);
}

/** Opens an index file, or builds one beside a JSONL file of pages if there is none that is newer. */
export async function openCorpus(file: string): Promise<CorpusIndex> {
  if (!existsSync(file))
    throw new WideSeekError(
      "WS_IO",
      `${file}: no such corpus; data.corpus names a .jsonl file of pages or an index.sqlite`,
      { op: "openCorpus" },
    );
  if (!file.endsWith(".jsonl")) return CorpusIndex.open(file);
  const index = path.join(path.dirname(file), INDEX_FILE);
  if (existsSync(index) && statSync(index).mtimeMs > statSync(file).mtimeMs) return CorpusIndex.open(index);
  return await CorpusIndex.build(file, index);
}

export class CorpusTools implements Toolset, AsyncDisposable {
  readonly #file: string;
  readonly #tools: Toolset;
  #index: Promise<CorpusIndex> | undefined;

  constructor(file: string, options: ToolOptionsInput) {
    this.#file = file;
    const backend: SearchBackend = {
      search: async (...request) => (await this.#open()).search(...request),
      access: async (...request) => (await this.#open()).access(...request),
      [Symbol.asyncDispose]: () => this[Symbol.asyncDispose](),
    };
    this.#tools = toolsOver({ backend, options });
  }

  /** Opens or builds the index, so that a broken corpus is an error of the caller and not a tool message. */
  async ready(): Promise<void> {
    await this.#open();
  }

  definitions(role: "subagent" | "single", language: Language): readonly ToolDefinition[] {
    return this.#tools.definitions(role, language);
  }

  run(call: ToolCall, context: Parameters<Toolset["run"]>[1]): Promise<ToolResult> {
    return this.#tools.run(call, context);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#index)?.[Symbol.asyncDispose]();
  }

  #open(): Promise<CorpusIndex> {
    this.#index ??= openCorpus(this.#file);
    return this.#index;
  }
}

function findCorpus(corpusDir: string): string {
  const names = existsSync(corpusDir) ? readdirSync(corpusDir) : [];
  const pages = names.filter((name) => name.endsWith(".jsonl"));
  if (pages.length === 1) return path.join(corpusDir, pages[0] as string);
  if (pages.length === 0 && names.includes(INDEX_FILE)) return path.join(corpusDir, INDEX_FILE);
  throw new WideSeekError(
    "WS_IO",
    `${corpusDir}: needs one .jsonl file of pages or ${INDEX_FILE}, found ${pages.length} .jsonl files`,
    { op: "searchTools", details: { corpusDir } },
  );
}
