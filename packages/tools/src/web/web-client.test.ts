// The client of the web on loopback: what is tried again and when, what a host is spared, and that keys stay secret.
import { WideSeekError } from "@wideseek/spec";
import type { Dispatcher } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { hang, json, Loopback, send, status, TestTiming, testClient, testLimits } from "./testing/loopback.ts";
import { WebClient, type WebClientOptions } from "./web-client.ts";

let server: Loopback;
let timing: TestTiming;
const cleanups: WebClient[] = [];
beforeEach(async () => {
  server = await Loopback.start(json({}));
  timing = new TestTiming();
});
afterEach(async () => {
  for (const client of cleanups.splice(0)) await client.close();
  await server[Symbol.asyncDispose]();
});

const open = (changes: Partial<WebClientOptions> = {}): WebClient => {
  const client = testClient(changes, timing);
  cleanups.push(client);
  return client;
};
const url = (path = "/"): URL => new URL(path, server.baseUrl);
const failure = async (promise: Promise<unknown>): Promise<WideSeekError> => {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(WideSeekError);
  return error as WideSeekError;
};

describe("attempts", () => {
  test.each([408, 429, 500, 502, 503, 504, 522])("status %i is tried again", async (code) => {
    server.answer(status(code), send("ok"));
    expect((await open().fetch({ url: url() })).body.toString()).toBe("ok");
  });

  test("a dropped connection is tried again", async () => {
    server.answer((_, request) => request.socket.destroy(), send("ok"));
    expect((await open().fetch({ url: url() })).body.toString()).toBe("ok");
  });

  test.each([200, 301, 400, 401, 403, 404, 410, 451])("status %i is an answer", async (code) => {
    server.answer(status(code));
    expect((await open().fetch({ url: url() })).status).toBe(code);
    expect(server.received).toHaveLength(1);
  });

  test("waits grow, with jitter from nothing to all", async () => {
    server.answer(status(503));
    const error = await failure(open({ maxAttempts: 4 }).fetch({ url: url() }));
    expect(error.message).toMatch(/HTTP status 503 \(attempt 4 of 4\)/);
    expect(timing.delays.filter((delay) => delay > 1)).toEqual([500, 1000, 2000]);
  });

  test("Retry-After is respected, and given up when it is too long", async () => {
    server.answer(status(429, { "retry-after": "7" }), send("ok"));
    await open().fetch({ url: url() });
    expect(timing.time).toBeGreaterThanOrEqual(7000);
    server.answer(status(503, { "retry-after": "3600" }));
    const error = await failure(open().fetch({ url: url() }));
    expect(error.message).toMatch(/no time for attempt 2/);
    expect(server.received).toHaveLength(1);
  });

  test("one that was told to wait makes the others of that host wait", async () => {
    server.answer(status(429, { "retry-after": "5" }), send("ok"));
    const client = open();
    await client.fetch({ url: url() });
    const before = timing.time;
    await client.fetch({ url: url("/other") });
    expect(before).toBeGreaterThanOrEqual(5000);
  });

  test("the deadline holds over attempts", async () => {
    server.answer(hang);
    const error = await failure(open({ deadlineSeconds: 0.05, attemptSeconds: 10 }).fetch({ url: url() }));
    expect(error.code).toBe("WS_TIMEOUT");
  });

  test("an abort ends it with its reason, a close with WS_CLOSED", async () => {
    server.answer(hang);
    const controller = new AbortController();
    const client = open();
    const reason = new Error("enough");
    const aborted = client.fetch({ url: url() }, controller.signal);
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    const closed = failure(client.fetch({ url: url() }));
    await client.close();
    expect((await closed).code).toBe("WS_CLOSED");
    expect((await failure(client.fetch({ url: url() }))).code).toBe("WS_CLOSED");
  });
});

