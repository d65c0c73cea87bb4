// Where pages come from when they come from the web, from MCP servers or from a recording, as schemas. Owns no behaviour:
// reading a config needs only this file.
import { z } from "zod";

const count = (limit: number): z.ZodInt => z.int().min(1).max(limit);
const seconds = z.number().positive().max(86_400);
const text = z.string().min(1);
const httpUrl = (example: string): z.ZodType<string, string> =>
  z
    .url({ protocol: /^https?$/, error: `must be an http or https URL such as ${example}`, abort: true })
    .refine((url) => {
      const { username, password, hash } = new URL(url);
      return username + password + hash === "";
    }, "must have no user, password or fragment");
const environmentName = z
  .string()
  // The value may be a key by mistake, so no message may show it.
  .regex(/^[A-Z_][A-Z0-9_]{0,99}$/, "must be the NAME of an environment variable in capitals, never the key itself");

/** How much one service, or one host of pages, is asked at a time. */
const hostShape = (maxConcurrentPerHost: number, requestsPerSecondPerHost: number) =>
  ({
    maxConcurrentPerHost: count(10_000)
      .default(maxConcurrentPerHost)
      .describe("Requests to one host at once; further ones wait."),
    requestsPerSecondPerHost: z
      .number()
      .positive()
      .max(100_000)
      .default(requestsPerSecondPerHost)
      .describe("Requests to one host that begin in a second."),
  }) as const;

const serperSchema = z.strictObject({
  engine: z.literal("serper").describe("Google results through Serper (serper.dev), as published."),
  apiKeyEnv: environmentName
    .default("SERPER_API_KEY")
    .describe("Name of the environment variable that holds the API key."),
  endpoint: httpUrl("https://google.serper.dev/search")
    .default("https://google.serper.dev/search")
    .describe("Address that searches are posted to."),
  country: text.nullable().default(null).describe("Country code of the results (Google's gl); null = Google's choice."),
  language: text.nullable().default(null).describe("Language of the results (Google's hl); null = Google's choice."),
  // Published: 20 at once, a pause of 0.1 s before each.
  ...hostShape(20, 50),
});

const searxngSchema = z.strictObject({
  engine: z.literal("searxng").describe("A SearXNG of your own; its settings must allow the JSON format."),
  baseUrl: httpUrl("http://127.0.0.1:8080").describe("Address of the instance; it may be on this machine."),
  engines: text.nullable().default(null).describe("Engines of SearXNG, separated by commas; null = as it is set up."),
  categories: text
    .nullable()
    .default(null)
    .describe("Categories of SearXNG, separated by commas; null = as it is set up."),
  language: text.nullable().default(null).describe("Language of the results; null = as it is set up."),
  ...hostShape(8, 5),
});

const jinaSchema = z.strictObject({
  reader: z.literal("jina").describe("Pages as Markdown through Jina Reader (jina.ai), as published."),
  apiKeyEnv: environmentName
    .default("JINA_API_KEY")
    .describe("Name of the environment variable that holds the API key."),
  endpoint: httpUrl("https://r.jina.ai/")
    .default("https://r.jina.ai/")
    .describe("Address that the page's address is appended to."),
  // Published: 10 at once.
  ...hostShape(10, 20),
});

const directSchema = z.strictObject({
  reader: z.literal("direct").describe("Pages fetched from this machine, public addresses only, and read as Markdown."),
  userAgent: text
    .max(500)
    .regex(/^[\x20-\x7e]+$/, "must be plain ASCII text")
    .default("Mozilla/5.0 (compatible; WideSeek/0.1)")
    .describe("How we introduce ourselves to servers."),
  threads: count(64).default(2).describe("Threads that make text of pages."),
  maxConcurrent: count(10_000).default(64).describe("Pages that are fetched at once, from all hosts."),
  ...hostShape(4, 4),
});

const cacheSchema = z.strictObject({
  file: text
    .nullable()
    .default("runs/web-cache.sqlite")
    .describe("SQLite file of hits and pages, shared by any number of processes; null = no cache."),
  maxMiB: z.number().positive().max(10_000_000).default(4096).describe("Size at which what was not used longest goes."),
  maxAgeDays: z.number().positive().max(36_500).default(30).describe("Days after which an answer is asked for again."),
});

