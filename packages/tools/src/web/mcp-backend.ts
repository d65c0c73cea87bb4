// `search` and `access` by the tools of an MCP server. Owns the connection and the calls; how results read is in
// mcp-results.ts.
import {
  type CallToolResult,
  Client,
  StreamableHTTPClientTransport,
  type Transport,
} from "@modelcontextprotocol/client";
import { getDefaultEnvironment, StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { errorMessage, type SearchBackend, type SearchHit, Slots, WideSeekError } from "@wideseek/spec";
import { type Environment, readKey } from "./keys.ts";
import { readHits, readPage, resultText } from "./mcp-results.ts";
import type { McpOptions } from "./options.ts";

/** Of what a program wrote to its standard error; told when it ends too early. */
const keptStderr = 2000;
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
  readonly #secrets: readonly string[];
  readonly #transport: () => Transport;
  readonly #slots: Slots;
  readonly #closing = new AbortController();
  readonly #counts = { mcp_calls: 0, mcp_failures: 0, mcp_connections: 0 };
  #client: Promise<Client> | undefined;
  #stderr = "";

  private constructor(options: McpOptions, { timeoutSeconds, environment }: OpenMcpSettings) {
    this.#options = options;
    this.#timeoutMs = timeoutSeconds * 1000;
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
  static async open(options: McpOptions, settings: OpenMcpSettings): Promise<McpBackend> {
    const backend = new McpBackend(options, settings);
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
    const all = signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
    this.#counts.mcp_calls += 1;
    try {
      const result = await this.#slots.run(() => this.#callOnce(tool, callArguments, all, true), all);
      if (result.isError !== true) return result;
      const said = this.#redact(resultText(result)).slice(0, 2000);
      throw new WideSeekError("WS_IO", said === "" ? `the tool ${tool} failed` : said, { op: tool });
    } catch (error) {
      this.#counts.mcp_failures += 1;
      all.throwIfAborted();
      throw error instanceof WideSeekError ? error : this.#ioError(error);
    }
  }

  async #callOnce(
    tool: string,
    callArguments: Record<string, unknown>,
    signal: AbortSignal,
    mayReconnect: boolean,
  ): Promise<CallToolResult> {
    const client = await this.#connected();
    const settings = { signal, timeout: this.#timeoutMs };
    try {
      return await client.callTool({ name: tool, arguments: callArguments }, settings);
    } catch (error) {
      // The connection is gone, not the call wrong: one new connection, one new try.
      const { status } = error as { status?: unknown };
      const isGone =
        client.transport === undefined || status === 404 || /connection closed|session/i.test(errorMessage(error));
      if (signal.aborted || !mayReconnect || !isGone) throw error;
      await this.#forget(client);
      client.close().catch(() => {});
      return await this.#callOnce(tool, callArguments, signal, false);
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
    await client.connect(this.#transport(), { signal: this.#closing.signal, timeout: this.#timeoutMs });
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
    return new WideSeekError("WS_IO", this.#redact(`MCP server ${where}: ${errorMessage(error)}${stderr}`), {
      op: "mcp",
    });
  }

  #redact(text: string): string {
    return this.#secrets
      .filter(({ length }) => length >= 8)
      .reduce((all, secret) => all.replaceAll(secret, "[key]"), text);
  }
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
