// Dates in text, English and Chinese. Owns what counts as a date; chrono-node reads the worded forms.

import { casual } from "chrono-node";
import { trimSpace } from "./table.ts";

/** A calendar date as precise as the text was. */
export interface CalendarDate {
  year: number;
  month?: number | undefined;
  day?: number | undefined;
}

const time = String.raw`(?:[T\s]\s*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?`;
const yearFirst = new RegExp(String.raw`^(\d{4})([-/.])(\d{1,2})(?:\2(\d{1,2})${time})?$`, "i");
const yearLast = new RegExp(String.raw`^(\d{1,2})([-/.])(\d{1,2})\2(\d{4})${time}$`, "i");
const chinese = /^(\d{4})\s*年(?:\s*(\d{1,2})\s*月(?:\s*(\d{1,2})\s*[日号])?)?$/;
/** In UTF-16 units; longer text is no date. */
const maxLength = 64;
/** chrono resolves what is missing against this day; a date that depends on it is rejected. */
const referenceDay = new Date(2000, 0, 1);

/**
 * The date that the whole text states, or undefined. A date needs its year and never depends on today, so "Mar 5" and
 * "2 days ago" are no dates. `03/05/2024` is March 5; `13/05/2024` can only be May 13.
 */
export function parseDate(text: string): CalendarDate | undefined {
  if (text.length > maxLength) return undefined;
  // Markdown emphasis and a final period are no part of the date.
  const clean = trimSpace(
    text
      .normalize("NFKC")
      .replace(/[*_`]/g, "")
      .replace(/\.\s*$/, ""),
  );
  if (!/\d{4}/.test(clean)) return undefined;
  if (/^\d{4}$/.test(clean)) return checked(Number(clean));
  const iso = yearFirst.exec(clean);
  if (iso !== null) {
    const [year, second, third] = [Number(iso[1]), Number(iso[3]), iso[4] === undefined ? undefined : Number(iso[4])];
    return checked(year, second, third) ?? (third === undefined ? undefined : checked(year, third, second));
  }
  const western = yearLast.exec(clean);
  if (western !== null) {
    const [first, second, year] = [Number(western[1]), Number(western[3]), Number(western[4])];
    return checked(year, first, second) ?? checked(year, second, first);
  }
  const han = chinese.exec(clean);
  if (han !== null) {
    return checked(Number(han[1]), ...han.slice(2, 4).flatMap((part) => (part === undefined ? [] : [Number(part)])));
  }
  return /[a-z]{3}/i.test(clean) ? parseWords(clean) : undefined;
}

function parseWords(text: string): CalendarDate | undefined {
  const words = text.replace(/^the\s+/i, "");
  const [result, ...others] = casual.parse(words, referenceDay);
  if (result === undefined || others.length > 0 || result.end) return undefined;
  if (result.index !== 0 || result.text.length !== words.length) return undefined;
  const { start } = result;
  const [year, month, day] = [start.get("year"), start.get("month"), start.get("day")];
  // A year that is not written was filled in.
  if (year === null || !words.includes(String(year))) return undefined;
  if (month === null || !start.isCertain("month")) return undefined;
  return checked(year, month, day !== null && start.isCertain("day") ? day : undefined);
}

function checked(year: number, month?: number, day?: number): CalendarDate | undefined {
  if (year < 1) return undefined;
  if (month === undefined) return { year };
  if (month < 1 || month > 12) return undefined;
  if (day === undefined) return { year, month };
  return day >= 1 && day <= new Date(Date.UTC(2000 + (year % 400), month, 0)).getUTCDate()
    ? { year, month, day }
    : undefined;
}

/** `YYYY-MM-DD`; what the text left out is the first. */
export function isoDate(date: CalendarDate): string {
  return [
    String(date.year).padStart(4, "0"),
    String(date.month ?? 1).padStart(2, "0"),
    String(date.day ?? 1).padStart(2, "0"),
  ].join("-");
}

/** Days between two dates; what a date leaves out is the first. */
export function daysBetween(a: CalendarDate, b: CalendarDate): number {
  return Math.abs(Date.parse(isoDate(a)) - Date.parse(isoDate(b))) / 86_400_000;
}
