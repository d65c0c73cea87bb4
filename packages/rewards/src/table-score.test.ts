import type { Judge, TableScore } from "@wideseek/spec";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { trainingRules, type WideSearchEvaluation, wideSearchRules } from "./evaluation.ts";
import { RuleJudge } from "./judge.ts";
import type { Table } from "./table.ts";
import { evaluateWideSearch, scoreTable } from "./table-score.ts";

const judge = new RuleJudge();
const score = async (predicted: Table, gold: Table, unique: string[] = ["k"]): Promise<TableScore> =>
  (await scoreTable(predicted, gold, trainingRules(gold.columns, unique), judge)).score;
const perfect: TableScore = {
  itemPrecision: 1,
  itemRecall: 1,
  itemF1: 1,
  rowPrecision: 1,
  rowRecall: 1,
  rowF1: 1,
  success: 1,
};

const cell = fc.constantFrom(
  "a",
  "A.",
  "b",
  "",
  "1",
  "1.0",
  "1,000",
  "1000",
  "2024-03-05",
  "March 5, 2024",
  "12%",
  "乙",
);
const row = fc.tuple(cell, cell, cell).map((cells) => [...cells]);
const table = fc.array(row, { maxLength: 6 }).map((rows): Table => ({ columns: ["k", "x", "y"], rows }));
const goldTable = table.filter((value) => value.rows.length > 0);

