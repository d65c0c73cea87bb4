// The tool message that answers a turn: result sections, what is said about the coming turn, and cutting to fit.
import type { ChatTokenizer } from "@wideseek/text";
import { type AgentBudget, lastResponseTokens, responseTokens } from "./limits.ts";
import type { AgentTexts } from "./prompts.ts";

export interface ToolResponse {
  tokenIds: Int32Array;
  /** The coming turn is the last one and the agent was told so. */
  lastTurn: boolean;
  wasCut: boolean;
}

export interface ToolResponseRequest {
  chat: Pick<ChatTokenizer, "encodeToolResponse">;
  texts: AgentTexts;
  budget: AgentBudget;
  /** Results in call order. */
  sections: readonly string[];
  /** Tokens of the history before the response. */
  numTokens: number;
  /** From 1. */
  nextTurn: number;
  endedWithStop: boolean;
}

/** Null when not even the request to answer fits into the context. */
export async function toolResponse(request: ToolResponseRequest): Promise<ToolResponse | null> {
  const { texts, budget, sections, numTokens, nextTurn } = request;
  const encode = (parts: readonly string[], notice: string): Promise<Int32Array> =>
    request.chat.encodeToolResponse([...parts, notice].filter((part) => part !== "").join("\n\n"), {
      endedWithStop: request.endedWithStop,
    });

  if (nextTurn < budget.maxTurns) {
    const tokenIds = await encode(sections, texts.nextTurn(nextTurn, budget.maxTurns));
    if (tokenIds.length <= responseTokens(budget, numTokens)) return { tokenIds, lastTurn: false, wasCut: false };
  }
  const limit = lastResponseTokens(budget, numTokens);
  const whole = await encode(sections, texts.answerNow);
  if (whole.length <= limit) return { tokenIds: whole, lastTurn: true, wasCut: false };

  const best = await largestCut(sections, limit, (parts) => encode(parts, texts.answerNow), texts);
  const tokenIds = best ?? (await encode([], texts.answerNow));
  if (tokenIds.length >= budget.contextTokens - numTokens) return null;
  return { tokenIds, lastTurn: true, wasCut: true };
}

/**
 * The longest response within `limit` tokens in which no section has more than so many characters: short sections
 * stay whole, long ones share what is left. Null when the markers alone do not fit.
 */
async function largestCut(
  sections: readonly string[],
  limit: number,
  encode: (parts: readonly string[]) => Promise<Int32Array>,
  texts: AgentTexts,
): Promise<Int32Array | null> {
  let best: Int32Array | null = null;
  let low = 0;
  // Hardly any text has more than 8 characters a token; more would only make the first encodings slow.
  let high = Math.min(Math.max(...sections.map((section) => section.length)), limit * 8);
  let characters = 0;
  // Closer than 1/64 is not worth encoding the text again.
  while (low <= high && (best === null || high - low > high / 64)) {
    const tokenIds = await encode(sections.map((section) => cutSection(section, characters, texts)));
    if (tokenIds.length <= limit) {
      best = tokenIds;
      low = characters + 1;
    } else {
      high = characters - 1;
    }
    characters = Math.floor((low + high) / 2);
  }
  return best;
}

/** The beginning of a section, and how much is missing. */
export function cutSection(section: string, characters: number, texts: AgentTexts): string {
  if (section.length <= characters) return section;
  const last = section.charCodeAt(characters - 1);
  const splitsPair = last >= 0xd800 && last <= 0xdbff;
  const kept = section.slice(0, splitsPair ? characters - 1 : characters);
  return `${kept}${texts.cut(section.length - kept.length)}`;
}
