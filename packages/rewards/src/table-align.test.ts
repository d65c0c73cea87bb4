import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RuleJudge } from "./judge.ts";
import { alignColumns, alignKeyCells, matchRows } from "./table-align.ts";

const judge = new RuleJudge();

describe("alignColumns", () => {
  it("prefers equal names, then the judge, and uses no column twice", async () => {
    const predicted = { columns: ["**Name**", "Name", "_Open Date_", "Z"], rows: [] };
    const alignment = await alignColumns(predicted, ["name", "opendate"], judge);
    expect([...alignment.indices]).toEqual([
      ["name", 1],
      ["opendate", 2],
    ]);
    expect(alignment).toMatchObject({ missing: [], extra: ["**name**", "z"] });
  });

  it("takes the first of several columns of one meaning", async () => {
    const alignment = await alignColumns({ columns: ["*a*", "`a`"], rows: [] }, ["a", "b"], judge);
    expect([...alignment.indices]).toEqual([["a", 0]]);
    expect(alignment).toMatchObject({ missing: ["b"], extra: ["`a`"] });
  });
});

describe("alignKeyCells", () => {
  it("rewrites known cells and leaves the others", async () => {
    expect(await alignKeyCells(["UK", "**uk**", "FR", "uk."], ["UK", "US"], judge)).toEqual(["UK", "UK", "FR", "UK"]);
  });
});

describe("matchRows", () => {
  const key = (exact: string): { exact: string; loose: string } => ({ exact, loose: exact.toLowerCase() });

  it("pairs equal keys first and what is left in order", () => {
    const { pairs, numPredicted, numGold } = matchRows(["a", "A", "x"].map(key), ["A", "B", "Aa", "aA"].map(key));
    expect(pairs).toEqual([{ predicted: 1, gold: 0 }]);
    expect({ numPredicted, numGold }).toEqual({ numPredicted: 2, numGold: 4 });
    expect(matchRows(["aa", "aA"].map(key), ["Aa", "aA"].map(key)).pairs).toEqual([
      { predicted: 1, gold: 1 },
      { predicted: 0, gold: 0 },
    ]);
  });

  it("uses every row at most once and never counts fewer rows than pairs", () => {
    const rows = fc.array(fc.constantFrom("a", "A", "b", "B", "c", "aa", "Aa", "aA", "AA").map(key), { maxLength: 12 });
    fc.assert(
      fc.property(rows, rows, (predicted, gold) => {
        const { pairs, numPredicted, numGold } = matchRows(predicted, gold);
        expect(new Set(pairs.map((pair) => pair.predicted)).size).toBe(pairs.length);
        expect(new Set(pairs.map((pair) => pair.gold)).size).toBe(pairs.length);
        expect(numPredicted).toBeGreaterThanOrEqual(pairs.length);
        expect(numGold).toBeGreaterThanOrEqual(pairs.length);
        for (const pair of pairs) expect(predicted[pair.predicted]?.loose).toBe(gold[pair.gold]?.loose);
      }),
    );
  });
});
