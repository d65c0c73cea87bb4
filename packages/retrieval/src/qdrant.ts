// A Qdrant collection through the official client: made, filled and searched as published. Owns no vectors.
import { setTimeout as timersSleep } from "node:timers/promises";
import { QdrantClient } from "@qdrant/js-client-rest";
import { errorMessage, invalidInput, WideSeekError } from "@wideseek/spec";
import { type QdrantOptions, type QdrantOptionsInput, qdrantSchema } from "./options.ts";
import type { FoundRecord, Retriever } from "./retriever.ts";

/** What turns texts into vectors. */
export interface TextEncoder {
  readonly dimension: number;
  encodeQueries(queries: readonly string[]): Promise<Float32Array[]>;
  encodePassages(passages: readonly string[]): Promise<Float32Array[]>;
}

export interface VectorPoint {
  /** Row of the corpus. */
  id: number;
  vector: Float32Array;
  /** The whole record. */
  payload: Record<string, unknown>;
}

/** Waits; a parameter, so that tests need not. */
export type Sleep = (milliseconds: number, signal?: AbortSignal) => Promise<void>;

const realSleep: Sleep = (milliseconds, signal) =>
  timersSleep(milliseconds, undefined, signal === undefined ? {} : { signal });
const pollMs = 1000;

export class QdrantCollection {
  readonly options: QdrantOptions;
  readonly #client: QdrantClient;
  readonly #sleep: Sleep;

