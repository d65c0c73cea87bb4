// Passages for retrieval benchmarks: OTT-QA's own, then variations of them up to any number. Owns no index.
import { createReadStream, createWriteStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";

export interface Passage {
  url: string;
  title: string;
  contents: string;
}

/** `/wiki/Prime_Suspect` as words. */
export function titleOf(link: string): string {
  const name = link.replace(/^\/wiki\//, "");
  try {
    return decodeURIComponent(name).replaceAll("_", " ");
  } catch {
    return name.replaceAll("_", " ");
  }
}

export function passageOf({ link, text }: { link: string; text: string }): Passage {
  return { url: `https://en.wikipedia.org${link}`, title: titleOf(link), contents: text };
}

export async function* readJsonLines<T>(path: string): AsyncGenerator<T, void, void> {
  const file = createReadStream(path);
  const input = path.endsWith(".gz") ? file.pipe(createGunzip()) : file;
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) yield JSON.parse(line) as T;
}

/** Uniform integers in [0, limit), the same in every run. */
export function integerSource(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/**
 * Writes `count` passages as JSONL: all of OTT-QA, then passages of real length whose sentences come from passages
 * drawn at random, so that word frequencies and lengths stay those of the real text while no two rows are alike.
 */
export async function writePassages(dataDirectory: string, path: string, count: number): Promise<void> {
  const real: Passage[] = [];
  for await (const line of readJsonLines<{ link: string; text: string }>(
    join(dataDirectory, "ottqa/passages.jsonl.gz"),
  )) {
    real.push(passageOf(line));
  }
  const draw = integerSource(5);
  const sentences = real.map(({ contents }) => contents.split(/(?<= \.) /));
  const lines = function* (): Generator<string> {
    for (let row = 0; row < count; row += 1) {
      const source = real[row % real.length] as Passage;
      if (row < real.length) {
        yield `${JSON.stringify(source)}\n`;
        continue;
      }
      const own = sentences[row % real.length] as string[];
      const mixed = own.map((sentence) => {
        if (draw(4) === 0) return sentence;
        const other = sentences[draw(sentences.length)] as string[];
        return other[draw(other.length)] as string;
      });
      const words = source.title.split(" ");
      const title = [...words, ...titleOf((real[draw(real.length)] as Passage).title).split(" ")]
        .filter(() => draw(2) === 0)
        .join(" ");
      const copy = Math.floor(row / real.length);
      yield `${JSON.stringify({ url: `${source.url}?variation=${copy}`, title, contents: mixed.join(" ") })}\n`;
    }
  };
  await pipeline(lines, createWriteStream(path));
}
