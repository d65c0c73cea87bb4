// The client of the retrieval server against a real local one: the interface, and every way a server can fail.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { WideSeekError } from "@wideseek/spec";
import { afterEach, describe, expect, test } from "vitest";
import { HttpSearchBackend, type HttpSearchOptions, type RetryTiming } from "./http-backend.ts";
import { searchTools } from "./toolset.ts";

interface Received {
  path: string;
  body: unknown;
}
type Answer = (response: ServerResponse, request: IncomingMessage) => void;

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Gives the n-th request the n-th answer; requests beyond get the last one. */
async function serve(...answers: Answer[]): Promise<{ baseUrl: string; received: Received[]; numConnections: number }> {
  const state = { baseUrl: "", received: [] as Received[], numConnections: 0 };
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const answer = answers[Math.min(state.received.length, answers.length - 1)];
    state.received.push({ path: `${request.method} ${request.url}`, body: JSON.parse(text) });
    answer?.(response, request);
  });
  server.on("connection", () => {
    state.numConnections += 1;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanups.push(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  state.baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return state;
}

/** A backend whose waits between attempts take no time and are written down. */
function connect(
  options: HttpSearchOptions,
  timing: Partial<RetryTiming> = {},
): { backend: HttpSearchBackend; delays: number[] } {
  const delays: number[] = [];
  const sleep = async (milliseconds: number): Promise<void> => {
    delays.push(milliseconds);
  };
  const backend = new HttpSearchBackend(options, { sleep, random: () => 0.5, ...timing });
  cleanups.push(() => backend.close());
  return { backend, delays };
}

const json =
  (value: unknown): Answer =>
  (response) =>
    response.end(JSON.stringify(value));
const status =
  (code: number): Answer =>
  (response) =>
    response.writeHead(code).end("busy");
const hang: Answer = () => {};
const page = { url: "https://a.example/", title: "A", contents: "Page A." };
const onePage = json({ result: [[page]] });

async function rejection(promise: Promise<unknown>): Promise<WideSeekError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(WideSeekError);
  return error as WideSeekError;
}

describe("the interface of the published server", () => {
  test("search posts one query and returns its documents", async () => {
    const untitled = { id: 7, url: "https://b.example/", contents: "Page B." };
    const server = await serve(json({ result: [[page, untitled]] }));
    const { backend } = connect({ baseUrl: server.baseUrl });
    expect(await backend.search("蓝 river", 5)).toEqual([
      page,
      { url: untitled.url, title: "", contents: untitled.contents },
    ]);
    expect(server.received).toEqual([
      { path: "POST /retrieve", body: { queries: ["蓝 river"], topk: 5, return_scores: false } },
    ]);
  });

  test("a server that returns more than was asked for is cut to the count", async () => {
    const server = await serve(json({ result: [[page, page, page]] }));
    expect(await connect({ baseUrl: server.baseUrl }).backend.search("a", 2)).toHaveLength(2);
  });

  test("access posts one URL and returns its text, or null for an unknown page", async () => {
    const server = await serve(json({ result: [page] }), json({ result: [null] }));
    const { backend } = connect({ baseUrl: server.baseUrl });
    expect(await backend.access(page.url)).toBe("Page A.");
    expect(await backend.access("https://unknown.example/")).toBeNull();
    expect(server.received[0]).toEqual({ path: "POST /access", body: { urls: [page.url] } });
  });

  test.each(["/wiki", "/wiki/"])("a path in the base URL is kept: %s", async (prefix) => {
    const server = await serve(onePage);
    await connect({ baseUrl: server.baseUrl + prefix }).backend.search("a", 1);
    expect(server.received[0]?.path).toBe("POST /wiki/retrieve");
  });

  test("lookups share connections and pass no more than maxConnections", async () => {
    const server = await serve(onePage);
    const { backend } = connect({ baseUrl: server.baseUrl, maxConnections: 2 });
    await Promise.all(Array.from({ length: 20 }, () => backend.search("a", 1)));
    expect(server.received).toHaveLength(20);
    expect(server.numConnections).toBe(2);
  });

  test("open resolves when the server answers and rejects when it does not", async () => {
    const server = await serve(json({ result: [null] }), onePage, status(404));
    await using backend = await HttpSearchBackend.open({ baseUrl: server.baseUrl });
    expect(await backend.search("a", 1)).toEqual([page]);
    expect((await rejection(HttpSearchBackend.open({ baseUrl: server.baseUrl }))).code).toBe("WS_IO");
  });

  test("agents read what went wrong instead of seeing an exception", async () => {
    const server = await serve(status(404));
    const tools = searchTools({ backend: connect({ baseUrl: server.baseUrl }).backend });
    const call = { name: "search", arguments: { query: "a" } };
    const result = await tools.run(call, { role: "single", language: "en" });
    expect(result).toMatchObject({ ok: false, malformed: false, text: expect.stringContaining("HTTP status 404") });
  });
});

describe("failures that pass are tried again", () => {
  const truncated: Answer = (response) => {
    response.writeHead(200, { "content-length": "1000" });
    response.write('{"result":', () => response.socket?.destroy());
  };
  const dropped: Answer = (_, request) => request.socket.destroy();
  const notHttp: Answer = (_, request) => request.socket.end("what?\r\n\r\n");

  test.each([
    ["status 500", status(500)],
    ["status 503", status(503)],
    ["status 429", status(429)],
    ["a truncated body", truncated],
    ["a dropped connection", dropped],
    ["an answer that is not HTTP", notHttp],
  ])("%s, then success", async (_, failure) => {
    const server = await serve(failure, failure, onePage);
    const { backend, delays } = connect({ baseUrl: server.baseUrl });
    expect(await backend.search("a", 1)).toEqual([page]);
    expect(server.received).toHaveLength(3);
    expect(delays).toHaveLength(2);
  });

  test("waits double up to a limit, with jitter, and attempts are bounded", async () => {
    const server = await serve(status(500));
    const bounds = async (random: number): Promise<number[]> => {
      const { backend, delays } = connect({ baseUrl: server.baseUrl, maxAttempts: 7 }, { random: () => random });
      const error = await rejection(backend.search("a", 1));
      expect(error.code).toBe("WS_IO");
      expect(error.message).toBe(`${server.baseUrl}/retrieve: HTTP status 500 (attempt 7 of 7)`);
      return delays;
    };
    expect(await bounds(0)).toEqual([250, 500, 1000, 2000, 4000, 4000]);
    expect(await bounds(1)).toEqual([500, 1000, 2000, 4000, 8000, 8000]);
    expect(server.received).toHaveLength(14);
  });

  test("a refused connection is WS_IO after the last attempt", async () => {
    // Nothing listens there, and no other test can be given the port.
    const { backend, delays } = connect({ baseUrl: "http://127.0.0.1:1", maxAttempts: 3 });
    const error = await rejection(backend.access(page.url));
    expect(error.code).toBe("WS_IO");
    expect(error.message).toMatch(/^http:\/\/127\.0\.0\.1:1\/access: .+ \(attempt 3 of 3\)$/);
    expect(delays).toHaveLength(2);
  });
});

describe("failures that stay are not tried again", () => {
  test.each([400, 401, 404, 422, 301, 204])("status %i", async (code) => {
    const server = await serve(status(code));
    const error = await rejection(connect({ baseUrl: server.baseUrl }).backend.search("a", 1));
    expect(error.code).toBe("WS_IO");
    expect(error.message).toContain(`HTTP status ${code} (attempt 1 of 5)`);
    expect(server.received).toHaveLength(1);
  });

  test.each([
    ["not JSON", (response: ServerResponse) => response.end("<html>"), "not JSON"],
    ["an empty body", (response: ServerResponse) => response.end(), "not JSON"],
    ["no result", json({ detail: "x" }), "result"],
    ["no list for the query", json({ result: [] }), "result"],
    ["a list too many", json({ result: [[page], [page]] }), "result"],
    ["scored documents", json({ result: [[{ document: page, score: 1 }]] }), "result.0.0.url"],
    ["null", json(null), "expected object"],
  ])("a response that breaks the interface: %s", async (_, answer, expected) => {
    const server = await serve(answer);
    const error = await rejection(connect({ baseUrl: server.baseUrl }).backend.search("a", 1));
    expect(error.code).toBe("WS_IO");
    expect(error.message).toContain(expected);
    expect(server.received).toHaveLength(1);
  });

  test.each([
    ["announced", { "content-length": "100000" }],
    ["streamed", {}],
  ])("a huge body, %s, is given up at the limit", async (_, headers) => {
    let closed: Promise<unknown> | undefined;
    const server = await serve((response) => {
      closed = once(response, "close");
      response.writeHead(200, headers);
      // Never ends: only the limit can settle the lookup.
      response.write("x".repeat(2000));
    });
    const { backend } = connect({ baseUrl: server.baseUrl, maxResponseBytes: 1000 });
    const error = await rejection(backend.search("a", 1));
    expect(error.code).toBe("WS_IO");
    expect(error.message).toContain("maxResponseBytes, 1000");
    expect(server.received).toHaveLength(1);
    await closed;
  });

  test("a body of exactly the limit is read", async () => {
    const server = await serve(onePage);
    const maxResponseBytes = JSON.stringify({ result: [[page]] }).length;
    expect(await connect({ baseUrl: server.baseUrl, maxResponseBytes }).backend.search("a", 1)).toEqual([page]);
  });
});

describe("lookups that are stopped", () => {
  const slowBody: Answer = (response) => {
    response.writeHead(200);
    response.write("{");
  };

  test.each([
    ["a server that never answers", hang],
    ["a body that never ends", slowBody],
  ])("%s is WS_TIMEOUT and not tried again", async (_, answer) => {
    const server = await serve(answer);
    const { backend, delays } = connect({ baseUrl: server.baseUrl, timeoutSeconds: 0.02 });
    const error = await rejection(backend.search("a", 1));
    expect(error.code).toBe("WS_TIMEOUT");
    expect(error.message).toContain("timeoutSeconds");
    expect(delays).toEqual([]);
  });

  test("the deadline covers the waits between attempts", async () => {
    const server = await serve(status(500));
    const untilStopped = (_: number, signal: AbortSignal): Promise<void> =>
      new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("woken"))));
    const { backend } = connect({ baseUrl: server.baseUrl, timeoutSeconds: 0.02 }, { sleep: untilStopped });
    expect((await rejection(backend.search("a", 1))).code).toBe("WS_TIMEOUT");
  });

  test("an abort while the server works rejects with the caller's reason and drops the request", async () => {
    const controller = new AbortController();
    const reason = new Error("the episode ended");
    let dropped: Promise<unknown> | undefined;
    const server = await serve((response) => {
      dropped = once(response, "close");
      controller.abort(reason);
    });
    const { backend, delays } = connect({ baseUrl: server.baseUrl });
    await expect(backend.search("a", 1, controller.signal)).rejects.toBe(reason);
    await dropped;
    expect(delays).toEqual([]);
  });

  test("an abort between attempts ends them", async () => {
    const controller = new AbortController();
    const reason = new Error("the episode ended");
    const server = await serve(status(500));
    const sleep = async (_: number, signal: AbortSignal): Promise<void> => {
      controller.abort(reason);
      signal.throwIfAborted();
    };
    const { backend } = connect({ baseUrl: server.baseUrl }, { sleep });
    await expect(backend.search("a", 1, controller.signal)).rejects.toBe(reason);
    expect(server.received).toHaveLength(1);
  });

  test("an aborted signal sends nothing", async () => {
    const server = await serve(onePage);
    const reason = new Error("too late");
    const { backend } = connect({ baseUrl: server.baseUrl });
    await expect(backend.search("a", 1, AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(server.received).toEqual([]);
  });

  test("close rejects the lookups in flight and later ones with WS_CLOSED, twice without harm", async () => {
    const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
    const server = await serve(() => arrive());
    const { backend } = connect({ baseUrl: server.baseUrl });
    const inFlight = rejection(backend.search("a", 1));
    await arrived;
    await Promise.all([backend.close(), backend.close()]);
    await backend[Symbol.asyncDispose]();
    expect((await inFlight).code).toBe("WS_CLOSED");
    expect((await rejection(backend.access(page.url))).code).toBe("WS_CLOSED");
    expect(server.received).toHaveLength(1);
  });
});