describe("scoreTable", () => {
  it("counts items, rows and columns", async () => {
    const gold = {
      columns: ["k", "x"],
      rows: [
        ["a", "1"],
        ["b", "2"],
        ["c", "3"],
        ["d", "4"],
      ],
    };
    const predicted = {
      columns: ["k", "x"],
      rows: [
        ["a", "1"],
        ["b", "9"],
        ["z", "3"],
      ],
    };
    const result = await score(predicted, gold);
    // Two keys and one value are right, of 6 predicted and 8 gold items.
    expect(result.itemPrecision).toBeCloseTo(3 / 6, 12);
    expect(result.itemRecall).toBeCloseTo(3 / 8, 12);
    expect(result.rowPrecision).toBeCloseTo(1 / 3, 12);
    expect(result.rowRecall).toBeCloseTo(1 / 4, 12);
    expect(result.success).toBe(0);
  });

  it("does not let several spellings of one key count twice", async () => {
    const gold = {
      columns: ["k", "x"],
      rows: [
        ["US", "1"],
        ["UK", "2"],
      ],
    };
    const predicted = {
      columns: ["k", "x"],
      rows: [
        ["US", "1"],
        ["**US**", "1"],
        ["us.", "1"],
        ["U S", "1"],
      ],
    };
    const result = await score(predicted, gold);
    expect(result).toMatchObject({ itemPrecision: 1, itemRecall: 0.5 });
  });

  it("matches a key column that repeats, in whatever spelling", async () => {
    const gold = {
      columns: ["country", "year", "x"],
      rows: [
        ["UK", "2010", "1"],
        ["UK", "2011", "2"],
      ],
    };
    const predicted = {
      columns: ["country", "year", "x"],
      rows: [
        ["UK", "2010", "1"],
        ["**uk**", "2011", "2"],
      ],
    };
    expect(await score(predicted, gold, ["country", "year"])).toEqual(perfect);
  });

  it("keeps large numbers, codes and mixed columns apart", async () => {
    const gold = {
      columns: ["k", "x"],
      rows: [
        ["1234567", "5"],
        ["1234568", "none"],
      ],
    };
    const predicted = {
      columns: ["k", "x"],
      rows: [
        ["1,234,568", "other"],
        ["1234567.0", "5.0"],
      ],
    };
    expect(await score(predicted, gold)).toMatchObject({ itemRecall: 0.75, rowRecall: 0.5 });
  });

  it("takes all columns as key when there is none", async () => {
    const gold = {
      columns: ["k", "x"],
      rows: [
        ["a", "1"],
        ["b", "2"],
      ],
    };
    expect(
      await score(
        {
          columns: ["k", "x"],
          rows: [
            ["a", "1"],
            ["b", "3"],
          ],
        },
        gold,
        [],
      ),
    ).toMatchObject({ itemF1: 0.5 });
  });

  it("ignores further columns in training and rejects them in the benchmark", async () => {
    const gold = { columns: ["k"], rows: [["a"]] };
    const predicted = { columns: ["k", "z"], rows: [["a", "1"]] };
    expect(await score(predicted, gold)).toEqual(perfect);
    const rules = wideSearchRules({ required: ["k"], unique_columns: ["k"], eval_pipeline: {} });
    expect((await scoreTable(predicted, gold, rules, judge)).rejected).toBe("columns not asked for: z");
  });

  it("ignores a judge that maps to text nobody gave", async () => {
    const wild: Judge = {
      name: "wild",
      align: async (predicted) => new Map(predicted.map((text) => [text, "made up"])),
      gradePairs: async (pairs) => pairs.map(() => 1),
      gradeAnswer: async () => 1,
    };
    const rules = trainingRules(["k", "x"], ["k"]);
    const outcome = await scoreTable(
      { columns: ["p", "q"], rows: [["a", "1"]] },
      { columns: ["k", "x"], rows: [["a", "1"]] },
      rules,
      wild,
    );
    expect(outcome.rejected).toBe("columns missing: k, x");
  });

  it("names a required column that the gold table lacks", async () => {
    await expect(
      scoreTable({ columns: ["k"], rows: [] }, { columns: ["k"], rows: [] }, trainingRules(["k", "z"], ["k"]), judge),
    ).rejects.toThrow(/gold table: no column z/);
  });

  it("stays within [0, 1], whatever the tables", async () => {
    await fc.assert(
      fc.asyncProperty(table, goldTable, fc.subarray(["k", "x", "y"]), async (predicted, gold, unique) => {
        for (const value of Object.values(await score(predicted, gold, unique))) {
          expect(value).toBeGreaterThanOrEqual(0);
          expect(value).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  it("gives a table full marks against itself", async () => {
    await fc.assert(
      fc.asyncProperty(goldTable, async (gold) => {
        expect(await score(gold, gold)).toEqual(perfect);
      }),
    );
  });

  it("swaps precision and recall when the tables are swapped", async () => {
    // Unique keys: which of several rows of one key is compared depends on the side.
    const keyed = fc
      .uniqueArray(fc.tuple(fc.constantFrom("p", "q", "r", "s", "t"), cell, cell), {
        selector: (cells) => cells[0],
        minLength: 1,
      })
      .map((rows): Table => ({ columns: ["k", "x", "y"], rows: rows.map((cells) => [...cells]) }));
    await fc.assert(
      fc.asyncProperty(keyed, keyed, async (a, b) => {
        const [forth, back] = [await score(a, b), await score(b, a)];
        expect(forth.itemPrecision).toBeCloseTo(back.itemRecall, 12);
        expect(forth.rowPrecision).toBeCloseTo(back.rowRecall, 12);
        expect(forth.itemF1).toBeCloseTo(back.itemF1, 12);
      }),
    );
  });

  it("does not depend on the order of columns, nor on the order of rows of different keys", async () => {
    const keyed = fc
      .uniqueArray(fc.tuple(fc.constantFrom("p", "q", "r", "s", "t"), cell, cell), { selector: (cells) => cells[0] })
      .map((rows): Table => ({ columns: ["k", "x", "y"], rows: rows.map((cells) => [...cells]) }));
    await fc.assert(
      fc.asyncProperty(keyed, goldTable, fc.infiniteStream(fc.nat()), async (predicted, gold, random) => {
        const shuffled = predicted.rows.map((cells) => ({ cells, place: random.next().value ?? 0 }));
        shuffled.sort((a, b) => a.place - b.place);
        const turned = {
          columns: ["y", "k", "x"],
          rows: shuffled.map(({ cells }) => [cells[2] ?? "", cells[0] ?? "", cells[1] ?? ""]),
        };
        expect(await score(turned, gold)).toEqual(await score(predicted, gold));
      }),
    );
  });

  it("is unmoved by repeated rows", async () => {
    await fc.assert(
      fc.asyncProperty(table, goldTable, async (predicted, gold) => {
        const doubled = { ...predicted, rows: [...predicted.rows, ...predicted.rows] };
        expect(await score(doubled, gold)).toEqual(await score(predicted, gold));
      }),
    );
  });
});

describe("evaluateWideSearch", () => {
  const evaluation: WideSearchEvaluation = {
    required: ["name", "value"],
    unique_columns: ["name"],
    eval_pipeline: {
      name: { preprocess: ["norm_str"], metric: ["llm_judge"] },
      value: { preprocess: ["extract_number"], metric: ["number_near"], criterion: 0.1 },
    },
  };
  const gold = "Name,Value\nA,100\nB,NA\n";
  const evaluate = (response: string | null): Promise<TableScore> =>
    evaluateWideSearch(response, gold, evaluation, judge, { fence: "last" });

  it("scores an answer after its thoughts", async () => {
    expect(await evaluate("<think>| x |</think>\n| Value | Name |\n|--|--|\n| 105 kg | **a** |\n| null | B |")).toEqual(
      perfect,
    );
  });

  it("gives 0 without a table", async () => {
    expect((await evaluate(null)).itemF1).toBe(0);
    expect((await evaluate("sorry")).itemF1).toBe(0);
  });

  it("never throws on an answer", async () => {
    const piece = fc.constantFrom(
      "|",
      "---",
      "\n",
      "Name",
      "Value",
      "A",
      "100",
      "```markdown\n",
      "```",
      '"',
      " ",
      "</think>",
      "NaN",
      "\\",
    );
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string({ unit: "binary" }),
          fc.array(piece, { maxLength: 60 }).map((p) => p.join("")),
        ),
        async (text) => {
          expect((await evaluate(text)).itemF1).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("refuses a specification it cannot apply", async () => {
    const wrong = { ...evaluation, eval_pipeline: { name: { preprocess: [], metric: ["near_match"] } } };
    await expect(evaluateWideSearch("x", gold, wrong, judge, { fence: "last" })).rejects.toThrow(
      /metric "near_match"; known are/,
    );
  });
});
