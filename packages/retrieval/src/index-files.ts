// Layout of an index folder: names, magic numbers, byte layouts of dictionary and postings. Owns no logic.
import { join } from "node:path";
import { z } from "zod";

export const formatVersion = 1;
/** Entries of a dictionary block; the first term of each block is held in memory. */
export const blockTerms = 64;
/** In a segment with more postings than this, one byte for every row is smaller than rows and frequencies. */
export const denseCount = 21_845;
/** Rows of a window: a segment with enough postings of a term has a bound of its score for each window. */
export const windowShift = 10;
export const windowRows: number = 1 << windowShift;
export const segmentWindows: number = 65_536 / windowRows;
/** Postings of a term in a segment from which on its windows have bounds; below, they are seen from the rows. */
export const boundedCount = 128;
/** Set in a count: the frequencies are one byte for each row of the segment. */
export const denseFlag = 0x8000_0000;
/** Fixed part of a dictionary entry after its name: df u32, offset f64, bytes u32, third and tenth best score f32. */
export const entryBytes = 24;
/** Fixed part of postings for each segment: segment u32, count u32, best score f32. */
export const postingsHeaderBytes = 12;

export const indexFiles = (directory: string) => ({
  manifest: join(directory, "index.json"),
  store: join(directory, "records.sqlite"),
  segments: join(directory, "segments"),
  lengths: join(directory, "lengths.bin"),
  postings: join(directory, "postings.bin"),
  dictionary: join(directory, "dictionary.bin"),
  blocks: join(directory, "blocks.bin"),
});

export const manifestSchema = z.strictObject({
  format: z.literal("wideseek-bm25"),
  version: z.literal(formatVersion),
  /** Records of the corpus, empty ones included. */
  numRows: z.int().min(1),
  /** Records with at least one term. */
  numIndexed: z.int().min(1),
  totalLength: z.int().min(1),
  numTerms: z.int().min(1),
  numPages: z.int().min(0),
});
export type IndexManifest = z.output<typeof manifestSchema>;
