// Opens the tools of an MCP server from their options.
import { invalidInput, type SearchBackend } from "@wideseek/spec";
import { McpBackend, type OpenMcpSettings } from "./mcp-backend.ts";
import { type McpOptionsInput, mcpOptionsSchema } from "./options.ts";

/** @throws WS_INVALID_ARGUMENT for options, tools, arguments or a missing key; WS_IO when there is no such server */
export async function openMcp(input: McpOptionsInput, settings: OpenMcpSettings): Promise<SearchBackend> {
  const parsed = mcpOptionsSchema.safeParse(input);
  if (!parsed.success) throw invalidInput("mcp", parsed.error, input);
  return await McpBackend.open(parsed.data, settings);
}
