// Serper, SearXNG and Jina as their documentation has them, on loopback: what is asked, what is read, what is refused.
import { WideSeekError } from "@wideseek/spec";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JinaReader } from "./jina.ts";
import { Searxng } from "./searxng.ts";
import { Serper } from "./serper.ts";
import { json, Loopback, send, status, testClient } from "./testing/loopback.ts";

const key = "key-0123456789";
let server: Loopback;
const opened: AsyncDisposable[] = [];
beforeEach(async () => {
  server = await Loopback.start(json({}));
});
afterEach(async () => {
  for (const each of opened.splice(0)) await each[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});
const keep = <T extends AsyncDisposable>(each: T): T => {
  opened.push(each);
  return each;
};
const serper = (country: string | null = null): Serper =>
  keep(
    new Serper(testClient(), { endpoint: `${server.baseUrl}/search`, country, language: null }, key, "SERPER_API_KEY"),
  );
const searxng = (): Searxng =>
  keep(
    new Searxng(testClient(), {
      baseUrl: `${server.baseUrl}/sx`,
      engines: "wikipedia",
      categories: null,
      language: null,
    }),
  );
const jina = (): JinaReader => keep(new JinaReader(testClient(), { endpoint: server.baseUrl }, key, "JINA_API_KEY"));
const read = (address: string): Promise<string | null> => jina().read(new URL(address), () => {});

async function failure(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(WideSeekError);
  expect(JSON.stringify([error, (error as Error).stack])).not.toContain(key);
  return (error as WideSeekError).message;
}

describe("serper", () => {
  test("asks as published, and reads title and snippet of the organic results", async () => {
    const organic = [
      { title: "Lake", link: "https://a.example/", snippet: "A lake.", position: 1 },
      { title: "B", link: "https://b.example/" },
      { title: "C", link: "https://c.example/", snippet: "c" },
    ];
    server.answer(json({ searchParameters: {}, organic, credits: 1 }));
    expect(await serper("de").search("蓝 lake", 2)).toEqual([
      { url: "https://a.example/", title: "Lake", contents: "Lake A lake." },
      { url: "https://b.example/", title: "B", contents: "B" },
    ]);
    const [request] = server.received;
    expect(request).toMatchObject({ method: "POST", url: "/search", headers: { "x-api-key": key } });
    expect(JSON.parse(request?.body ?? "")).toEqual({ q: "蓝 lake", num: 2, gl: "de" });
  });

  test("no results are no hits, and no failure", async () => {
    server.answer(json({ searchParameters: {} }));
    expect(await serper().search("x", 2)).toEqual([]);
  });

  test.each([
    [
      status(403, {}, `{"message":"Unauthorized. ${key}"}`),
      /HTTP status 403.*\[API key\].*is the key in SERPER_API_KEY right/,
    ],
    [status(400, {}, '{"message":"Not enough credits"}'), /HTTP status 400.*Not enough credits/],
    [send("<html>"), /not JSON/],
    [json({ organic: [{ title: 1 }] }), /organic\.0\.title/],
  ])("failure %#", async (answer, message) => {
    server.answer(answer);
    expect(await failure(serper().search("x", 2))).toMatch(message);
    expect(server.received).toHaveLength(1);
  });

  test("an outage that outlasts the attempts is a failure, not an empty list", async () => {
    server.answer(status(503));
    expect(await failure(serper().search("x", 2))).toMatch(/attempt 3 of 3/);
  });
});

describe("searxng", () => {
  const hit = (n: number): object => ({ url: `https://${n}.example/`, title: `T${n}`, content: `C${n}`, engine: "x" });

  test("asks page after page until there are enough", async () => {
    server.answer(json({ results: [hit(1), hit(2)] }), json({ results: [hit(2), hit(3)] }));
    const hits = await searxng().search("a&b", 3);
    expect(hits.map(({ url }) => url)).toEqual(["https://1.example/", "https://2.example/", "https://3.example/"]);
    expect(hits[0]).toEqual({ url: "https://1.example/", title: "T1", contents: "T1 C1" });
    expect(server.received.map(({ url }) => url)).toEqual([
      "/sx/search?q=a%26b&format=json&pageno=1&engines=wikipedia",
      "/sx/search?q=a%26b&format=json&pageno=2&engines=wikipedia",
    ]);
  });

  test("a page without anything new is the last one", async () => {
    server.answer(json({ results: [hit(1)] }));
    expect(await searxng().search("a", 5)).toHaveLength(1);
    expect(server.received).toHaveLength(2);
  });

  test("an instance without JSON says what to change", async () => {
    server.answer(status(403, {}, "Forbidden"));
    expect(await failure(searxng().search("a", 1))).toMatch(/settings\.yml must list json/);
  });
});

describe("jina", () => {
  test("asks for the address as it is, and returns the text", async () => {
    server.answer(send("Title: T\n\nMarkdown Content:\nA lake."));
    expect(await read("https://a.example/x?y=1&z=%E4")).toContain("A lake.");
    expect(server.received[0]).toMatchObject({
      url: "/https://a.example/x?y=1&z=%E4",
      headers: { authorization: `Bearer ${key}` },
    });
  });

  test.each([500, 503, 429])("status %i passes", async (code) => {
    server.answer(status(code), send("A lake."));
    expect(await read("https://a.example/")).toBe("A lake.");
  });

  test("what is wrong with the page is told, what is wrong with us too", async () => {
    server.answer(status(422));
    expect(await failure(read("https://a.example/"))).toMatch(
      /https:\/\/a\.example\/: it could not be read \(status 422\)/,
    );
    server.answer(status(402, {}, "balance"));
    expect(await failure(read("https://a.example/"))).toMatch(/jina: HTTP status 402.*JINA_API_KEY/);
    server.answer(
      send("Title: x\nURL Source: y\nWarning: Target URL returned error 503: Busy\n\nMarkdown Content:\nbusy"),
    );
    expect(await failure(read("https://a.example/"))).toMatch(/status 503/);
    server.answer(send("Title: x\nWarning: Target URL returned error 404: Not Found\n\nnothing"));
    expect(await read("https://a.example/")).toBeNull();
  });
});
