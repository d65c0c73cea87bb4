// Pages fetched by ourselves. Owns redirects, content types and character sets; connections are checked by the agent,
// text is made in a worker.
import { WideSeekError } from "@wideseek/spec";
import type { PageReader } from "./engine.ts";
import type { PageExtractor } from "./page-extractor.ts";
import type { WebClient, WebHead } from "./web-client.ts";
import { parseWebUrl, type WebUrlRule } from "./web-url.ts";

const maxRedirects = 5;
const redirects: readonly number[] = [301, 302, 303, 307, 308];
const htmlTypes: readonly string[] = ["text/html", "application/xhtml+xml"];
const textType = /^(text\/|application\/(json|xml|[\w.+-]+\+(json|xml)|x-ndjson|csv|yaml|x-yaml)$)/;

export interface DirectReaderOptions {
  client: WebClient;
  extractor: PageExtractor;
  userAgent: string;
  /** For tests; the rule of the web otherwise. */
  rule?: WebUrlRule | undefined;
}

export class DirectReader implements PageReader {
  // The number rises when pages come out differently: older texts in a cache are then not taken for new ones.
  readonly identity: string = "direct 1";
  readonly #options: DirectReaderOptions;

  constructor(options: DirectReaderOptions) {
    this.#options = options;
  }

  async read(start: URL, checkAddress: (url: URL) => void, signal?: AbortSignal): Promise<string | null> {
    const { client, rule, userAgent } = this.#options;
    let url = start;
    for (let hop = 0; ; hop += 1) {
      checkAddress(url);
      let type = "";
      const headers = {
        "user-agent": userAgent,
        accept: "text/html,application/xhtml+xml,text/plain;q=0.9,text/*;q=0.8,application/json;q=0.8,*/*;q=0.1",
        "accept-language": "en,zh;q=0.8,*;q=0.5",
      };
      const check = (head: WebHead): void => {
        if (head.status < 300) type = readableType(url, head);
      };
      const response = await client.fetch({ url, headers, check }, signal);
      if (redirects.includes(response.status)) {
        if (hop === maxRedirects) throw unreadable(url, `more than ${maxRedirects} redirects`);
        url = redirectTarget(url, String(response.headers.location ?? ""), rule);
        continue;
      }
      if (response.status === 404 || response.status === 410) return null;
      if (response.status >= 300) throw unreadable(url, `its server answers with status ${response.status}`);
      const text = decode(response.body, String(response.headers["content-type"] ?? ""));
      const isHtml = htmlTypes.includes(type) || (type === "" && /^\s*(<!doctype html|<html|<head|<body)/i.test(text));
      return isHtml ? await this.#options.extractor.extract(text, url.href, signal) : text;
    }
  }

  metrics(): Readonly<Record<string, number>> {
    const { numRequests, numRetries, numFailures } = this.#options.client;
    return { access_requests: numRequests, access_retries: numRetries, access_failures: numFailures };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#options.client.close(), this.#options.extractor.close()]);
  }
}

/** The media type of what can be read; empty when the server does not say. */
function readableType(url: URL, { headers }: WebHead): string {
  const type = String(headers["content-type"] ?? "")
    .split(";", 1)[0]
    ?.trim()
    .toLowerCase();
  if (type === undefined || type === "" || htmlTypes.includes(type) || textType.test(type)) return type ?? "";
  const kind = type === "application/pdf" ? "a PDF file" : `of type ${type.slice(0, 100)}`;
  throw unreadable(
    url,
    `it is ${kind}; only web pages and plain text can be read, so look for the same facts elsewhere`,
  );
}

function redirectTarget(from: URL, location: string, rule: WebUrlRule | undefined): URL {
  if (location === "") throw unreadable(from, "a redirect without an address");
  let target: string;
  try {
    target = new URL(location, from).href;
  } catch {
    throw unreadable(from, "a redirect to something that is no address");
  }
  return parseWebUrl(target, rule);
}

/** In the character set that the server or, near its beginning, the page names; else UTF-8. */
function decode(body: Buffer, contentType: string): string {
  const head = body.subarray(0, 2048).toString("latin1");
  const named =
    /charset\s*=\s*["']?([\w:.-]+)/i.exec(contentType)?.[1] ??
    /<meta[^>]+charset\s*=\s*["']?([\w:.-]+)/i.exec(head)?.[1];
  try {
    return new TextDecoder(named ?? "utf-8").decode(body);
  } catch {
    return new TextDecoder().decode(body);
  }
}

function unreadable(url: URL, why: string): WideSeekError {
  return new WideSeekError("WS_IO", `${url.href}: ${why}`, { op: "access", details: { url: url.href } });
}
