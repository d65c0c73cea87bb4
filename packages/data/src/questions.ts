// Broad table questions and single-fact questions over the embedded encyclopaedia, split by region.
import type { QaTask, TableTask, Task } from "@wideseek/spec";
import { markdownTable } from "./markdown-table.ts";
import { SeededRandom } from "./random.ts";
import { columnsOf, type Entity, type Kind, rowOf, type World } from "./world.ts";

export interface QuestionOptions {
  seed: number;
  split: "train" | "heldOut";
  numTableTasks: number;
  numQaTasks: number;
  /** Regions that one table question spans. */
  minRegions: number;
  maxRegions: number;
}

/** Draws different questions of one split; the order is the file order: tables first. */
export function generateQuestions(world: World, options: QuestionOptions): Task[] {
  const random = new SeededRandom("questions", options.split, options.seed);
  const regions = options.split === "train" ? world.trainRegions : world.heldOutRegions;
  const entities = world.entities.filter((entity) => regions.includes(entity.region));
  const byPlace = new Map<string, Entity[]>();
  for (const entity of entities) {
    const place = placeOf(entity.kind, entity.region);
    byPlace.set(place, [...(byPlace.get(place) ?? []), entity]);
  }
  const tables = distinct(options.numTableTasks, (index) => {
    const kind = random.pick(world.kinds);
    const chosen = random.sample(regions, random.integer(options.minRegions, options.maxRegions));
    const rows = chosen.flatMap((region) => byPlace.get(placeOf(kind, region)) ?? []);
    return tableTask(`${options.split}-table-${index}`, kind, chosen, rows);
  });
  const facts = distinct(options.numQaTasks, (index) =>
    qaTask(`${options.split}-qa-${index}`, random.pick(entities), random),
  );
  return [...tables, ...facts];
}

function placeOf(kind: Kind, region: string): string {
  return `${kind.plural} in ${region}`;
}

function distinct<T extends Task>(count: number, draw: (index: number) => T): T[] {
  const byQuestion = new Map<string, T>();
  for (let attempts = 0; byQuestion.size < count; attempts++) {
    if (attempts > 100 * count) {
      throw new RangeError(`the world is too small for ${count} different questions; raise its number of regions`);
    }
    const task = draw(byQuestion.size);
    if (!byQuestion.has(task.question)) byQuestion.set(task.question, task);
  }
  return [...byQuestion.values()];
}

function tableTask(instanceId: string, kind: Kind, regions: readonly string[], rows: readonly Entity[]): TableTask {
  const columns = columnsOf(kind);
  return {
    kind: "table",
    instanceId,
    question: `All ${kind.plural} in ${regions.join(", ")}. Columns: ${columns.join(", ")}`,
    language: "en",
    answer: `\`\`\`markdown\n${markdownTable(columns, rows.map(rowOf))}\n\`\`\``,
    uniqueColumns: ["Name"],
    requiredColumns: columns,
  };
}

function qaTask(instanceId: string, entity: Entity, random: SeededRandom): QaTask {
  const [attribute, value] = random.pick([...entity.facts]);
  return {
    kind: "qa",
    instanceId,
    question: `${attribute} of the ${entity.kind.singular} ${entity.name}?`,
    language: "en",
    answers: [value],
  };
}