test("every request of many ends well among errors, hangs, dropped connections and garbage", async () => {
  let number = 0;
  server.answer((response, request) => {
    number += 1;
    if (number % 20 === 0) response.writeHead(500).end();
    else if (number % 33 === 0) request.socket.destroy();
    else if (number % 49 === 0) request.socket.end("what?\r\n\r\n");
    else if (number % 100 !== 0) response.end("ok");
  });
  const client = open({
    maxAttempts: 8,
    attemptSeconds: 1,
    deadlineSeconds: 3600,
    maxConcurrent: 50,
    maxConcurrentPerHost: 50,
  });
  // The test's clock counts the waits of all of them together, so their deadline is far away.
  const responses = await Promise.all(Array.from({ length: 400 }, () => client.fetch({ url: url() })));
  expect(responses.filter(({ body }) => body.toString() === "ok")).toHaveLength(400);
  expect(client.numRetries).toBeGreaterThan(20);
  expect(client.numFailures).toBe(0);
});

describe("what a host is spared", () => {
  test("requests at once and requests in a second are limited per host", async () => {
    let numOpen = 0;
    let most = 0;
    server.answer((response) => {
      numOpen += 1;
      most = Math.max(most, numOpen);
      setImmediate(() => {
        numOpen -= 1;
        response.end("ok");
      });
    });
    const client = open({ maxConcurrentPerHost: 3, requestsPerSecondPerHost: 10 });
    await Promise.all(Array.from({ length: 12 }, () => client.fetch({ url: url() })));
    expect(most).toBeLessThanOrEqual(3);
    // The first goes at once, eleven more need their tenth of a second.
    expect(timing.time).toBeGreaterThanOrEqual(1100);
  });

  test("a failing host is left alone, probed once, and used again", async () => {
    server.answer(status(500));
    const client = open({ maxAttempts: 1, breakerFailures: 3 });
    for (let n = 0; n < 3; n += 1) await failure(client.fetch({ url: url() }));
    expect((await failure(client.fetch({ url: url() }))).message).toMatch(/left alone/);
    expect(server.received).toHaveLength(3);
    timing.time += 10_001;
    server.answer(send("ok"));
    expect((await client.fetch({ url: url() })).status).toBe(200);
    expect((await client.fetch({ url: url() })).status).toBe(200);
  });

  test("another host is not affected", async () => {
    await using other = await Loopback.start(send("ok"));
    server.answer(status(500));
    const client = open({ maxAttempts: 1, breakerFailures: 1 });
    await failure(client.fetch({ url: url() }));
    expect((await client.fetch({ url: new URL(other.baseUrl) })).status).toBe(200);
  });

  test("requests to a service wait until it is probed", async () => {
    server.answer(status(500), send("ok"));
    const client = open({ maxAttempts: 1, breakerFailures: 1 });
    await failure(client.fetch({ url: url() }));
    expect((await client.fetch({ url: url(), waitsForHost: true })).status).toBe(200);
    expect(timing.time).toBeGreaterThanOrEqual(10_000);
  });

  test("a service that asks for patience is not a broken one", async () => {
    server.answer(status(429));
    const client = open({ maxAttempts: 3, breakerFailures: 2 });
    await failure(client.fetch({ url: url(), waitsForHost: true }));
    server.answer(send("ok"));
    expect((await client.fetch({ url: url() })).status).toBe(200);
  });
});

test.each([
  ["CERT_HAS_EXPIRED", /certificate is not valid/],
  ["DEPTH_ZERO_SELF_SIGNED_CERT", /certificate is not valid/],
  ["ENOTFOUND", /no such host/],
])("%s is not tried again", async (code, message) => {
  const dispatcher = {
    request: () => Promise.reject(Object.assign(new Error("x"), { code })),
    destroy: async () => {},
  } as unknown as Dispatcher;
  const client = new WebClient(dispatcher, testLimits, timing);
  expect((await failure(client.fetch({ url: url() }))).message).toMatch(message);
  expect(client.numRequests).toBe(1);
});

test("a key that a server repeats is in no message", async () => {
  const secret = "sk-0123456789abcdef";
  server.answer(status(500, {}, `bad key ${secret}`));
  const error = await failure(open().fetch({ url: url(), secret, headers: { "x-api-key": secret } }));
  expect(error.message).toMatch(/bad key \[API key\]/);
  expect(JSON.stringify([error, error.details, String(error.cause), error.stack])).not.toContain(secret);
});
