// What the tools of an MCP server return, as hits and pages. Owns the reading of results; calls nothing.
import type { CallToolResult } from "@modelcontextprotocol/client";
import { type SearchHit, WideSeekError } from "@wideseek/spec";
import type { McpOptions } from "./options.ts";

type SearchSettings = Pick<McpOptions["search"], "tool" | "hits" | "urlField" | "titleField" | "contentsField">;
type AccessSettings = Pick<McpOptions["access"], "tool" | "text">;
type Fields = Readonly<Record<string, unknown>>;

/** The texts of a result, in order; pictures and sounds are left out. */
export function resultText({ content }: Pick<CallToolResult, "content">): string {
  const texts = content.flatMap((block) => {
    if (block.type === "text") return [block.text];
    return block.type === "resource" && "text" in block.resource ? [String(block.resource.text)] : [];
  });
  return texts.join("\n\n");
}

/** @throws WS_IO when a configured path or field is not there */
export function readHits(result: CallToolResult, settings: SearchSettings): SearchHit[] {
  const value = resultValue(result);
  if (typeof value === "string" && settings.hits === null) {
    return value.trim() === "" ? [] : [{ url: `mcp:${settings.tool}`, title: "", contents: value }];
  }
  const list = settings.hits === null ? findList(value) : at(value, settings.hits);
  if (!Array.isArray(list))
    throw unreadable(settings.tool, settings.hits === null ? "no list of hits" : `no list at ${settings.hits}`);
  const { urlField, titleField, contentsField } = settings;
  return list.map((item: unknown) => {
    const url = isFields(item) ? at(item, urlField) : undefined;
    if (!isFields(item) || typeof url !== "string") {
      const has = isFields(item) ? `it has ${Object.keys(item).slice(0, 20).join(", ")}` : "it is no object";
      throw unreadable(settings.tool, `a hit without text in "${urlField}"; ${has}`);
    }
    return { url, title: asText(at(item, titleField)), contents: asText(at(item, contentsField)) };
  });
}

/** @throws WS_IO when the configured path is not there */
export function readPage(result: CallToolResult, settings: AccessSettings): string {
  if (settings.text === null) return resultText(result);
  const text = at(resultValue(result), settings.text);
  if (typeof text !== "string") throw unreadable(settings.tool, `no text at ${settings.text}`);
  return text;
}

/** Structured content, else the text as JSON, else the text. */
function resultValue(result: CallToolResult): unknown {
  if (result.structuredContent !== undefined) return result.structuredContent;
  const text = resultText(result);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The list itself, or the first list among the fields. */
function findList(value: unknown): unknown {
  if (Array.isArray(value)) return value;
  return isFields(value) ? Object.values(value).find(Array.isArray) : undefined;
}

/** The value at a dotted path such as `data.results`, or `0.text`. */
function at(value: unknown, path: string): unknown {
  return path
    .split(".")
    .reduce<unknown>(
      (current, key) =>
        typeof current === "object" && current !== null && Object.hasOwn(current, key)
          ? (current as Fields)[key]
          : undefined,
      value,
    );
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function asText(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function unreadable(tool: string, what: string): WideSeekError {
  return new WideSeekError("WS_IO", `${tool}: the result cannot be read: ${what}`, { op: tool });
}