  /** Connects at the first call. `apiKey` never appears in messages. @throws WS_INVALID_ARGUMENT naming the option */
  constructor(input: QdrantOptionsInput, apiKey?: string | undefined, sleep: Sleep = realSleep) {
    const parsed = qdrantSchema.safeParse(input);
    if (!parsed.success) throw invalidInput("qdrant", parsed.error, input);
    this.options = parsed.data;
    this.#sleep = sleep;
    this.#client = new QdrantClient({
      url: parsed.data.url,
      timeout: parsed.data.timeoutSeconds * 1000,
      checkCompatibility: false,
      ...(apiKey === undefined ? {} : { apiKey }),
    });
  }

  /** Makes the collection unless it is there. @throws WS_INVALID_ARGUMENT when it has other vectors, WS_IO */
  async create(dimension: number): Promise<void> {
    const { collection, hnswM, hnswEfConstruct } = this.options;
    if ((await this.#facts()) === null) {
      await this.#call("make the collection", () =>
        this.#client.createCollection(collection, {
          vectors: { size: dimension, distance: "Cosine" },
          hnsw_config: { m: hnswM, ef_construct: hnswEfConstruct },
          on_disk_payload: true,
        }),
      );
    }
    await this.requireVectors(dimension);
  }

  /** @throws WS_IO without the collection, WS_INVALID_ARGUMENT when its vectors are not of this kind */
  async requireVectors(dimension: number): Promise<void> {
    const { collection, url } = this.options;
    const facts = await this.#facts();
    if (facts === null) throw this.#missing();
    if (facts.size !== dimension || facts.distance !== "Cosine") {
      const has = `vectors of ${facts.size} numbers by ${facts.distance} distance`;
      const message = `${url}: collection ${collection} has ${has}, the encoder gives ${dimension} for Cosine`;
      throw new WideSeekError("WS_INVALID_ARGUMENT", message, { details: { collection, ...facts, dimension } });
    }
  }

  /** Writes points; an id that is there already is replaced. */
  async upsert(points: readonly VectorPoint[]): Promise<void> {
    await this.#call("write points", () =>
      this.#client.upsert(this.options.collection, {
        wait: true,
        points: points.map(({ id, vector, payload }) => ({ id, vector: [...vector], payload })),
      }),
    );
  }

  /**
   * Resolves when all segments are optimised ("green"). After a restart of Qdrant unfinished optimisations are pending
   * ("grey") until something is written: with `resume` they are started again, and however long they take is waited for;
   * without it the collection is taken as it is, since it can be searched.
   * @throws WS_TIMEOUT after `readySeconds`, WS_IO, also when Qdrant says that something failed for good ("red")
   */
  async waitUntilReady({ resume, signal }: { resume: boolean; signal?: AbortSignal | undefined }): Promise<void> {
    const { collection, readySeconds, url } = this.options;
    for (let waited = 0; ; ) {
      signal?.throwIfAborted();
      const facts = await this.#facts();
      if (facts === null) throw this.#missing();
      const { status } = facts;
      if (status === "green" || (status === "grey" && !resume)) return;
      if (status === "red") {
        const message = `${url}: collection ${collection} is red: operations failed and were not recovered`;
        throw new WideSeekError("WS_IO", `${message}; see the log of Qdrant`, { details: { collection } });
      }
      if (status === "grey") await this.#resumeOptimisations();
      if (waited >= readySeconds) {
        const message = `${url}: collection ${collection} is still ${status} after ${readySeconds} s`;
        throw new WideSeekError("WS_TIMEOUT", `${message}; raise readySeconds if it is large`);
      }
      await this.#sleep(pollMs, signal);
      if (!(resume && status === "yellow")) waited += pollMs / 1000;
    }
  }

  /** Any update does; this one changes nothing. */
  async #resumeOptimisations(): Promise<void> {
    await this.#call("resume optimisations", () =>
      this.#client.updateCollection(this.options.collection, { optimizers_config: {} }),
    );
  }

  /** The nearest points of each vector, best first. */
  async search(vectors: readonly Float32Array[], count: number): Promise<FoundRecord[][]> {
    const { collection, hnswEf } = this.options;
    const answers = await this.#call("search", () =>
      this.#client.queryBatch(collection, {
        searches: vectors.map((vector) => ({
          query: [...vector],
          limit: count,
          params: { hnsw_ef: hnswEf },
          with_payload: true,
        })),
      }),
    );
    return answers.map(({ points }) =>
      points.map(({ id, score, payload }) => ({ id: Number(id), score, json: JSON.stringify(payload ?? {}) })),
    );
  }

  async #facts(): Promise<{ status: string; size: number | undefined; distance: string | undefined } | null> {
    const { collection } = this.options;
    return this.#call("look the collection up", async () => {
      try {
        const { status, config } = await this.#client.getCollection(collection);
        const vectors = config.params.vectors as { size?: number; distance?: string } | undefined;
        return { status, size: vectors?.size, distance: vectors?.distance };
      } catch (error) {
        if ((error as { status?: unknown }).status === 404) return null;
        throw error;
      }
    });
  }

  async #call<T>(op: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (cause) {
      if (cause instanceof WideSeekError) throw cause;
      const { status, data } = cause as { status?: number; data?: { status?: { error?: unknown } } };
      if (status === 404) throw this.#missing();
      const reason =
        data?.status?.error ?? (cause as { cause?: { code?: unknown } }).cause?.code ?? errorMessage(cause);
      const message = `${this.options.url}: Qdrant cannot ${op}: ${status === undefined ? "" : `status ${status}: `}${String(reason)}`;
      throw new WideSeekError("WS_IO", message, { op });
    }
  }

  #missing(): WideSeekError {
    const { collection, url } = this.options;
    return new WideSeekError("WS_IO", `${url}: no collection ${collection}; fill it with \`wideseek index --qdrant\``);
  }
}

/** Dense search: queries are encoded together and asked in one request. Owns the encoder if it is disposable. */
export class QdrantRetriever implements Retriever {
  readonly #collection: QdrantCollection;
  readonly #encoder: TextEncoder & Partial<AsyncDisposable>;

  constructor(collection: QdrantCollection, encoder: TextEncoder & Partial<AsyncDisposable>) {
    this.#collection = collection;
    this.#encoder = encoder;
  }

  async retrieve(queries: readonly string[], count: number, signal?: AbortSignal): Promise<FoundRecord[][]> {
    const vectors = await this.#encoder.encodeQueries(queries);
    signal?.throwIfAborted();
    return this.#collection.search(vectors, count);
  }

  check(): Promise<void> {
    return this.#collection.requireVectors(this.#encoder.dimension);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#encoder[Symbol.asyncDispose]?.();
  }
}
