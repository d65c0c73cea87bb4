// The embedded encyclopaedia: regions, what stands in them, and the pages that say so. Questions are in questions.ts.
import { markdownTable } from "./markdown-table.ts";
import { SeededRandom } from "./random.ts";

/** A column of a table question and a fact on an entity's page. */
export interface Attribute {
  name: string;
  values: readonly string[];
}

/** A kind of entity, e.g. mines. */
export interface Kind {
  singular: string;
  plural: string;
  attributes: readonly Attribute[];
}

export interface Entity {
  name: string;
  kind: Kind;
  region: string;
  url: string;
  /** Attribute name to value, in the order of `kind.attributes`. */
  facts: ReadonlyMap<string, string>;
}

export interface Page {
  url: string;
  title: string;
  contents: string;
}

export interface World {
  /** Regions whose entities training questions may ask for. */
  trainRegions: readonly string[];
  /** Regions, and so entities, that no training question mentions. */
  heldOutRegions: readonly string[];
  kinds: readonly Kind[];
  entities: readonly Entity[];
  pages: readonly Page[];
}

export interface WorldOptions {
  seed: number;
  numTrainRegions: number;
  numHeldOutRegions: number;
}

const CENTURY = ["twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth"];

export const KINDS: readonly Kind[] = [
  {
    singular: "mine",
    plural: "mines",
    attributes: [
      { name: "Metal", values: ["tin", "iron", "zinc", "gold", "lead", "silver", "copper", "nickel"] },
      { name: "Owner", values: ["crown", "guild", "abbey", "bank", "town", "prince", "state"] },
      { name: "Opened", values: CENTURY },
    ],
  },
  {
    singular: "bridge",
    plural: "bridges",
    attributes: [
      { name: "Material", values: ["stone", "brick", "steel", "timber", "concrete", "iron", "rope"] },
      { name: "Road", values: ["north", "south", "east", "west", "coast", "forest", "royal"] },
      { name: "Built", values: CENTURY },
    ],
  },
  {
    singular: "lake",
    plural: "lakes",
    attributes: [
      { name: "Fish", values: ["trout", "pike", "carp", "perch", "eel", "salmon", "bream"] },
      { name: "Colour", values: ["green", "blue", "brown", "black", "grey", "white", "red"] },
      { name: "Mapped", values: CENTURY },
    ],
  },
  {
    singular: "tower",
    plural: "towers",
    attributes: [
      { name: "Style", values: ["Gothic", "Baroque", "Norman", "Moorish", "Tudor", "modern"] },
      { name: "Use", values: ["prison", "clock", "light", "watch", "church", "school", "museum"] },
      { name: "Built", values: CENTURY },
    ],
  },
  {
    singular: "village",
    plural: "villages",
    attributes: [
      { name: "Crop", values: ["wheat", "barley", "rye", "oats", "maize", "hops", "flax"] },
      { name: "Craft", values: ["lace", "glass", "bells", "paper", "boats", "clay", "wool"] },
      { name: "Founded", values: CENTURY },
    ],
  },
];

const CONSONANTS = [..."bdfgklmnprstvz"];
const VOWELS = [..."aeiou"];
const CODAS = [..."lnrsmtk"];
/** Syllables that names begin and end with; 150 of each make 22,500 names. */
const NUM_SYLLABLES = 150;

/** Draws names of two closed syllables, each name only once. */
class Namer {
  readonly #used = new Set<string>();
  readonly #random: SeededRandom;
  readonly #first: readonly string[];
  readonly #last: readonly string[];

  constructor(random: SeededRandom) {
    this.#random = random;
    const syllables = CONSONANTS.flatMap((onset) =>
      VOWELS.flatMap((vowel) => CODAS.map((coda) => onset + vowel + coda)),
    );
    const chosen = random.sample(syllables, 2 * NUM_SYLLABLES);
    this.#first = chosen
      .slice(0, NUM_SYLLABLES)
      .map((syllable) => syllable.charAt(0).toUpperCase() + syllable.slice(1));
    this.#last = chosen.slice(NUM_SYLLABLES);
  }

  next(): string {
    if (this.#used.size === NUM_SYLLABLES ** 2) {
      throw new RangeError("the world has too many regions for its names; some 2000 regions are the most");
    }
    for (;;) {
      const name = this.#random.pick(this.#first) + this.#random.pick(this.#last);
      if (!this.#used.has(name)) {
        this.#used.add(name);
        return name;
      }
    }
  }
}

/**
 * Generates the encyclopaedia of `options.seed`: a list page per region and kind, a page per entity, a page per region
 * that names neither (a distractor that shares the region's words).
 * @throws RangeError when there are more regions and entities than names
 */
export function generateWorld(options: WorldOptions): World {
  const random = new SeededRandom("world", options.seed);
  const namer = new Namer(new SeededRandom("names", options.seed));
  const trainRegions = Array.from({ length: options.numTrainRegions }, () => namer.next());
  const heldOutRegions = Array.from({ length: options.numHeldOutRegions }, () => namer.next());
  const entities: Entity[] = [];
  const pages: Page[] = [];
  for (const region of [...trainRegions, ...heldOutRegions]) {
    pages.push(regionPage(region, random));
    for (const kind of KINDS) {
      const numEntities = 1 + random.weighted([0.3, 0.45, 0.25]);
      const members = Array.from({ length: numEntities }, () => makeEntity(namer.next(), kind, region, random));
      entities.push(...members);
      pages.push(listPage(region, kind, members), ...members.map(entityPage));
    }
  }
  return { trainRegions, heldOutRegions, kinds: KINDS, entities, pages };
}

function makeEntity(name: string, kind: Kind, region: string, random: SeededRandom): Entity {
  const facts = new Map(kind.attributes.map((attribute) => [attribute.name, random.pick(attribute.values)]));
  return { name, kind, region, url: `wiki/${name}`, facts };
}

function regionPage(region: string, random: SeededRandom): Page {
  const direction = random.pick(["north", "south", "east", "west"]);
  return { url: `wiki/${region}`, title: region, contents: `The region ${region} lies in the ${direction}.` };
}

/** Links only: what an entity is like stands on its own page. */
function listPage(region: string, kind: Kind, members: readonly Entity[]): Page {
  const title = `List of ${kind.plural} in ${region}`;
  const url = `wiki/${region}/${kind.plural}`;
  return { url, title, contents: `${title}: ${members.map((entity) => entity.url).join(", ")}.` };
}

/** The columns that a table of this kind has, and an entity's own page with it. */
export function columnsOf(kind: Kind): string[] {
  return ["Name", "Region", ...kind.attributes.map((attribute) => attribute.name)];
}

export function rowOf(entity: Entity): string[] {
  return [entity.name, entity.region, ...entity.facts.values()];
}

function entityPage(entity: Entity): Page {
  const title = `The ${entity.kind.singular} ${entity.name}`;
  const facts = [...entity.facts].map(([name, value]) => `${name}: ${value}.`).join(" ");
  const contents = `${title}\n${markdownTable(columnsOf(entity.kind), [rowOf(entity)])}\n${facts}`;
  return { url: entity.url, title, contents };
}
