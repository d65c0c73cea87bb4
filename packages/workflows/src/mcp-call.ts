// MiroFlow's tool calls: XML around a JSON object at the end of a message. Owns reading them.

export interface McpCall {
  server: string;
  tool: string;
  arguments: Record<string, unknown>;
}

export interface McpReading {
  calls: McpCall[];
  /** What was wrong with calls that could not be read, one line each. */
  errors: string[];
}

const part = (block: string, name: string): string | undefined =>
  new RegExp(`<${name}>([\\s\\S]*?)</${name}>`).exec(block)?.[1]?.trim();

export function readMcpCalls(text: string): McpReading {
  const reading: McpReading = { calls: [], errors: [] };
  const opening = "<use_mcp_tool>";
  const closing = "</use_mcp_tool>";
  let start = text.indexOf(opening);
  if (start < 0 && text.includes(closing)) reading.errors.push(`${closing} without ${opening}`);
  while (start >= 0) {
    const end = text.indexOf(closing, start);
    if (end < 0) {
      reading.errors.push(`the call is not closed with ${closing}`);
      break;
    }
    const call = readCall(text.slice(start + opening.length, end));
    if (typeof call === "string") reading.errors.push(call);
    else reading.calls.push(call);
    start = text.indexOf(opening, end);
  }
  return reading;
}

function readCall(block: string): McpCall | string {
  const server = part(block, "server_name");
  const tool = part(block, "tool_name");
  if (!server || !tool) return "the call names no server or no tool";
  try {
    const value: unknown = JSON.parse(part(block, "arguments") ?? "{}");
    if (typeof value !== "object" || value === null || Array.isArray(value)) return "the arguments are no JSON object";
    return { server, tool, arguments: value as Record<string, unknown> };
  } catch {
    return "the arguments are not valid JSON";
  }
}