describe("a caller's mistake is WS_INVALID_ARGUMENT that names the option", () => {
  test.each([
    ["no scheme", { baseUrl: "127.0.0.1:8000" }, "baseUrl"],
    ["a host taken for a scheme", { baseUrl: "localhost:8000" }, "baseUrl"],
    ["another scheme", { baseUrl: "ftp://a.example/" }, "baseUrl"],
    ["empty", { baseUrl: "" }, "baseUrl"],
    ["a query", { baseUrl: "http://a.example/?x=1" }, "baseUrl"],
    ["no time", { baseUrl: "http://a.example/", timeoutSeconds: 0 }, "timeoutSeconds"],
    ["no attempt", { baseUrl: "http://a.example/", maxAttempts: 0 }, "maxAttempts"],
    ["no connection", { baseUrl: "http://a.example/", maxConnections: 0 }, "maxConnections"],
    ["an unknown option", { baseUrl: "http://a.example/", retries: 3 } as HttpSearchOptions, "retries"],
  ])("%s", async (_, options, key) => {
    const error = await rejection((async () => new HttpSearchBackend(options))());
    expect(error.code).toBe("WS_INVALID_ARGUMENT");
    expect(error.message).toContain(key);
  });

  test("a password in the URL is refused and not repeated", async () => {
    const error = await rejection((async () => new HttpSearchBackend({ baseUrl: "http://u:secret@a.example/" }))());
    expect(error.code).toBe("WS_INVALID_ARGUMENT");
    expect(error.message).not.toContain("secret");
  });
});
