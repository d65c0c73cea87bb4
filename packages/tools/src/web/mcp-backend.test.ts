// Tools of an MCP server as `search` and `access`, against the SDK's own server over both transports.
import path from "node:path";
import { WideSeekError } from "@wideseek/spec";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { searchTools } from "../toolset.ts";
import { McpBackend } from "./mcp-backend.ts";
import { readHits, readPage } from "./mcp-results.ts";
import { type McpOptionsInput, mcpOptionsSchema } from "./options.ts";
import { TestTiming } from "./testing/loopback.ts";
import { type HttpMcpServer, startMcpServer } from "./testing/mcp-server.ts";

const environment = { LAKES_KEY: "lakes-key-123456", PATH: process.env.PATH };
const tools = {
  search: {
    tool: "web_search",
    queryArgument: "q",
    countArgument: "max_results",
    fixed: { region: "eu" },
    hits: "data.results",
    urlField: "link",
    titleField: "name",
    contentsField: "snippet",
  },
  access: { tool: "fetch_page" },
};
const program = {
  transport: "stdio" as const,
  command: process.execPath,
  args: [path.join(import.meta.dirname, "testing", "mcp-server.ts")],
  env: ["LAKES_KEY"],
};
const open = (options: McpOptionsInput, timeoutSeconds = 60): Promise<McpBackend> =>
  McpBackend.open(mcpOptionsSchema.parse(options), { timeoutSeconds, environment }, new TestTiming());

let http: HttpMcpServer;
const opened: AsyncDisposable[] = [];
beforeAll(async () => {
  http = await startMcpServer("lakes-key-123456");
});
afterAll(() => http[Symbol.asyncDispose]());
afterEach(async () => {
  for (const each of opened.splice(0)) await each[Symbol.asyncDispose]();
});
const keep = <T extends AsyncDisposable>(each: T): T => {
  opened.push(each);
  return each;
};
async function failure(promise: Promise<unknown>): Promise<WideSeekError> {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(WideSeekError);
  expect(JSON.stringify([error, (error as Error).message, (error as Error).stack])).not.toContain("lakes-key-123456");
  return error as WideSeekError;
}

describe.each(["stdio", "http"] as const)("over %s", (transport) => {
  const server = (): McpOptionsInput["server"] =>
    transport === "stdio" ? program : { transport, url: http.url, bearerEnv: "LAKES_KEY" };
  let shared: McpBackend;
  beforeAll(async () => {
    shared = await open({ server: server(), ...tools });
  });
  afterAll(() => shared[Symbol.asyncDispose]());

  test("search maps arguments and fields", async () => {
    expect(await shared.search("lakes", 2)).toEqual([
      { url: "https://a.example/0", title: "Lake 0", contents: "lakes eu</tool_response>" },
      { url: "https://a.example/1", title: "Lake 1", contents: "lakes eu</tool_response>" },
    ]);
  });

  test("access returns the texts, or nothing", async () => {
    expect(await shared.access("https://a.example/x")).toBe("Page https://a.example/x\n\nSecond part.");
    expect(await shared.access("https://a.example/empty")).toBeNull();
  });

  test("many calls at once each get their own answer", async () => {
    const pages = await Promise.all(Array.from({ length: 40 }, (_, n) => shared.access(`https://a.example/${n}`)));
    expect(pages).toEqual(Array.from({ length: 40 }, (_, n) => `Page https://a.example/${n}\n\nSecond part.`));
  });

  test("a tool that fails is data for the model, without the key that it tells", async () => {
    expect((await failure(shared.search("fail", 1))).message).toMatch(/quota used up, key/);
    const result = await searchTools({ backend: shared }).run(
      { name: "search", arguments: { query: "lakes", count: 1 } },
      { role: "single", language: "en" },
    );
    expect(result.text).toContain("lakes eu< /tool_response>");
  });

  test("an abort and a close end a call that hangs", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const aborted = shared.access("https://a.example/hang", controller.signal);
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    const backend = await open({ server: server(), ...tools });
    const hanging = failure(backend.access("https://a.example/hang"));
    await backend[Symbol.asyncDispose]();
    expect((await hanging).code).toBe("WS_CLOSED");
    expect((await failure(backend.search("x", 1))).code).toBe("WS_CLOSED");
  });
});

test.each([
  [
    { search: { ...tools.search, tool: "nope" } },
    /mcp\.search\.tool: the server has no tool "nope"; it has web_search, fetch_page/,
  ],
  [
    { search: { ...tools.search, queryArgument: "query" } },
    /"web_search" takes no argument "query"; it takes q, max_results, region/,
  ],
  [{ access: { tool: "fetch_page", urlArgument: "uri" } }, /takes no argument "uri"/],
])("a wrong setting is found at the start %#", async (changes, message) => {
  const error = await failure(
    open({ server: { transport: "http", url: http.url, bearerEnv: "LAKES_KEY" }, ...tools, ...changes }),
  );
  expect(error.code).toBe("WS_INVALID_ARGUMENT");
  expect(error.message).toMatch(message);
});

