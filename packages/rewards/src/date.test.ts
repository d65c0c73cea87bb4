import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { daysBetween, isoDate, parseDate } from "./date.ts";

describe("parseDate", () => {
  it.each([
    ["2024-03-05", "2024-03-05"],
    ["2024/3/5", "2024-03-05"],
    ["2024.03", "2024-03-01"],
    ["2024-13-01", "2024-01-13"],
    ["03/05/2024", "2024-03-05"],
    ["31.07.2017", "2017-07-31"],
    ["5th of March 2024", "2024-03-05"],
    ["the 5th of March, 2024", "2024-03-05"],
    ["Sept 30, 2021", "2021-09-30"],
    ["March 2024", "2024-03-01"],
    ["２０２４年３月５日", "2024-03-05"],
    ["2021 年 8 月", "2021-08-01"],
    ["2024-03-05T23:30:00+08:00", "2024-03-05"],
    ["**2024-03-05**.", "2024-03-05"],
    ["1987", "1987-01-01"],
    ["2024年", "2024-01-01"],
    ["29 February 2000", "2000-02-29"],
  ])("%s is %s", (text, expected) => {
    const date = parseDate(text);
    expect(date && isoDate(date)).toBe(expected);
  });

  it.each([
    "",
    "20240305",
    "2023-02-29",
    "31 April 2024",
    "Spring 2020",
    "Q1 2024",
    "2024-03-05 (announced)",
    "2024-03-05~2024-04-01",
    "2 days ago",
    "today",
    "2024 days ago",
    "Mar 5",
    "10:30",
    "nan",
    "May",
    "1990s",
    "March 2024 to May 2024",
    "未知",
    "2023年8月\u{200c}",
  ])("%s is no date", (text) => {
    expect(parseDate(text)).toBeUndefined();
  });

  it("reads back every day it writes, in every form", () => {
    const day = fc.date({ min: new Date("1000-01-01"), max: new Date("9999-12-31"), noInvalidDate: true });
    fc.assert(
      fc.property(day, (date) => {
        const iso = date.toISOString().slice(0, 10);
        const [year, month, number] = iso.split("-").map(Number);
        const long = new Intl.DateTimeFormat("en-US", { dateStyle: "long", timeZone: "UTC" }).format(date);
        for (const text of [iso, `${year}年${month}月${number}日`, `${month}/${number}/${year}`, long]) {
          const parsed = parseDate(text);
          expect(parsed && isoDate(parsed), text).toBe(iso);
        }
      }),
    );
  });
});

it("counts days over months and leap years", () => {
  expect(daysBetween({ year: 2024, month: 1, day: 31 }, { year: 2024, month: 3, day: 3 })).toBe(32);
  expect(daysBetween({ year: 2024, month: 3 }, { year: 2024, month: 2 })).toBe(29);
});
