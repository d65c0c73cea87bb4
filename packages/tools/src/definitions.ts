// Tool definitions that the chat template shows to the model: published shapes, wording of our own.
import type { Language, ToolDefinition } from "@wideseek/spec";
import type { ToolOptions } from "./options.ts";

export type SearchRole = "subagent" | "single";
type Json = Readonly<Record<string, unknown>>;

interface Wording {
  searchMany(limit: number): string;
  searchOne: string;
  query: string;
  count(limit: number): string;
  accessMany(limit: number): string;
  accessOne: string;
  url: string;
  info: string;
}

const wordings: Readonly<Record<Language, Wording>> = {
  en: {
    searchMany: (limit) =>
      `Search for pages. Returns the address and the beginning of the best pages for each query. Up to ${limit} queries per call; they run in parallel.`,
    searchOne: "Search for pages. Returns the address and the beginning of the best pages for the query.",
    query: "What to search for, as a few precise words or a short question.",
    count: (limit) => `How many pages to return, from 1 to ${limit}.`,
    accessMany: (limit) => `Read pages in full. Up to ${limit} addresses per call; they are read in parallel.`,
    accessOne: "Read one page in full.",
    url: "The complete address of the page, exactly as a search returned it. Never make one up.",
    info: "The exact question this page should answer.",
  },
  zh: {
    searchMany: (limit) =>
      `搜索网页。对每个查询返回最相关网页的地址和开头内容。每次调用最多 ${limit} 个查询，并行执行。`,
    searchOne: "搜索网页，返回最相关网页的地址和开头内容。",
    query: "要搜索的内容：几个准确的关键词或一个简短的问题。",
    count: (limit) => `返回的网页数量，1 到 ${limit}。`,
    accessMany: (limit) => `阅读网页全文。每次调用最多 ${limit} 个网址，并行执行。`,
    accessOne: "阅读一个网页的全文。",
    url: "网页的完整地址，必须来自搜索结果，不得编造。",
    info: "需要从该网页得到回答的具体问题。",
  },
};

const object = (properties: Json, required: readonly string[]): Json => ({ type: "object", properties, required });
const array = (description: string, items: Json): Json => ({ type: "array", description, items });
const string = (description: string): Json => ({ type: "string", description });
const definition = (name: string, description: string, parameters: Json): ToolDefinition => ({
  type: "function",
  function: { name, description, parameters },
});

export function searchToolDefinitions(role: SearchRole, language: Language, options: ToolOptions): ToolDefinition[] {
  if (options.compactDefinitions) return compact(role);
  const words = wordings[language];
  const limit = options.maxItemsPerCall;
  const search = object(
    {
      query: string(words.query),
      count: {
        type: "integer",
        description: words.count(options.maxCount),
        default: options.defaultCount,
        minimum: 1,
        maximum: options.maxCount,
      },
    },
    ["query"],
  );
  const access = object({ url: string(words.url), info_to_extract: string(words.info) }, ["url", "info_to_extract"]);
  if (role === "single") {
    return [definition("search", words.searchOne, search), definition("access", words.accessOne, access)];
  }
  const [searchMany, accessMany] = [words.searchMany(limit), words.accessMany(limit)];
  return [
    definition("search", searchMany, object({ queries: array(searchMany, search) }, ["queries"])),
    definition("access", accessMany, object({ urls: array(accessMany, access) }, ["urls"])),
  ];
}

/** The same calls in the fewest tokens; optional arguments are left unsaid. */
function compact(role: SearchRole): ToolDefinition[] {
  const one = (key: string): Json => ({ type: "object", properties: { [key]: { type: "string" } } });
  const many = (key: string, items: Json): Json => ({
    type: "object",
    properties: { [key]: { type: "array", items } },
  });
  const [query, url] = [one("query"), one("url")];
  return [
    definition("search", "find pages", role === "single" ? query : many("queries", query)),
    definition("access", "read pages", role === "single" ? url : many("urls", url)),
  ];
}
