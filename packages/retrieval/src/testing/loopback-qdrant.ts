// A server on loopback that answers the few requests of Qdrant's REST interface that we make, by exact search, and
// records them. For tests and benchmarks where no Qdrant can be had.
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { Schemas } from "@qdrant/js-client-rest";

export interface RecordedRequest {
  method: string;
  /** With the query string. */
  path: string;
  headers: Readonly<Record<string, unknown>>;
  body: unknown;
}

interface Point {
  id: number;
  vector: Float32Array;
  payload: Schemas["Payload"];
}

interface Collection {
  vectors: { size: number; distance: Schemas["Distance"] };
  points: Map<number, Point>;
}

type Answer = { status: number; body: unknown };

export class LoopbackQdrant implements AsyncDisposable {
  readonly requests: RecordedRequest[] = [];
  readonly collections: Map<string, Collection> = new Map();
  /** Statuses that the next looks at a collection say, before "green". */
  readonly statuses: Schemas["CollectionStatus"][] = [];
  /** What the next requests get instead of their own answer; "cut" closes the connection without one. */
  readonly failures: (Answer | "cut")[] = [];
  #url = "";
  readonly #server = createServer(async (request, response) => {
    const recorded = await this.#record(request);
    const failure = this.failures.shift();
    if (failure === "cut") {
      request.socket.destroy();
      return;
    }
    const { status, body } = failure ?? this.#answer(recorded);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  });

  get url(): string {
    return this.#url;
  }

  static async start(): Promise<LoopbackQdrant> {
    const qdrant = new LoopbackQdrant();
    await new Promise<void>((resolve) => qdrant.#server.listen(0, "127.0.0.1", resolve));
    qdrant.#url = `http://127.0.0.1:${(qdrant.#server.address() as AddressInfo).port}`;
    return qdrant;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #record(request: IncomingMessage): Promise<RecordedRequest> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString("utf8");
    const { method = "", url = "", headers } = request;
    const recorded = { method, path: url, headers, body: text === "" ? null : (JSON.parse(text) as unknown) };
    this.requests.push(recorded);
    return recorded;
  }

  #answer({ method, path, body }: RecordedRequest): Answer {
    const { pathname } = new URL(path, "http://qdrant");
    const [, name = "", action = ""] = /^\/collections\/([^/]+)(.*)$/.exec(pathname) ?? [];
    const collection = this.collections.get(name);
    if (method === "PUT" && action === "") {
      const { vectors } = body as { vectors: Collection["vectors"] };
      this.collections.set(name, { vectors, points: new Map() });
      return ok(true);
    }
    if (collection === undefined) {
      const error = `Not found: Collection \`${name}\` doesn't exist!`;
      return { status: 404, body: { status: { error }, time: 0 } };
    }
    if (method === "GET" && action === "") {
      const { vectors, points } = collection;
      return ok(collectionInfo(this.statuses.shift() ?? "green", vectors, points.size));
    }
    if (method === "PATCH" && action === "") return ok(true);
    if (method === "PUT" && action === "/points") return this.#upsert(collection, body);
    if (method === "POST" && action === "/points/query/batch") {
      const { searches } = body as { searches: { query: number[]; limit: number }[] };
      const found = searches.map(({ query, limit }) => ({ points: nearest(collection, query, limit) }));
      return ok(found satisfies Schemas["QueryResponse"][]);
    }
    return { status: 404, body: { status: { error: `${method} ${path}: not here` }, time: 0 } };
  }

  #upsert({ vectors, points }: Collection, body: unknown): Answer {
    const { points: added } = body as { points: (Omit<Point, "vector"> & { vector: number[] })[] };
    const wrong = added.find(({ vector }) => vector.length !== vectors.size);
    if (wrong !== undefined) {
      const error = `Wrong input: Vector dimension error: expected dim: ${vectors.size}, got ${wrong.vector.length}`;
      return { status: 400, body: { status: { error }, time: 0 } };
    }
    for (const { id, vector, payload } of added) points.set(id, { id, payload, vector: Float32Array.from(vector) });
    return ok({ operation_id: points.size, status: "completed" } satisfies Schemas["UpdateResult"]);
  }
}

const ok = (result: unknown): Answer => ({ status: 200, body: { result, status: "ok", time: 0 } });

/** Settings that we never look at are what Qdrant 1.19.1 says of a small collection. */
function collectionInfo(
  status: Schemas["CollectionStatus"],
  vectors: Collection["vectors"],
  numPoints: number,
): Schemas["CollectionInfo"] {
  return {
    status,
    optimizer_status: "ok",
    indexed_vectors_count: 0,
    points_count: numPoints,
    segments_count: 12,
    config: {
      params: {
        vectors,
        shard_number: 1,
        replication_factor: 1,
        write_consistency_factor: 1,
        on_disk_payload: true,
      },
      hnsw_config: {
        m: 16,
        ef_construct: 100,
        full_scan_threshold: 10_000,
        max_indexing_threads: 0,
        on_disk: false,
      },
      optimizer_config: {
        deleted_threshold: 0.2,
        vacuum_min_vector_number: 1000,
        default_segment_number: 0,
        max_segment_size: null,
        memmap_threshold: null,
        indexing_threshold: 10_000,
        flush_interval_sec: 5,
        max_optimization_threads: null,
      },
      wal_config: { wal_capacity_mb: 32, wal_segments_ahead: 0 },
      quantization_config: null,
    },
    payload_schema: {},
  };
}

function nearest({ points }: Collection, query: readonly number[], limit: number): Schemas["ScoredPoint"][] {
  const best: { point: Point; score: number }[] = [];
  for (const point of points.values()) {
    let score = 0;
    for (let i = 0; i < query.length; i += 1) score += (query[i] as number) * (point.vector[i] as number);
    if (best.length === limit && score <= (best.at(-1)?.score as number)) continue;
    const at = best.findIndex((other) => other.score < score);
    best.splice(at === -1 ? best.length : at, 0, { point, score });
    if (best.length > limit) best.pop();
  }
  return best.map(({ point: { id, payload }, score }) => ({ id, version: 0, score, payload }));
}