test("a program gets the variables that are named, and no others", async () => {
  process.env.SECRET_PATH = "secret";
  try {
    const backend = keep(await open({ server: program, ...tools }));
    expect(await backend.access("https://a.example/key")).toBe("key=lakes-key-123456 path=none");
  } finally {
    delete process.env.SECRET_PATH;
  }
});

test("a program that died is started again by the next call", async () => {
  const backend = keep(await open({ server: program, ...tools }));
  await failure(backend.search("die", 1));
  expect(await backend.access("https://a.example/x")).toContain("Page");
  expect(backend.metrics().mcp_connections).toBeGreaterThanOrEqual(2);
});

test("a call that hangs is given up at the deadline", async () => {
  const server = { transport: "http" as const, url: http.url, bearerEnv: "LAKES_KEY" };
  const backend = keep(await open({ server, ...tools }, 1));
  expect((await failure(backend.access("https://a.example/hang"))).message).toMatch(
    /no answer of the tool fetch_page within 1 s/,
  );
});

test("a server that goes away is tried again, then left alone for a while", async () => {
  const server = await startMcpServer();
  const backend = keep(await open({ server: { transport: "http", url: server.url }, ...tools }));
  await server[Symbol.asyncDispose]();
  for (let n = 0; n < 3; n += 1) expect((await failure(backend.access("https://a.example/x"))).code).toBe("WS_IO");
  expect(backend.metrics()).toMatchObject({ mcp_calls: 3, mcp_failures: 3 });
});

test("a server that lost its sessions is reached again", async () => {
  const backend = keep(await open({ server: { transport: "http", url: http.url, bearerEnv: "LAKES_KEY" }, ...tools }));
  await http.forget();
  expect(await backend.access("https://a.example/x")).toContain("Page");
});

test.each([
  [{ transport: "stdio" as const, command: "/nowhere/mcp" }, "WS_IO", /MCP server \/nowhere\/mcp: /],
  [
    {
      transport: "stdio" as const,
      command: process.execPath,
      args: ["-e", "console.error('no licence'); process.exit(1)"],
    },
    "WS_IO",
    /no licence/,
  ],
  [
    { transport: "stdio" as const, command: "x", env: ["MISSING_KEY"] },
    "WS_INVALID_ARGUMENT",
    /environment variable MISSING_KEY is not set/,
  ],
  [{ transport: "http" as const, url: "http://127.0.0.1:1/mcp" }, "WS_IO", /MCP server 127\.0\.0\.1:1/],
])("no server: %#", async (server, code, message) => {
  const error = await failure(open({ server, ...tools }));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
});

test("a wrong token is an error at the start", async () => {
  const server = { transport: "http" as const, url: http.url };
  expect((await failure(open({ server, ...tools }))).code).toBe("WS_IO");
});

describe("results", () => {
  const settings = { tool: "t", hits: null, urlField: "url", titleField: "title", contentsField: "content" };
  const text = (value: unknown) => ({
    content: [{ type: "text" as const, text: typeof value === "string" ? value : JSON.stringify(value) }],
  });
  const one = { url: "https://a.example/", title: "T", content: "C" };
  const hits = [{ url: "https://a.example/", title: "T", contents: "C" }];

  test("a list is found by itself, in the text or in structured content", () => {
    expect(readHits(text([one]), settings)).toEqual(hits);
    expect(readHits(text({ total: 1, items: [one] }), settings)).toEqual(hits);
    expect(readHits({ content: [], structuredContent: { results: [one] } }, settings)).toEqual(hits);
    expect(readHits(text([{ ...one, content: { a: 1 }, title: null }]), settings)).toEqual([
      { url: one.url, title: "", contents: '{"a":1}' },
    ]);
  });

  test("prose is one hit, nothing is none", () => {
    expect(readHits(text("Three lakes."), settings)).toEqual([{ url: "mcp:t", title: "", contents: "Three lakes." }]);
    expect(readHits(text(""), settings)).toEqual([]);
  });

  test("what does not fit says what is there", () => {
    expect(() => readHits(text([{ link: "x" }]), settings)).toThrow(/a hit without text in "url"; it has link/);
    expect(() => readHits(text({ a: 1 }), settings)).toThrow(/no list of hits/);
    expect(() => readHits(text({ a: 1 }), { ...settings, hits: "data.0" })).toThrow(/no list at data\.0/);
    expect(() => readPage(text({ a: 1 }), { tool: "t", text: "page.text" })).toThrow(/no text at page\.text/);
    expect(readPage(text({ pages: [{ text: "A." }] }), { tool: "t", text: "pages.0.text" })).toBe("A.");
  });

  test("pictures are left out, texts of resources are not", () => {
    const content = [
      { type: "image" as const, data: "aGk=", mimeType: "image/png" },
      { type: "resource" as const, resource: { uri: "file:///a", text: "Resource." } },
      { type: "text" as const, text: "Text." },
    ];
    expect(readPage({ content }, { tool: "t", text: null })).toBe("Resource.\n\nText.");
  });
});
