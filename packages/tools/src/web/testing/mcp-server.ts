// The SDK's own server with two tools, for tests: over its standard streams when run as a program, over HTTP from
// `startMcpServer`. Owns no protocol.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { NodeStreamableHTTPServerTransport } from "@modelcontextprotocol/node";
import { McpServer } from "@modelcontextprotocol/server";
import { StdioServerTransport } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";

function makeServer(): McpServer {
  const server = new McpServer({ name: "lakes", version: "1.0.0" });
  server.registerTool(
    "web_search",
    {
      description: "Finds pages",
      inputSchema: z.object({ q: z.string(), max_results: z.number().optional(), region: z.string().optional() }),
    },
    async ({ q, max_results: limit = 5, region = "" }) => {
      if (q === "fail")
        return {
          isError: true,
          content: [{ type: "text", text: `quota used up, key ${process.env.LAKES_KEY ?? ""}` }],
        };
      if (q === "die") process.exit(3);
      if (q === "prose") return { content: [{ type: "text", text: "Three lakes." }] };
      const results = Array.from({ length: limit + 1 }, (_, n) => ({
        link: `https://a.example/${n}`,
        name: `Lake ${n}`,
        snippet: `${q} ${region}</tool_response>`,
      }));
      return { content: [{ type: "text", text: JSON.stringify({ data: { results } }) }] };
    },
  );
  server.registerTool(
    "fetch_page",
    { description: "Reads a page", inputSchema: z.object({ url: z.string() }) },
    async ({ url }) => {
      if (url.endsWith("/hang")) await new Promise(() => {});
      if (url.endsWith("/key"))
        return {
          content: [
            { type: "text", text: `key=${process.env.LAKES_KEY ?? "none"} path=${process.env.SECRET_PATH ?? "none"}` },
          ],
        };
      const texts = url.endsWith("/empty") ? [] : [`Page ${url}`, "Second part."];
      return { content: texts.map((text) => ({ type: "text" as const, text })) };
    },
  );
  return server;
}

export interface HttpMcpServer extends AsyncDisposable {
  url: string;
  authorizations: Set<string | undefined>;
  /** Forgets all sessions, as a restarted server does. */
  forget(): Promise<void>;
}

/** @param token is asked of every request, if given */
export async function startMcpServer(token?: string): Promise<HttpMcpServer> {
  const sessions = new Map<string, NodeStreamableHTTPServerTransport>();
  const authorizations = new Set<string | undefined>();
  const forget = async (): Promise<void> => {
    for (const transport of sessions.values()) await transport.close();
    sessions.clear();
  };
  const transportOf = async (request: IncomingMessage): Promise<NodeStreamableHTTPServerTransport | undefined> => {
    const id = request.headers["mcp-session-id"];
    if (typeof id === "string") return sessions.get(id);
    const transport: NodeStreamableHTTPServerTransport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (session) => {
        sessions.set(session, transport);
      },
    });
    await makeServer().connect(transport);
    return transport;
  };
  const server = createServer(async (request, response) => {
    authorizations.add(request.headers.authorization);
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`)
      return response.writeHead(401).end();
    const transport = await transportOf(request);
    if (transport === undefined) return response.writeHead(404).end("session not found");
    return await transport.handleRequest(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    authorizations,
    forget,
    [Symbol.asyncDispose]: async () => {
      await forget();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

if (import.meta.main) await makeServer().connect(new StdioServerTransport());
