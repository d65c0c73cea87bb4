// An OpenAI-compatible server on loopback that says what a script says and fails as a script says. For tests and for
// workflows that are shown without a model.
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface ServerRequest {
  path: "/v1/chat/completions" | "/v1/completions";
  headers: IncomingHttpHeaders;
  /** The JSON body as it came. */
  body: Record<string, unknown>;
  messages: readonly { role: string; content: string; [key: string]: unknown }[];
  /** Of a completion. */
  prompt: string;
  /** From 0. */
  index: number;
}

export interface ServerReply {
  /** The whole text that the model would write; the server cuts it at the first stop text, as real ones do. */
  text?: string;
  /** Sent as `reasoning_content`. */
  reasoning?: string;
  toolCalls?: readonly { name: string; arguments: unknown }[];
  finishReason?: "stop" | "length" | "tool_calls";
  promptTokens?: number;
  completionTokens?: number;
}

export type ServerFault =
  /** 200 with a body that is not JSON, or not a reply. */
  | { fault: "garbage"; body?: string }
  /** No answer until the client or the server goes away. */
  | { fault: "hang" }
  /** The connection ends in the middle of the body, or before any byte. */
  | { fault: "cut"; beforeHeaders?: boolean }
  | { fault: "status"; status: number; body?: string; headers?: Readonly<Record<string, string>> };

export type ServerScript = (
  request: ServerRequest,
) => ServerReply | string | ServerFault | Promise<ServerReply | string | ServerFault>;

export interface ScriptedServerOptions {
  /** A list answers one request after the other and then says 500; a function sees each request. */
  script: ServerScript | readonly (ServerReply | string | ServerFault)[];
  /** How the server names the stop text that it cut off: as vLLM, as SGLang, or (default) not at all. */
  reportsStop?: "vllm" | "sglang" | "no";
  /** Default: any that is free. */
  port?: number;
  /** How many requests are kept in `requests`; default all. */
  maxKept?: number;
}

export class ScriptedServer implements AsyncDisposable {
  /** For `baseUrl`: http://127.0.0.1:PORT/v1 */
  readonly baseUrl: string;
  readonly requests: ServerRequest[] = [];
  numRequests = 0;
  /** Most requests that were in work at once. */
  maxInFlight = 0;
  #numInFlight = 0;
  readonly #server: Server;
  readonly #options: ScriptedServerOptions;

  private constructor(server: Server, options: ScriptedServerOptions) {
    this.#server = server;
    this.#options = options;
    this.baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  }

  static async start(options: ScriptedServerOptions | ScriptedServerOptions["script"]): Promise<ScriptedServer> {
    const whole = typeof options === "object" && "script" in options ? options : { script: options };
    let scripted: ScriptedServer | undefined;
    const server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const text = Buffer.concat(chunks).toString("utf8");
      await scripted?.answer(request.url ?? "", request.headers, text, response).catch(() => response.destroy());
    });
    server.listen(whole.port ?? 0, "127.0.0.1");
    await once(server, "listening");
    scripted = new ScriptedServer(server, whole);
    return scripted;
  }

  /** @internal */
  async answer(url: string, headers: IncomingHttpHeaders, text: string, response: ServerResponse): Promise<void> {
    if (url !== "/v1/chat/completions" && url !== "/v1/completions") {
      send(response, 404, { error: { message: `no such path: ${url}` } });
      return;
    }
    const body = JSON.parse(text) as Record<string, unknown>;
    const request: ServerRequest = {
      path: url,
      headers,
      body,
      messages: (body.messages as ServerRequest["messages"]) ?? [],
      prompt: typeof body.prompt === "string" ? body.prompt : "",
      index: this.numRequests,
    };
    this.numRequests += 1;
    if (this.requests.length < (this.#options.maxKept ?? Number.POSITIVE_INFINITY)) this.requests.push(request);
    this.#numInFlight += 1;
    this.maxInFlight = Math.max(this.maxInFlight, this.#numInFlight);
    response.once("close", () => {
      this.#numInFlight -= 1;
    });
    const { script } = this.#options;
    const said =
      typeof script === "function"
        ? await script(request)
        : (script[request.index] ?? { fault: "status" as const, status: 500, body: "the script has ended" });
    if (typeof said === "object" && "fault" in said) fail(response, said);
    else send(response, 200, this.#reply(request, typeof said === "string" ? { text: said } : said));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  #reply(request: ServerRequest, said: ServerReply): object {
    const { text, stop } = cutAtStop(said.text ?? "", request.body.stop);
    const choice = {
      index: 0,
      finish_reason: said.finishReason ?? (said.toolCalls ? "tool_calls" : "stop"),
      ...(this.#options.reportsStop === "vllm" && { stop_reason: stop ?? null }),
      ...(this.#options.reportsStop === "sglang" && { matched_stop: stop ?? 151645 }),
    };
    const message = {
      role: "assistant",
      content: text,
      ...(said.reasoning !== undefined && { reasoning_content: said.reasoning }),
      ...(said.toolCalls && {
        tool_calls: said.toolCalls.map((call, index) => ({
          id: `call_${request.index}_${index}`,
          type: "function",
          function: {
            name: call.name,
            arguments: typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments),
          },
        })),
      }),
    };
    const isChat = request.path === "/v1/chat/completions";
    return {
      id: `reply-${request.index}`,
      object: isChat ? "chat.completion" : "text_completion",
      model: request.body.model,
      choices: [isChat ? { ...choice, message } : { ...choice, text }],
      usage: {
        prompt_tokens: said.promptTokens ?? Math.ceil(JSON.stringify(request.body).length / 4),
        completion_tokens: said.completionTokens ?? Math.ceil(text.length / 4),
      },
    };
  }
}

function cutAtStop(text: string, stop: unknown): { text: string; stop?: string } {
  let first: { at: number; stop: string } | undefined;
  for (const each of Array.isArray(stop) ? (stop as string[]) : []) {
    const at = text.indexOf(each);
    if (at >= 0 && (first === undefined || at < first.at)) first = { at, stop: each };
  }
  return first === undefined ? { text } : { text: text.slice(0, first.at), stop: first.stop };
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function fail(response: ServerResponse, fault: ServerFault): void {
  if (fault.fault === "hang") return;
  if (fault.fault === "garbage") {
    response.writeHead(200, { "content-type": "application/json" }).end(fault.body ?? "<html>upstream error</html>");
  } else if (fault.fault === "cut") {
    if (fault.beforeHeaders) response.destroy();
    else {
      response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
      response.write('{"choices": [{"mess', () => response.destroy());
    }
  } else {
    const body = fault.body ?? JSON.stringify({ error: { message: "scripted failure" } });
    response.writeHead(fault.status, { "content-type": "application/json", ...fault.headers }).end(body);
  }
}
