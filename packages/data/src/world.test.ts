import { describe, expect, it } from "vitest";
import { generateQuestions } from "./questions.ts";
import { generateWorld } from "./world.ts";

const options = { seed: 7, numTrainRegions: 30, numHeldOutRegions: 12 };
const world = generateWorld(options);
const questions = { seed: 1, numTableTasks: 20, numQaTasks: 10, minRegions: 4, maxRegions: 8 };

describe("generateWorld", () => {
  it("is fixed by its seed", () => {
    expect(generateWorld(options)).toEqual(world);
    expect(generateWorld({ ...options, seed: 8 }).entities[0]).not.toEqual(world.entities[0]);
  });

  it("gives every name and address once", () => {
    const names = world.entities.map((entity) => entity.name).concat(world.trainRegions, world.heldOutRegions);
    expect(new Set(names).size).toBe(names.length);
    expect(new Set(world.pages.map((page) => page.url)).size).toBe(world.pages.length);
  });

  it("says so when there are more regions than names", () => {
    expect(() => generateWorld({ ...options, numTrainRegions: 3000 })).toThrow(RangeError);
  });

  it("lists every entity on the list page of its region and kind", () => {
    for (const entity of world.entities) {
      const list = world.pages.find((page) => page.title === `List of ${entity.kind.plural} in ${entity.region}`);
      expect(list?.contents).toContain(entity.url);
    }
  });
});

describe("generateQuestions", () => {
  const train = generateQuestions(world, { ...questions, split: "train" });
  const heldOut = generateQuestions(world, { ...questions, split: "heldOut" });

  it("asks held-out questions about entities that no training question mentions", () => {
    const seen = new Set(train.flatMap((task) => JSON.stringify(task).match(/[A-Z][a-z]+/g) ?? []));
    const heldOutNames = world.entities.filter((entity) => world.heldOutRegions.includes(entity.region));
    expect(heldOutNames.filter((entity) => seen.has(entity.name) || seen.has(entity.region))).toEqual([]);
    expect(heldOut.length).toBe(30);
  });

  it("puts exactly the entities of the asked regions in the gold table", () => {
    for (const task of heldOut) {
      if (task.kind !== "table") continue;
      const [, plural, regions] = /All (\w+) in (.+)\. Columns/.exec(task.question) ?? [];
      const expected = world.entities.filter(
        (entity) => entity.kind.plural === plural && regions?.split(", ").includes(entity.region),
      );
      const names = [...task.answer.matchAll(/^\|(\w+)\|\w+\|/gm)].map((match) => match[1]).slice(1);
      expect(names.sort()).toEqual(expected.map((entity) => entity.name).sort());
    }
  });

  it("says so when the world has too few different questions", () => {
    expect(() => generateQuestions(world, { ...questions, split: "heldOut", numQaTasks: 1000 })).toThrow(RangeError);
  });
});
