// Pages fetched by ourselves, on loopback: what is never fetched, what is never read, and what is made of the rest. The
// loopback server itself is let through by an injected rule; no option can do that.
import { randomBytes } from "node:crypto";
import type { LookupAddress } from "node:dns";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { WideSeekError } from "@wideseek/spec";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { DirectReader } from "./direct-reader.ts";
import { guardedAgent } from "./guarded-agent.ts";
import { PageExtractor } from "./page-extractor.ts";
import { isPublicAddress } from "./public-address.ts";
import { type Answer, hang, html, Loopback, send, status, TestTiming, testLimits } from "./testing/loopback.ts";
import { WebClient } from "./web-client.ts";
import { parseWebUrl } from "./web-url.ts";

let server: Loopback;
let extractor: PageExtractor;
const cleanups: AsyncDisposable[] = [];
beforeAll(async () => {
  server = await Loopback.start(html("<p>hello</p>"));
  extractor = new PageExtractor({ threads: 1 });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await extractor.close();
});
afterEach(async () => {
  // No test sees the requests of another.
  server.answer(html("<p>hello</p>"));
  for (const each of cleanups.splice(0)) await each[Symbol.asyncDispose]();
});

type Resolve = (hostname: string) => Promise<LookupAddress[]>;
const addresses = (...list: string[]): LookupAddress[] =>
  list.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));

interface Setup {
  resolve?: Resolve;
  /** Whether the loopback server counts as public. */
  letsServerThrough?: boolean;
  maxBytes?: number;
  attemptSeconds?: number;
}

function open({
  resolve,
  letsServerThrough = false,
  ...limits
}: Setup = {}): (address: string) => Promise<string | null> {
  const allows = (address: string, port: number): boolean =>
    isPublicAddress(address) || (letsServerThrough && address === "127.0.0.1" && port === server.port);
  // Only the loopback server could answer, but a name must not go to a real resolver either.
  const names = async (hostname: string): Promise<LookupAddress[]> => {
    if (resolve !== undefined) return await resolve(hostname);
    throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), { code: "ENOTFOUND" });
  };
  const agent = guardedAgent({ maxConnectionsPerHost: 4, connectMs: 2000, resolve: names, allows });
  const client = new WebClient(agent, { ...testLimits, maxAttempts: 1, ...limits }, new TestTiming());
  const rule = { allowsPort: (port: string) => ["", "80", "443", `${server.port}`].includes(port) };
  const reader = new DirectReader({ client, extractor, userAgent: "test", rule });
  cleanups.push({ [Symbol.asyncDispose]: () => client.close() });
  return async (address) => await reader.read(parseWebUrl(address, rule), () => {});
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    (value) => value,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(WideSeekError);
  return (error as WideSeekError).message;
}

/** Everything that leads, or pretends to lead, to this machine or its neighbours. */
const forbidden = [
  ...["http://127.0.0.1/", "http://127.0.0.1./", "http://127.1/", "http://127.0.1/", "http://0/", "http://0.0.0.0/"],
  ...[
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
  ],
  ...[
    "http://0x7f.1/",
    "http://127.0.0.0x1/",
    "http://１２７.0.0.1/",
    "http://127。0。0。1/",
    "http://%31%32%37.0.0.1/",
  ],
  ...["http://①②⑦.⓪.⓪.①/", "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::127.0.0.1]/"],
  ...[
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:0:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
  ],
  ...[
    "http://[64:ff9b:1::a00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:5ef5:79fb::1]/",
  ],
  ...["http://[fc00::1]/", "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[fec0::1]/", "http://[ff02::1]/"],
  ...["http://[2001:db8::1]/", "http://[100::1]/", "http://10.0.0.1/", "http://10.1/", "http://167772161/"],
  ...["http://100.64.0.1/", "http://100.100.100.200/latest/meta-data/", "http://169.254.169.254/latest/meta-data/"],
  ...["http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/", "http://[::ffff:169.254.169.254]/"],
  ...[
    "http://168.63.129.16/metadata",
    "http://172.16.0.1/",
    "http://172.31.255.254/",
    "http://192.168.1.1/",
    "http://192.0.0.192/",
  ],
  ...["http://198.18.0.1/", "http://224.0.0.1/", "http://255.255.255.255/", "http://4294967295/", "http://240.0.0.1/"],
];

