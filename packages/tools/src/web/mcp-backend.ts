// `search` and `access` by the tools of an MCP server. Owns the connection and the calls; how results read is in
// mcp-results.ts.
import {
  type CallToolResult,
  Client,
  ProtocolError,
  StreamableHTTPClientTransport,
  type Transport,
} from "@modelcontextprotocol/client";
import { getDefaultEnvironment, StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import {
  CircuitBreaker,
  type ClientTiming,
  errorMessage,
  realTiming,
  type SearchBackend,
  type SearchHit,
  Slots,
  WideSeekError,
} from "@wideseek/spec";
import { type Environment, readKey } from "./keys.ts";
import { readHits, readPage, resultText } from "./mcp-results.ts";
import type { McpOptions } from "./options.ts";

/** Of what a program wrote to its standard error; told when it ends too early. */
const keptStderr = 2000;
const noTimeoutMs = 2 ** 31 - 1;
const maxAttempts = 3;
const firstDelayMs = 500;
/** Failures in a row after which the server is left alone, and for how long. */
const breakerFailures = 8;
const breakerMs = 20_000;

export interface OpenMcpSettings {
  /** Deadline of one call in seconds. */
  timeoutSeconds: number;
  /** Where keys are looked up. */
  environment: Environment;
}

/** A server that went away is started or reached again by the next call. */
export class McpBackend implements SearchBackend {
  readonly #options: McpOptions;
  readonly #timeoutMs: number;
  readonly #timing: ClientTiming;
  readonly #breaker: CircuitBreaker;
  readonly #secrets: readonly string[];
  readonly #transport: () => Transport;
  readonly #slots: Slots;
  readonly #closing = new AbortController();
  readonly #counts = { mcp_calls: 0, mcp_failures: 0, mcp_connections: 0 };
  #client: Promise<Client> | undefined;
  #stderr = "";

  private constructor(options: McpOptions, { timeoutSeconds, environment }: OpenMcpSettings, timing: ClientTiming) {
    this.#options = options;
    this.#timeoutMs = timeoutSeconds * 1000;
    this.#timing = timing;
    this.#breaker = new CircuitBreaker({ failures: breakerFailures, openMs: breakerMs, now: () => timing.now() });
    this.#slots = new Slots(options.maxConcurrent);
    const { server } = options;
    if (server.transport === "stdio") {
      const env = Object.fromEntries(server.env.map((name) => [name, readKey("mcp.server.env", name, environment)]));
      this.#secrets = Object.values(env);
      this.#transport = () => {
        const { command, args } = server;
        const all = { ...getDefaultEnvironment(), ...env };
        const transport = new StdioClientTransport({ command, args, env: all, stderr: "pipe" });
        transport.stderr?.on("data", (chunk: Buffer) => {
          this.#stderr = (this.#stderr + chunk.toString("utf8")).slice(-keptStderr);
        });
        return transport;
      };
    } else {
      const { url, bearerEnv } = server;
      const key = bearerEnv === null ? undefined : readKey("mcp.server.bearerEnv", bearerEnv, environment);
      this.#secrets = key === undefined ? [] : [key];
      this.#transport = () =>
        new StreamableHTTPClientTransport(new URL(url), {
          ...(key !== undefined && { authProvider: { token: async () => key } }),
          // A token goes to the server that it was given for, and to no other.
          requestInit: { redirect: "error" },
        });
    }
  }

  /**
   * Connects and looks whether the tools and arguments are there.
   * @throws WS_IO when there is no server, WS_INVALID_ARGUMENT for a tool or argument that it does not have, or a missing key
   */
  static async open(
    options: McpOptions,
    settings: OpenMcpSettings,
    timing: ClientTiming = realTiming,
  ): Promise<McpBackend> {
    const backend = new McpBackend(options, settings, timing);
    try {
      const client = await backend.#connected();
      const { tools } = await client.listTools();
      const { search, access } = options;
      checkTool(tools, "search", search.tool, [
        search.queryArgument,
        search.countArgument,
        ...Object.keys(search.fixed),
      ]);
      checkTool(tools, "access", access.tool, [access.urlArgument, ...Object.keys(access.fixed)]);
      return backend;
    } catch (error) {
      await backend[Symbol.asyncDispose]();
      throw error instanceof WideSeekError ? error : backend.#ioError(error);
    }
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    const { search } = this.#options;
    const { tool, fixed, queryArgument, countArgument } = search;
    const counted = countArgument === null ? {} : { [countArgument]: count };
    const result = await this.#call(tool, { ...fixed, [queryArgument]: query, ...counted }, signal);
    return readHits(result, search).slice(0, count);
  }

  async access(url: string, signal?: AbortSignal): Promise<string | null> {
    const { access } = this.#options;
    const page = readPage(
      await this.#call(access.tool, { ...access.fixed, [access.urlArgument]: url }, signal),
      access,
    );
    return page.trim() === "" ? null : page;
  }

  metrics(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  /** Ends the program that it started. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new WideSeekError("WS_CLOSED", "the client of the MCP server is closed", { op: "mcp" }));
    const client = await this.#client?.catch(() => undefined);
    this.#client = undefined;
    await client?.close();
  }

  async #call(tool: string, callArguments: Record<string, unknown>, signal?: AbortSignal): Promise<CallToolResult> {
    const late = new AbortController();
    const timer = setTimeout(() => {
      const message = `no answer of the tool ${tool} within ${this.#timeoutMs / 1000} s`;
      late.abort(new WideSeekError("WS_TIMEOUT", message, { op: tool }));
    }, this.#timeoutMs);
    const stops = [this.#closing.signal, late.signal, ...(signal === undefined ? [] : [signal])];
    const stop = AbortSignal.any(stops);
    this.#counts.mcp_calls += 1;
    try {
      const result = await this.#persist(tool, callArguments, stop);
      if (result.isError !== true) return result;
      const said = this.#redact(resultText(result)).slice(0, 2000);
      throw new WideSeekError("WS_IO", said === "" ? `the tool ${tool} failed` : said, { op: tool });
    } catch (error) {
      this.#counts.mcp_failures += 1;
      stop.throwIfAborted();
      throw error instanceof WideSeekError ? error : this.#ioError(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Tries again what a broken connection or a busy server failed; what a tool says about its own failure is an answer. */
  async #persist(tool: string, callArguments: Record<string, unknown>, stop: AbortSignal): Promise<CallToolResult> {
    for (let attempt = 1; ; attempt += 1) {
      for (let wait = this.#breaker.waitMs(); wait > 0; wait = this.#breaker.waitMs()) {
        await this.#timing.sleep(wait, stop);
      }
      try {
        const result = await this.#slots.run(() => this.#callOnce(tool, callArguments, stop), stop);
        this.#breaker.succeeded();
        return result;
      } catch (error) {
        if (stop.aborted) {
          this.#breaker.left();
          throw stop.reason;
        }
        if (!mayPass(error)) {
          this.#breaker.succeeded();
          throw error;
        }
        this.#breaker.failed();
        if (attempt === maxAttempts) throw error;
        await this.#timing.sleep(firstDelayMs * 2 ** attempt * this.#timing.random(), stop);
      }
    }
  }

  async #callOnce(tool: string, callArguments: Record<string, unknown>, signal: AbortSignal): Promise<CallToolResult> {
    const client = await this.#connected();
    try {
      // The signal is the deadline; the library's own would be another one.
      return await client.callTool({ name: tool, arguments: callArguments }, { signal, timeout: noTimeoutMs });
    } catch (error) {
      if (!signal.aborted && isGone(client, error)) {
        await this.#forget(client);
        client.close().catch(() => {});
      }
      throw error;
    }
  }

  #connected(): Promise<Client> {
    this.#closing.signal.throwIfAborted();
    if (this.#client === undefined) {
      const connecting = this.#connect();
      this.#client = connecting;
      connecting.catch(() => {
        if (this.#client === connecting) this.#client = undefined;
      });
    }
    return this.#client;
  }

  async #connect(): Promise<Client> {
    this.#counts.mcp_connections += 1;
    this.#stderr = "";
    const client = new Client({ name: "wideseek", version: "0.1.0" });
    await client.connect(this.#transport(), { signal: this.#closing.signal });
    client.onclose = () => void this.#forget(client);
    return client;
  }

  async #forget(client: Client): Promise<void> {
    const current = this.#client;
    const connected = await current?.catch(() => undefined);
    if (connected === client && this.#client === current) this.#client = undefined;
  }

  #ioError(error: unknown): WideSeekError {
    const { server } = this.#options;
    const where = server.transport === "stdio" ? server.command : new URL(server.url).host;
    const stderr = this.#stderr.trim() === "" ? "" : `; it wrote: ${this.#stderr.trim().slice(-500)}`;
    const isMissing = server.transport === "stdio" && (error as NodeJS.ErrnoException).code === "ENOENT";
    const reason = isMissing ? "no such program; see data.mcp.server.command" : errorMessage(error);
    return new WideSeekError("WS_IO", this.#redact(`MCP server ${where}: ${reason}${stderr}`), {
      op: "mcp",
    });
  }

  #redact(text: string): string {
    return this.#secrets
      .filter(({ length }) => length >= 8)
      .reduce((all, secret) => all.replaceAll(secret, "[key]"), text);
  }
}

