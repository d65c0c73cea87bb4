import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalNumber, canonicalQuantity, isPlainNumber, parseNumber } from "./number.ts";

it("parses decimals of any script", () => {
  expect(["12", " 1_000 ", "１２", "٣", "-.5", "1e3"].map(parseNumber)).toEqual([12, 1000, 12, 3, -0.5, 1000]);
  expect(["", "1,000", "0x10", "1e400", "nan", "inf", "1__0"].map(parseNumber)).toEqual(Array(7).fill(undefined));
});

describe("canonicalNumber", () => {
  it.each([
    ["007", "7"],
    ["1.10", "1.1"],
    ["3.0", "3"],
    ["-0.0", "0"],
    ["+5", "5"],
    [".5", "0.5"],
    ["12345678901234567890.10", "12345678901234567890.1"],
    ["1e3", "1000"],
  ])("%s is %s", (text, expected) => {
    expect(canonicalNumber(text)).toBe(expected);
  });

  it("spells equal numbers alike and different ones apart", () => {
    const number = fc.tuple(fc.integer(), fc.nat({ max: 999 })).map(([whole, part]) => `${whole}.${part}`);
    fc.assert(
      fc.property(number, number, fc.nat({ max: 3 }), (a, b, zeros) => {
        expect(canonicalNumber(a + "0".repeat(zeros))).toBe(canonicalNumber(a));
        expect(canonicalNumber(a) === canonicalNumber(b)).toBe(Number(a) === Number(b));
      }),
    );
  });
});

it("reads quantities with separators and percents", () => {
  expect(["1,234.5", "12 %", "-3", "1,23", "12 kg", "5."].map(canonicalQuantity)).toEqual([
    "1234.5",
    "0.12",
    "-3",
    undefined,
    undefined,
    "5",
  ]);
  expect(["1.", "1,000", "1e3", "+.5"].map(isPlainNumber)).toEqual([false, false, true, true]);
});
