// The parts of a long page that speak of a question. Owns cutting and ranking by words; no model.

export interface ChunkSettings {
  chunkWords: number;
  overlapWords: number;
  maxChunks: number;
}

/** The best chunks in the order of the page. Chunks that share more different words with `query` are better. */
export function relevantChunks(page: string, query: string, settings: ChunkSettings): string[] {
  const { chunkWords, maxChunks } = settings;
  const overlapWords = Math.min(settings.overlapWords, chunkWords - 1);
  // A run without spaces (Chinese) has no words to cut at: pieces of it stand for them.
  const words = page.split(/(?<=\s)/).flatMap((word) => word.match(/[\s\S]{1,64}/g) ?? []);
  const chunks: string[] = [];
  for (let start = 0; start === 0 || start + overlapWords < words.length; start += chunkWords - overlapWords) {
    chunks.push(words.slice(start, start + chunkWords).join(""));
  }
  const asked = new Set(terms(query));
  const ranked = chunks.map((text, index) => ({
    text,
    index,
    score: new Set(terms(text).filter((term) => asked.has(term))).size,
  }));
  return ranked
    .sort((a, b) => b.score - a.score || a.index - b.index)
    .slice(0, maxChunks)
    .sort((a, b) => a.index - b.index)
    .map(({ text }) => text.trim());
}

/** Words in lower case; of scripts without spaces, single characters. */
function terms(text: string): string[] {
  return text.toLowerCase().match(/[\u2e80-\u9fff\uac00-\ud7af]|[\p{L}\p{N}]+/gu) ?? [];
}
