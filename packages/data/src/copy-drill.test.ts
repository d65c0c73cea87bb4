import { describe, expect, it } from "vitest";
import { copyDrill } from "./copy-drill.ts";

const vocabulary = Array.from({ length: 300 }, (_, id) => id);

describe("copyDrill", () => {
  it("is fixed by seed and index", () => {
    expect(copyDrill(1, 2, vocabulary)).toEqual(copyDrill(1, 2, vocabulary));
    expect(copyDrill(1, 2, vocabulary)).not.toEqual(copyDrill(1, 3, vocabulary));
  });

  it("writes only items that were given, between separators", () => {
    for (let index = 0; index < 50; index++) {
      const { given, copied } = copyDrill(0, index, vocabulary);
      const known = new Set(given);
      const unknown = new Set([...copied].filter((id) => !known.has(id)));
      // A separator of the second listing has at most 6 tokens; everything else was given.
      expect(unknown.size).toBeLessThanOrEqual(6);
    }
  });

  it("uses ordinary tokens only", () => {
    const ids = vocabulary.slice(100);
    const { given, copied } = copyDrill(5, 5, ids);
    expect(Math.min(...given, ...copied)).toBeGreaterThanOrEqual(100);
  });
});
