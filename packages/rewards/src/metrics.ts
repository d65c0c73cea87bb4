// WideSearch cell functions: preprocessing and cell metrics. Owns them by their published names.

import { daysBetween, isoDate, parseDate } from "./date.ts";
import { parseNumber } from "./number.ts";
import { trimSpace } from "./table.ts";

export type Preprocess = "extract_number" | "norm_str" | "norm_date";
export type CellMetric = "exact_match" | "url_match" | "in_match" | "number_near" | "date_near";
export type Metric = CellMetric | "llm_judge";

/** The first number without thousands separators, a `%` kept; "NULL" when there is none. */
export function extractNumber(content: string): string {
  return /[+-]?(?:\p{Nd}+(?:\.\p{Nd}+)?|\.\p{Nd}+)%?/u.exec(content.replaceAll(",", ""))?.[0] ?? "NULL";
}

/** Lower case without spaces and asterisks. */
export function normStr(content: string): string {
  return trimSpace(content.toLowerCase()).replaceAll(" ", "").replaceAll("*", "");
}

/** `YYYY-MM-DD`, or the text as it is when it states no date. */
export function normDate(content: string): string {
  const date = parseDate(content);
  return date === undefined ? content : isoDate(date);
}

export function exactMatch(response: string, target: string): number {
  return response.toLowerCase() === target.toLowerCase() ? 1 : 0;
}

/** 1 when `response` is a part of `target`. An empty response is a part only of an empty target. */
export function inMatch(response: string, target: string): number {
  return (response === "" ? target === "" : target.includes(response)) ? 1 : 0;
}

/** 1 when both texts link to the same set of hosts; texts without links must be equal. */
export function urlMatch(response: string, target: string): number {
  const [ours, theirs] = [hosts(response), hosts(target)];
  if (ours.size === 0 && theirs.size === 0) return exactMatch(response, target);
  return ours.size === theirs.size && [...ours].every((host) => theirs.has(host)) ? 1 : 0;
}

/** Hosts in lower case, freed of the Markdown and punctuation around them. A URL inside another's path is no link. */
function hosts(text: string): Set<string> {
  const links = text.matchAll(/https?:\/\/(\[[^\]\s]*\]?|[^\s/?#\])>"|；，。、]*)[^\s\])>"|；，。、]*/gi);
  return new Set([...links].map((link) => (link[1] ?? "").toLowerCase().replace(/[^\p{L}\p{N}\]]+$/u, "")));
}

/**
 * 1 when |response - target| <= tolerance * |target|, percents as fractions. Texts that are no finite numbers must be
 * equal. Without a numeric tolerance the numbers must be equal.
 */
export function numberNear(response: string, target: string, tolerance: unknown): number {
  const [ours, theirs] = [numberOrPercent(response), numberOrPercent(target)];
  if (ours === undefined || theirs === undefined) return response === target ? 1 : 0;
  return Math.abs(ours - theirs) <= Math.abs(theirs) * (Number(tolerance) || 0) ? 1 : 0;
}

function numberOrPercent(text: string): number | undefined {
  const number = parseNumber(text.replaceAll("%", ""));
  return number !== undefined && text.includes("%") ? number / 100 : number;
}

/** 1 when the dates are at most 31 days apart. Texts that are no dates must be equal. */
export function dateNear(response: string, target: string): number {
  const [ours, theirs] = [parseDate(response), parseDate(target)];
  if (ours === undefined || theirs === undefined) {
    return ours === theirs && exactMatch(response, target) === 1 ? 1 : 0;
  }
  return daysBetween(ours, theirs) <= 31 ? 1 : 0;
}

export const preprocessors: Readonly<Record<Preprocess, (content: string) => string>> = {
  extract_number: extractNumber,
  norm_str: normStr,
  norm_date: normDate,
};

export const cellMetrics: Readonly<
  Record<CellMetric, (response: string, target: string, criterion?: unknown) => number>
> = {
  exact_match: exactMatch,
  url_match: urlMatch,
  in_match: inMatch,
  number_near: numberNear,
  date_near: dateNear,
};
