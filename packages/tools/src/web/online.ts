// The way to the web and to MCP servers for those who may never need it: their libraries are loaded when one is opened.
import type { SearchBackend } from "@wideseek/spec";
import type { OpenMcpSettings } from "./mcp-backend.ts";
import type { OpenWebSettings } from "./open-web.ts";
import type { McpOptionsInput, WebOptionsInput } from "./options.ts";

/** As `openWeb` of open-web.ts. */
export async function openWeb(options: WebOptionsInput, settings: OpenWebSettings): Promise<SearchBackend> {
  return await (await import("./open-web.ts")).openWeb(options, settings);
}

/** As `openMcp` of open-mcp.ts. */
export async function openMcp(options: McpOptionsInput, settings: OpenMcpSettings): Promise<SearchBackend> {
  return await (await import("./open-mcp.ts")).openMcp(options, settings);
}