export const blocklistOptionsSchema = z.strictObject({
  defaults: z
    .boolean()
    .default(true)
    .describe("Leave out the places where WideSearch and the QA sets are published, and pages with their sample ids."),
  addresses: z
    .array(text.max(2000))
    .default([])
    .describe("Further hosts with an optional path to leave out; * = anything, subdomains belong to a host."),
  phrases: z.array(text.max(2000)).default([]).describe("Further texts that no page that is shown may have."),
});

export const webOptionsSchema = z.strictObject({
  search: z.discriminatedUnion("engine", [serperSchema, searxngSchema]).describe("Where searches are asked."),
  access: z
    .discriminatedUnion("reader", [jinaSchema, directSchema])
    .prefault({ reader: "direct" })
    .describe("How pages are read."),
  maxAttempts: count(100)
    .default(5)
    .describe("Attempts of one request at network errors, 408, 429 and 5xx, with waits of full jitter in between."),
  attemptSeconds: seconds.default(30).describe("Seconds after which one attempt is given up."),
  breakerFailures: count(100_000)
    .default(8)
    .describe("Failed attempts in a row after which a host is left alone for a while."),
  breakerSeconds: seconds.default(20).describe("Seconds for which a failing host is left alone before one new try."),
  maxPageMiB: z
    .number()
    .positive()
    .max(1024)
    .default(8)
    .describe("Longest response that is read, after decompression."),
  cache: cacheSchema.prefault({}).describe("Answers that are kept on disk; failures never are."),
});

const mcpToolShape = {
  tool: text.describe("Name of the server's tool."),
  fixed: z.record(z.string(), z.unknown()).default({}).describe("Further arguments that every call carries."),
} as const;

const mcpServerSchema = z.discriminatedUnion("transport", [
  z.strictObject({
    transport: z.literal("stdio").describe("A program of this machine that speaks MCP over its standard streams."),
    command: text.describe("The program."),
    args: z.array(z.string()).default([]).describe("Its arguments."),
    env: z
      .array(environmentName)
      .default([])
      .describe("Names of environment variables that it gets beside the basic ones; keys go this way."),
  }),
  z.strictObject({
    transport: z.literal("http").describe("A server that speaks MCP over streamable HTTP."),
    url: httpUrl("http://127.0.0.1:3000/mcp").describe("Address of its endpoint."),
    bearerEnv: environmentName
      .nullable()
      .default(null)
      .describe("Name of the environment variable that holds its token; null = it needs none."),
  }),
]);

export const mcpOptionsSchema = z.strictObject({
  server: mcpServerSchema.describe("The MCP server."),
  search: z
    .strictObject({
      ...mcpToolShape,
      queryArgument: text.default("query").describe("Argument that holds the query."),
      countArgument: text
        .nullable()
        .default(null)
        .describe("Argument that holds the number of hits; null = none does."),
      hits: text
        .nullable()
        .default(null)
        .describe("Dotted path to the list of hits in the JSON of the result; null = found by itself."),
      urlField: text.default("url").describe("Field of a hit that holds its address."),
      titleField: text.default("title").describe("Field of a hit that holds its title."),
      contentsField: text.default("content").describe("Field of a hit that holds its text."),
    })
    .describe("The tool that stands in for `search`; a result that is no JSON is shown as one hit."),
  access: z
    .strictObject({
      ...mcpToolShape,
      urlArgument: text.default("url").describe("Argument that holds the address."),
      text: text
        .nullable()
        .default(null)
        .describe("Dotted path to the page's text in the JSON of the result; null = all of the text."),
    })
    .describe("The tool that stands in for `access`."),
  maxConcurrent: count(10_000).default(16).describe("Calls of the server at once; further ones wait."),
});

export const recordingOptionsSchema = z.strictObject({
  file: text.describe("JSONL file of everything that was looked up and what came back."),
  mode: z
    .enum(["record", "replay"])
    .default("record")
    .describe(
      "record = look up and write down; replay = answer from the file alone, which needs no network and no keys.",
    ),
});

export type BlocklistOptions = z.output<typeof blocklistOptionsSchema>;
export type BlocklistOptionsInput = z.input<typeof blocklistOptionsSchema>;
export type WebOptions = z.output<typeof webOptionsSchema>;
export type WebOptionsInput = z.input<typeof webOptionsSchema>;
export type McpOptions = z.output<typeof mcpOptionsSchema>;
export type McpOptionsInput = z.input<typeof mcpOptionsSchema>;
export type RecordingOptions = z.output<typeof recordingOptionsSchema>;