describe("what is not public is not fetched", () => {
  test.each(forbidden)("%s", async (address) => {
    server.answer(html("<p>SECRET</p>"));
    expect(await refusal(open()(address))).toMatch(/not a public web address/);
    expect(server.received).toEqual([]);
  });

  test.each([
    ["another scheme", "ftp://example.org/", /only http and https/],
    ["a file", "file:///etc/passwd", /only http and https/],
    ["data", "data:text/html,hi", /only http and https/],
    ["a script", "javascript:alert(1)", /only http and https/],
    ["gopher", "gopher://127.0.0.1:6379/_INFO", /only http and https/],
    ["a user", "http://example.org@127.0.0.1/", /user or password/],
    ["a user and password", "http://a:b@example.org/", /user or password/],
    ["the port of a mail server", "http://example.org:25/", /port 25/],
    ["the port of a database", "http://example.org:6379/", /port 6379/],
    ["no host", "http:///", /not a complete address/],
    ["no scheme", "example.org/page", /not a complete address/],
    ["too many numbers", "http://1.2.3.4.5/", /not a complete address/],
    ["a backslash before another host", "http://example.org\\@127.0.0.1/", /no such host|not a public/],
    ["an endless address", `http://example.org/${"a".repeat(5000)}`, /longer than 4096/],
  ])("%s", async (_, address, message) => {
    const resolve: Resolve = async () => addresses("10.0.0.7");
    const read = async (): Promise<unknown> => await open({ resolve })(address);
    expect(await refusal(read())).toMatch(message);
    expect(server.received).toEqual([]);
  });

  test.each([
    ["a name of this machine", ["127.0.0.1"]],
    ["a name of this machine in IPv6", ["::1"]],
    ["a name of a private address", ["10.0.0.7"]],
    ["a name of the metadata service", ["169.254.169.254"]],
    ["a mapped private address", ["::ffff:10.0.0.7"]],
    ["a private address behind a public one", ["93.184.216.34", "127.0.0.1"]],
    ["a private address before a public one", ["192.168.0.1", "93.184.216.34"]],
    ["a name without addresses", []],
  ])("%s", async (_, list) => {
    const read = open({ resolve: async () => addresses(...list) });
    const message = await refusal(read(`http://innocent.example:${server.port}/`));
    expect(message).toMatch(/not a public web address/);
    for (const address of list) expect(message).not.toContain(address);
    expect(server.received).toEqual([]);
  });

  test("a name is resolved once a connection, and what was checked is what is connected to", async () => {
    // An attacker's DNS server: allowed at the first look, another address of this machine ever after.
    const answers = ["127.0.0.1", "127.0.0.2"];
    let numLookups = 0;
    const resolve: Resolve = async () => addresses(answers[Math.min(numLookups++, 1)] as string);
    server.answer(send("<p>first</p>", { "content-type": "text/html", connection: "close" }), html("<p>SECRET</p>"));
    const read = open({ resolve, letsServerThrough: true });
    expect(await read(`http://rebind.example:${server.port}/`)).toBe("first");
    expect(numLookups).toBe(1);
    expect(await refusal(read(`http://rebind.example:${server.port}/`))).toMatch(/not a public web address/);
    expect(server.received).toHaveLength(1);
  });

  test("with the rule off the same requests do reach the server, so the tests above test something", async () => {
    server.answer(html("<p>SECRET</p>"));
    const resolve: Resolve = async () => addresses("127.0.0.1");
    const read = open({ resolve, letsServerThrough: true });
    expect(await read(`http://innocent.example:${server.port}/`)).toBe("SECRET");
    expect(await read(`http://127.0.0.1:${server.port}/`)).toBe("SECRET");
  });
});

describe("redirects", () => {
  const to = (location: string, code = 302): Answer => status(code, { location });
  const start = (): string => `http://127.0.0.1:${server.port}/start`;

  test("are followed, relative ones too", async () => {
    server.answer(to("/next", 301), to("end?x=1", 307), html("<p>There.</p>"));
    expect(await open({ letsServerThrough: true })(start())).toBe("There.");
    expect(server.received.map(({ url }) => url)).toEqual(["/start", "/next", "/end?x=1"]);
  });

  test.each([
    ...[
      "http://127.0.0.2/",
      "http://169.254.169.254/latest/meta-data/",
      "http://[::1]/",
      "http://0x7f.2/",
      "//10.0.0.1/",
    ],
    ...["http://localhost.private/", "http://[::ffff:10.0.0.1]/"],
  ])("to %s are not", async (location) => {
    server.answer(to(location), html("<p>SECRET</p>"));
    const resolve: Resolve = async () => addresses("10.0.0.9");
    expect(await refusal(open({ resolve, letsServerThrough: true })(start()))).toMatch(/not a public web address/);
    expect(server.received).toHaveLength(1);
  });

  test.each([
    ["file:///etc/passwd", /only http and https/],
    ["http://user@example.org/", /user or password/],
    ["http://example.org:22/", /port 22/],
    ["http://[", /no address/],
    ["", /without an address/],
  ])("to %j are an error", async (location, message) => {
    server.answer(to(location));
    expect(await refusal(open({ letsServerThrough: true })(start()))).toMatch(message);
  });

  test("end after five", async () => {
    server.answer(to("/again"));
    expect(await refusal(open({ letsServerThrough: true })(start()))).toMatch(/more than 5 redirects/);
    expect(server.received).toHaveLength(6);
  });
});

