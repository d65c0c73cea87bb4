// From the record store to a Qdrant collection, going on where it was stopped. Owns the cursor.
import type { BuildProgress } from "./build-index.ts";
import type { QdrantCollection, TextEncoder, VectorPoint } from "./qdrant.ts";
import type { RecordStore } from "./record-store.ts";

export interface IndexVectorsOptions {
  store: RecordStore;
  collection: QdrantCollection;
  encoder: TextEncoder;
  onProgress?: ((progress: Omit<BuildProgress, "stage"> & { stage: "vectors" }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Embeds the contents of every record and writes it with its row as id and the whole record as payload; records without
 * text are left out. Resolves when the collection is green.
 * @returns points written by this call
 * @throws as `QdrantCollection`; what has been written stays, and the next call goes on after it
 */
export async function indexVectors(options: IndexVectorsOptions): Promise<number> {
  const { store, collection, encoder, onProgress, signal } = options;
  const { url, collection: name, upsertBatch } = collection.options;
  await collection.create(encoder.dimension);
  const key = `vectors in ${url} ${name}`;
  const total = store.count("records");
  let next = Number(store.getState(key) ?? 0);
  let numWritten = 0;
  while (next < total) {
    signal?.throwIfAborted();
    const end = Math.min(next + upsertBatch, total);
    const records = [...store.records(next, end)]
      .map(({ id, json }) => ({ id, payload: JSON.parse(json) as Record<string, unknown> & { contents: string } }))
      .filter(({ payload }) => payload.contents.trim() !== "");
    const vectors = await encoder.encodePassages(records.map(({ payload }) => payload.contents));
    const points: VectorPoint[] = records.map((record, i) => ({ ...record, vector: vectors[i] as Float32Array }));
    if (points.length > 0) await collection.upsert(points);
    // Only now: a point that is written twice is replaced, one that is never written is lost.
    store.setState(key, end);
    next = end;
    numWritten += points.length;
    onProgress?.({ stage: "vectors", done: next, total, unit: "passages" });
  }
  await collection.waitUntilReady({ resume: true, signal });
  return numWritten;
}
