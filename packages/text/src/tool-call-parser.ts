// Reads a sampled assistant turn: thinking, tool calls, answer text. Whatever the model wrote is data, never an exception.
import { errorMessage, type ToolCall } from "@wideseek/spec";

export interface AssistantTurn {
  /** Text inside `<think>`, blocks joined by a newline. */
  thinking: string;
  /** Text after the last thinking block without the tool-call blocks; the answer when there are no calls and no errors. */
  text: string;
  /** Well-formed calls outside thinking, in order; arguments are an object that nobody has validated yet. */
  calls: ToolCall[];
  /** One line for the model to read for each malformed block. */
  errors: string[];
}

const MARKER = /<think>|<\/think>|<tool_call>|<\/tool_call>/g;
const THINK_END = "</think>";
const CALL_START = "<tool_call>";
const CALL_END = "</tool_call>";
const EXPECTED = `Expected <tool_call>{"name": "<tool>", "arguments": {...}}</tool_call>.`;

/**
 * @param text a turn without its stop token. A `</think>` without `<think>` ends thinking that began in the prompt;
 *   a `<think>` without `</think>` makes the rest thinking.
 */
export function parseAssistantTurn(text: string): AssistantTurn {
  const thinking: string[] = [];
  let answer: string[] = [];
  let calls: ToolCall[] = [];
  let errors: string[] = [];
  let sawThink = false;
  let position = 0;
  /** The next end of a call, -1 when there is none; kept, since a model that loops opens thousands of calls. */
  let callEnd = text.indexOf(CALL_END);

  while (position < text.length) {
    MARKER.lastIndex = position;
    const match = MARKER.exec(text);
    answer.push(text.slice(position, match?.index));
    if (match === null) break;
    const [marker] = match;
    position = match.index + marker.length;

    if (marker === "<think>") {
      const thinkEnd = text.indexOf(THINK_END, position);
      thinking.push(text.slice(position, thinkEnd < 0 ? undefined : thinkEnd));
      answer = [];
      sawThink = true;
      if (thinkEnd < 0) break;
      position = thinkEnd + THINK_END.length;
    } else if (marker === THINK_END) {
      if (!sawThink) {
        thinking.push(text.slice(0, match.index));
        calls = [];
        errors = [];
        sawThink = true;
      }
      answer = [];
    } else if (marker === CALL_START) {
      if (callEnd >= 0 && callEnd < position) callEnd = text.indexOf(CALL_END, position);
      const parsed = callEnd < 0 ? "" : parseCall(text.slice(position, callEnd));
      if (typeof parsed !== "string") {
        calls.push(parsed);
        position = callEnd + CALL_END.length;
        continue;
      }
      // A block that was never closed ends at the next marker: it must not swallow the next call.
      MARKER.lastIndex = position;
      const next = MARKER.exec(text);
      const closed = next?.[0] === CALL_END;
      const number = calls.length + errors.length + 1;
      errors.push(`Tool call ${number} ${closed ? parsed : `is not closed with ${CALL_END}.`} ${EXPECTED}`);
      position = closed ? callEnd + CALL_END.length : (next?.index ?? text.length);
    } else {
      errors.push(`Found ${CALL_END} without ${CALL_START} before it. ${EXPECTED}`);
    }
  }
  return { thinking: thinking.map((part) => part.trim()).join("\n"), text: answer.join("").trim(), calls, errors };
}

/** The call, or what is wrong with the body. */
function parseCall(body: string): ToolCall | string {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    return `is not valid JSON: ${oneLine(errorMessage(error))}.`;
  }
  if (!isObject(value)) return `is ${kindOf(value)}, not a JSON object.`;
  if (typeof value.name !== "string" || value.name.trim() === "")
    return `has no "name": the name of the tool must be a non-empty string.`;
  const name = value.name.trim();
  let callArguments = value.arguments ?? {};
  if (typeof callArguments === "string") {
    try {
      callArguments = JSON.parse(callArguments);
    } catch (error) {
      return `(${oneLine(name)}): "arguments" is a string that is not valid JSON: ${oneLine(errorMessage(error))}.`;
    }
  }
  if (!isObject(callArguments))
    return `(${oneLine(name)}): "arguments" is ${kindOf(callArguments)}, not a JSON object.`;
  return { name, arguments: callArguments };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}

/** Quoted model text may contain newlines and be long. */
function oneLine(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length > 200 ? `${line.slice(0, 200)}...` : line;
}