describe("sizes, times and types", () => {
  const read = async (changes: Setup = {}): Promise<string | null> =>
    await open({ letsServerThrough: true, ...changes })(`http://127.0.0.1:${server.port}/page`);
  const page = "<title>T</title><p>Rivers flow.</p>";
  const encoded = (encoding: string, body: Buffer): Answer =>
    send(body, { "content-type": "text/html", "content-encoding": encoding });

  test.each([
    ["gzip", gzipSync(page)],
    ["br", brotliCompressSync(page)],
    ["deflate", deflateSync(page)],
    ["zstd", zstdCompressSync(page)],
    ["gzip, gzip", gzipSync(gzipSync(page))],
    ["identity", Buffer.from(page)],
  ])("%s is decompressed", async (encoding, body) => {
    server.answer(encoded(encoding, body));
    expect(await read()).toBe("# T\n\nRivers flow.");
  });

  test.each([
    ["gzip", gzipSync(Buffer.alloc(100 * 2 ** 20))],
    ["br", brotliCompressSync(Buffer.alloc(64 * 2 ** 20), { params: {} })],
    ["gzip, gzip", gzipSync(gzipSync(Buffer.alloc(100 * 2 ** 20)))],
    ["zstd", zstdCompressSync(Buffer.alloc(100 * 2 ** 20))],
  ])("a bomb of %s goes off small", async (encoding, body) => {
    server.answer(encoded(encoding, body));
    const before = process.memoryUsage.rss();
    expect(await refusal(read({ maxBytes: 2 ** 20 }))).toMatch(/longer than 1048576 bytes/);
    expect(process.memoryUsage.rss() - before).toBeLessThan(90 * 2 ** 20);
  });

  test("a body without end is cut off", async () => {
    const chunk = randomBytes(65_536);
    server.answer((response) => {
      response.writeHead(200, { "content-type": "text/html" });
      const more = (): void => {
        if (!response.destroyed) response.write(chunk, more);
      };
      more();
    });
    expect(await refusal(read({ maxBytes: 2 ** 20 }))).toMatch(/longer than/);
  });

  test("a server that says nothing is given up", async () => {
    server.answer(hang);
    expect(await refusal(read({ attemptSeconds: 0.05 }))).toMatch(/no answer within 0.05 s/);
  });

  test("a server that trickles is given up too", async () => {
    server.answer((response) => {
      response.writeHead(200, { "content-type": "text/html" });
      response.write("<p>");
    });
    expect(await refusal(read({ attemptSeconds: 0.05 }))).toMatch(/no answer within 0.05 s/);
  });

  test.each([
    ["application/pdf", /a PDF file/],
    ["image/png", /of type image\/png/],
    ["application/octet-stream", /of type application\/octet-stream/],
    ["video/mp4; codecs=x", /of type video\/mp4/],
    ["application/zip", /of type application\/zip/],
  ])("%s is said and not read", async (type, message) => {
    server.answer(send("%PDF-1.7", { "content-type": type }));
    expect(await refusal(read())).toMatch(message);
  });

  test.each([
    ["text/plain", "a | b\n<b>x</b>"],
    ["application/json", '{"a":1}'],
    ["text/csv; charset=utf-8", "a,b\n1,2"],
  ])("%s is shown as it is", async (type, body) => {
    server.answer(send(body, { "content-type": type }));
    expect(await read()).toBe(body);
  });

  test.each([
    ["header", "text/html; charset=gb2312", "<p>\xba\xd3\xc1\xf7</p>"],
    ["page", "text/html", '<meta charset="gbk"><p>\xba\xd3\xc1\xf7</p>'],
  ])("the character set is that of the %s", async (_, type, body) => {
    server.answer(send(Buffer.from(body, "latin1"), { "content-type": type }));
    expect(await read()).toBe("河流");
  });

  test("unknown encodings and broken bodies are an error", async () => {
    server.answer(encoded("rot13", Buffer.from(page)));
    expect(await refusal(read())).toMatch(/unknown content encoding/);
    server.answer(encoded("gzip", Buffer.from("not gzip")));
    expect(await refusal(read())).toMatch(/incorrect header check/);
  });

  test("404 is no page; other refusals say their status", async () => {
    server.answer(status(404));
    expect(await read()).toBeNull();
    server.answer(status(403));
    expect(await refusal(read())).toMatch(/status 403/);
  });

  test("a page that no thread can finish is given up, and the next one is read", async () => {
    const slow = new PageExtractor({ threads: 1, timeoutSeconds: 0.05 });
    const endless = `<table>${"<tr><td>x</td><td>y</td></tr>".repeat(200_000)}</table>`;
    expect(await refusal(slow.extract(endless, "https://a.example/"))).toMatch(/could not be made out within/);
    await slow.close();
    expect(await extractor.extract("<p>next</p>", "https://a.example/")).toBe("next");
  });
});