/** The connection or session is no more: the next call needs another one. */
function isGone(client: Client, error: unknown): boolean {
  const { status } = error as { status?: unknown };
  return client.transport === undefined || status === 404 || /connection closed|session/i.test(errorMessage(error));
}

/** Refusals stay refusals; a session that a server forgot answers with 404. */
function mayPass(error: unknown): boolean {
  if (error instanceof ProtocolError || error instanceof WideSeekError) return false;
  const { status } = error as { status?: unknown };
  return typeof status !== "number" || status < 400 || status >= 500 || [404, 408, 429].includes(status);
}

interface ListedTool {
  name: string;
  inputSchema: { properties?: Readonly<Record<string, unknown>> | undefined };
}

function checkTool(tools: readonly ListedTool[], role: string, name: string, names: readonly (string | null)[]): void {
  const refuse = (key: string, message: string): WideSeekError =>
    new WideSeekError("WS_INVALID_ARGUMENT", `mcp.${role}.${key}: ${message}`, { op: "mcp" });
  const tool = tools.find((each) => each.name === name);
  if (tool === undefined) {
    throw refuse(
      "tool",
      `the server has no tool "${name}"; it has ${tools.map((each) => each.name).join(", ") || "none"}`,
    );
  }
  const known = tool.inputSchema.properties;
  if (known === undefined) return;
  const unknown = names.find((each) => each !== null && !(each in known));
  if (unknown != null) {
    throw refuse(
      "tool",
      `"${name}" takes no argument "${unknown}"; it takes ${Object.keys(known).join(", ") || "none"}`,
    );
  }
}
