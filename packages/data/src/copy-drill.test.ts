import { describe, expect, it } from "vitest";
import { copyDrill } from "./copy-drill.ts";

const vocabulary = Array.from({ length: 300 }, (_, id) => id);

describe("copyDrill", () => {
  it("is fixed by seed and index", () => {
    expect(copyDrill(1, 2, vocabulary)).toEqual(copyDrill(1, 2, vocabulary));
    expect(copyDrill(1, 2, vocabulary)).not.toEqual(copyDrill(1, 3, vocabulary));
  });

  it("asks for the given tokens twice more, ordinary tokens only", () => {
    const ids = vocabulary.slice(100);
    for (let index = 0; index < 50; index++) {
      const { given, copied } = copyDrill(5, index, ids);
      expect([...copied]).toEqual([...given, ...given]);
      expect(Math.min(...given)).toBeGreaterThanOrEqual(100);
    }
  });
});
