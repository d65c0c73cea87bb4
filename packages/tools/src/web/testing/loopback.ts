// A server on loopback that answers as told, and a client whose waits take no time. Owns nothing but its port.
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { ClientTiming } from "@wideseek/spec";
import { Agent } from "undici";
import { WebClient, type WebClientOptions } from "../web-client.ts";

export type Answer = (response: ServerResponse, request: IncomingMessage) => void;

export interface Received {
  method: string;
  url: string;
  headers: IncomingMessage["headers"];
  body: string;
}

/** Gives the n-th request the n-th answer; requests beyond get the last one. */
export class Loopback implements AsyncDisposable {
  readonly received: Received[] = [];
  readonly #server: Server;
  #answers: readonly Answer[];

  private constructor(answers: readonly Answer[]) {
    this.#answers = answers;
    this.#server = createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      const { method = "", url = "", headers } = request;
      const answer = this.#answers[Math.min(this.received.length, this.#answers.length - 1)];
      this.received.push({ method, url, headers, body });
      answer?.(response, request);
    });
  }

  static async start(...answers: Answer[]): Promise<Loopback> {
    const loopback = new Loopback(answers);
    loopback.#server.listen(0, "127.0.0.1");
    await once(loopback.#server, "listening");
    return loopback;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get baseUrl(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  answer(...answers: Answer[]): void {
    this.#answers = answers;
    this.received.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

export const send =
  (body: string | Buffer, headers: Record<string, string> = {}, status = 200): Answer =>
  (response) =>
    response.writeHead(status, headers).end(body);
export const json = (value: unknown): Answer => send(JSON.stringify(value), { "content-type": "application/json" });
export const html = (body: string): Answer => send(body, { "content-type": "text/html; charset=utf-8" });
export const status = (code: number, headers: Record<string, string> = {}, body = ""): Answer =>
  send(body, headers, code);
export const hang: Answer = () => {};

/** A clock that moves only by sleeping. */
export class TestTiming implements ClientTiming {
  time = 0;
  readonly delays: number[] = [];

  now(): number {
    return this.time;
  }

  async sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.delays.push(milliseconds);
    this.time += milliseconds;
  }

  random(): number {
    return 0.5;
  }
}

export const testLimits: WebClientOptions = {
  maxConcurrent: 10,
  maxConcurrentPerHost: 10,
  requestsPerSecondPerHost: 1000,
  breakerFailures: 100,
  breakerSeconds: 10,
  maxAttempts: 3,
  attemptSeconds: 5,
  deadlineSeconds: 20,
  maxBytes: 2 ** 20,
};

export function testClient(
  changes: Partial<WebClientOptions> = {},
  timing: ClientTiming = new TestTiming(),
): WebClient {
  return new WebClient(new Agent(), { ...testLimits, ...changes }, timing);
}
