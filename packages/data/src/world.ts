// The embedded encyclopaedia: regions, what stands in them, and the pages that say so. Questions are in questions.ts.
import { SeededRandom } from "./random.ts";

/** A column of a table question and a fact on an entity's page. */
export interface Attribute {
  name: string;
  /** A closed set of words, or a range of whole numbers. */
  values: readonly string[] | { min: number; max: number };
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

const YEAR: Attribute["values"] = { min: 1200, max: 1999 };

export const KINDS: readonly Kind[] = [
  {
    singular: "mine",
    plural: "mines",
    attributes: [
      { name: "Metal", values: ["tin", "iron", "zinc", "gold", "lead", "silver", "copper", "nickel"] },
      { name: "Depth", values: { min: 20, max: 990 } },
      { name: "Opened", values: YEAR },
    ],
  },
  {
    singular: "bridge",
    plural: "bridges",
    attributes: [
      { name: "Material", values: ["stone", "brick", "steel", "timber", "concrete", "iron"] },
      { name: "Length", values: { min: 20, max: 990 } },
      { name: "Built", values: YEAR },
    ],
  },
  {
    singular: "lake",
    plural: "lakes",
    attributes: [
      { name: "Fish", values: ["trout", "pike", "carp", "perch", "eel", "salmon", "bream"] },
      { name: "Depth", values: { min: 2, max: 400 } },
      { name: "Area", values: { min: 10, max: 990 } },
    ],
  },
  {
    singular: "tower",
    plural: "towers",
    attributes: [
      { name: "Style", values: ["Gothic", "Baroque", "Norman", "Moorish", "Tudor", "modern"] },
      { name: "Height", values: { min: 12, max: 320 } },
      { name: "Built", values: YEAR },
    ],
  },
  {
    singular: "village",
    plural: "villages",
    attributes: [
      { name: "Crop", values: ["wheat", "barley", "rye", "oats", "maize", "hops", "flax"] },
      { name: "People", values: { min: 100, max: 9900 } },
      { name: "Founded", values: YEAR },
    ],
  },
];

const ONSETS = [
  "b",
  "d",
  "f",
  "g",
  "h",
  "k",
  "l",
  "m",
  "n",
  "p",
  "r",
  "s",
  "t",
  "v",
  "z",
  "br",
  "dr",
  "kr",
  "st",
  "tr",
];
const NUCLEI = ["a", "e", "i", "o", "u"];
const CODAS = ["", "", "", "n", "l", "r", "s", "m"];

/** Draws names of two syllables (60,000 different ones), each only once. */
class Namer {
  readonly #used = new Set<string>();
  readonly #random: SeededRandom;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  next(): string {
    for (;;) {
      const random = this.#random;
      const syllable = () => random.pick(ONSETS) + random.pick(NUCLEI);
      const word = syllable() + syllable() + random.pick(CODAS);
      const name = word.charAt(0).toUpperCase() + word.slice(1);
      if (!this.#used.has(name)) {
        this.#used.add(name);
        return name;
      }
    }
  }
}

/** Draws page addresses of five digits, each only once. */
function makeAddresses(random: SeededRandom): () => string {
  const used = new Set<number>();
  return () => {
    for (;;) {
      const address = random.integer(10_000, 99_999);
      if (!used.has(address)) {
        used.add(address);
        return `wiki/${address}`;
      }
    }
  };
}

/**
 * Generates the encyclopaedia of `options.seed`: a list page per region and kind, a page per entity, a page per region
 * that names neither (a distractor that shares the region's words).
 */
export function generateWorld(options: WorldOptions): World {
  const random = new SeededRandom("world", options.seed);
  const namer = new Namer(new SeededRandom("names", options.seed));
  const nextUrl = makeAddresses(new SeededRandom("addresses", options.seed));
  const trainRegions = Array.from({ length: options.numTrainRegions }, () => namer.next());
  const heldOutRegions = Array.from({ length: options.numHeldOutRegions }, () => namer.next());
  const entities: Entity[] = [];
  const pages: Page[] = [];
  for (const region of [...trainRegions, ...heldOutRegions]) {
    pages.push(regionPage(region, nextUrl(), random));
    for (const kind of KINDS) {
      const numEntities = 1 + random.weighted([0.3, 0.45, 0.25]);
      const members = Array.from({ length: numEntities }, () =>
        makeEntity(namer.next(), kind, region, nextUrl(), random),
      );
      entities.push(...members);
      pages.push(listPage(region, kind, members, nextUrl()), ...members.map(entityPage));
    }
  }
  return { trainRegions, heldOutRegions, kinds: KINDS, entities, pages };
}

function makeEntity(name: string, kind: Kind, region: string, url: string, random: SeededRandom): Entity {
  const facts = new Map(
    kind.attributes.map((attribute) => {
      const { values } = attribute;
      const value = "min" in values ? String(random.integer(values.min, values.max)) : random.pick(values);
      return [attribute.name, value];
    }),
  );
  return { name, kind, region, url, facts };
}

function regionPage(region: string, url: string, random: SeededRandom): Page {
  const direction = random.pick(["north", "south", "east", "west"]);
  return { url, title: region, contents: `The region ${region} lies in the ${direction}.` };
}

function listPage(region: string, kind: Kind, members: readonly Entity[], url: string): Page {
  const title = `List of ${kind.plural} in ${region}`;
  return { url, title, contents: `${title}: ${members.map((entity) => `${entity.name} ${entity.url}`).join(", ")}.` };
}

function entityPage(entity: Entity): Page {
  const facts = [...entity.facts].map(([name, value]) => `${name}: ${value}.`).join(" ");
  const title = `The ${entity.kind.singular} ${entity.name}`;
  return { url: entity.url, title, contents: `${title} in ${entity.region}. ${facts}` };
}
