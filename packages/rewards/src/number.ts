// Numbers in text. Owns what counts as a number and its one canonical spelling.

import { trimSpace } from "./table.ts";

const decimal = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?$/i;

/**
 * The value of a plain decimal, or undefined. Any script's digits and `_` between digits are accepted (the benchmark
 * reads numbers as Python does); thousands separators are not. Infinite values are undefined.
 */
export function parseNumber(text: string): number | undefined {
  const ascii = trimSpace(text)
    .replace(/\p{Nd}/gu, digitValue)
    .replace(/(?<=\d)_(?=\d)/g, "");
  if (!decimal.test(ascii)) return undefined;
  const value = Number(ascii);
  return Number.isFinite(value) ? value : undefined;
}

/** Unicode allots decimal digits in runs of ten from zero, so the place in the run is the value. */
function digitValue(digit: string): string {
  const codePoint = digit.codePointAt(0) ?? 0;
  if (codePoint < 0x80) return digit;
  let start = codePoint;
  while (/\p{Nd}/u.test(String.fromCodePoint(start - 1))) start--;
  return String((codePoint - start) % 10);
}

/** True for a number as tables state it: ASCII digits, no separators, no percent. `1.` is a number in a sentence's end. */
export function isPlainNumber(text: string): boolean {
  return decimal.test(text) && !text.endsWith(".");
}

/** One spelling for equal numbers ("007" and "7", "1.10" and "1.1", "-0" and "0"), exact for any length. */
export function canonicalNumber(text: string): string {
  if (/e/i.test(text)) return Number.isFinite(Number(text)) ? String(Number(text)) : text.toLowerCase();
  const [whole = "", fraction = ""] = text.replace(/^[+-]/, "").split(".");
  const integer = whole.replace(/^0+(?=\d)/, "") || "0";
  const tail = fraction.replace(/0+$/, "");
  const magnitude = tail === "" ? integer : `${integer}.${tail}`;
  return text.startsWith("-") && magnitude !== "0" ? `-${magnitude}` : magnitude;
}

/** `1,234.5`, `12 %`, `1，234`: the canonical spelling, percent as a fraction of 100; undefined when it is no number. */
export function canonicalQuantity(text: string): string | undefined {
  const match = /^([+-]?)(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)\s*(%?)$/.exec(text);
  if (match === null) return undefined;
  const number = canonicalNumber(`${match[1] ?? ""}${(match[2] ?? "").replaceAll(",", "")}`);
  if (match[3] === "") return number;
  // toPrecision hides the error of binary division, so that 7 % equals 0.07.
  return String(Number((Number(number) / 100).toPrecision(15)));
}
