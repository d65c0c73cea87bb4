// The retrieval server: `POST /retrieve`, `POST /access`, the published interface, and `GET /health`. Owns HTTP and its
// limits, not the search.
import type { AddressInfo } from "node:net";
import { describeIssue, errorMessage, WideSeekError } from "@wideseek/spec";
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from "fastify";
import { z } from "zod";
import type { ServerLimits } from "./options.ts";
import type { FoundRecord, PageSource, Retriever } from "./retriever.ts";

export interface RetrievalServerOptions {
  retriever: Retriever;
  pages: PageSource;
  limits: ServerLimits;
  host: string;
  /** 0 = any free one. */
  port: number;
}

export interface RetrievalServer extends AsyncDisposable {
  /** `http://host:port` */
  readonly url: string;
  /** Refuses new requests, answers those in flight, closes connections. Does not close retriever and pages. */
  close(): Promise<void>;
}

/** Starts to listen. @throws WS_IO when the address is taken */
export async function serveRetrieval(options: RetrievalServerOptions): Promise<RetrievalServer> {
  const { host, port } = options;
  const app = retrievalApp(options);
  try {
    await app.listen({ host, port });
  } catch (cause) {
    const isTaken = (cause as NodeJS.ErrnoException).code === "EADDRINUSE";
    const reason = isTaken ? "another program listens there; take another port (--port)" : errorMessage(cause);
    throw new WideSeekError("WS_IO", `${host}:${port}: cannot listen: ${reason}`, { cause });
  }
  const address = app.server.address() as AddressInfo;
  const name = address.family === "IPv6" ? `[${address.address}]` : address.address;
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= Promise.resolve(app.close());
    return closing;
  };
  return { url: `http://${name}:${address.port}`, close, [Symbol.asyncDispose]: close };
}

function retrievalApp({ retriever, pages, limits }: RetrievalServerOptions): FastifyInstance {
  const text = z.string().max(limits.maxQueryCharacters);
  const retrieveSchema = z.object({
    queries: z.array(text).max(limits.maxQueries),
    topk: z.int().min(0).max(limits.maxCount).nullish(),
    return_scores: z.boolean().nullish(),
  });
  const accessSchema = z.object({ urls: z.array(text).max(limits.maxQueries) });
  const app = fastify({
    bodyLimit: limits.maxBodyBytes,
    requestTimeout: limits.timeoutSeconds * 1000,
    // Idle connections of the many clients end at once, requests in flight are answered.
    forceCloseConnections: "idle",
    return503OnClosing: true,
  });
  let inFlight = 0;

  /** Counts the request, gives it a deadline and turns what went wrong into a status. */
  const guarded = async (reply: FastifyReply, answer: (signal: AbortSignal) => Promise<string>): Promise<void> => {
    if (inFlight >= limits.maxConcurrent) {
      return sendError(reply, 503, `more than ${limits.maxConcurrent} requests at once; try again`, {
        "retry-after": "1",
      });
    }
    inFlight += 1;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      controller.abort(new WideSeekError("WS_TIMEOUT", `no answer within ${limits.timeoutSeconds} s`));
    }, limits.timeoutSeconds * 1000);
    try {
      const body = await answer(controller.signal);
      reply.header("content-type", "application/json; charset=utf-8").send(body);
    } catch (error) {
      const code = error instanceof WideSeekError ? error.code : "WS_INTERNAL";
      const status =
        code === "WS_TIMEOUT" ? 504 : code === "WS_INVALID_ARGUMENT" ? 400 : code === "WS_INTERNAL" ? 500 : 503;
      sendError(reply, status, errorMessage(error));
    } finally {
      clearTimeout(timer);
      inFlight -= 1;
    }
  };

  app.post("/retrieve", async (request, reply) => {
    const parsed = retrieveSchema.safeParse(request.body);
    if (!parsed.success) return sendError(reply, 422, issueText(parsed.error, request.body));
    const { queries, topk, return_scores: withScores } = parsed.data;
    await guarded(reply, async (signal) => {
      const count = topk === null || topk === undefined || topk === 0 ? limits.defaultCount : topk;
      const found = queries.length === 0 ? [] : await retriever.retrieve(queries, count, signal);
      return `{"result":[${found.map((records) => listJson(records, withScores === true)).join(",")}]}`;
    });
    return reply;
  });

  app.post("/access", async (request, reply) => {
    const parsed = accessSchema.safeParse(request.body);
    if (!parsed.success) return sendError(reply, 422, issueText(parsed.error, request.body));
    const { urls } = parsed.data;
    await guarded(reply, async (signal) => {
      const found = urls.length === 0 ? [] : await pages.access(urls, signal);
      return `{"result":[${found.map((page) => page ?? "null").join(",")}]}`;
    });
    return reply;
  });

  app.get("/health", async (_, reply) => {
    try {
      await retriever.check();
      return { status: "ok", inFlight };
    } catch (error) {
      return sendError(reply, 503, errorMessage(error));
    }
  });

  app.setNotFoundHandler((request, reply) => {
    sendError(
      reply,
      404,
      `${request.method} ${request.url.slice(0, 100)}: not here; POST /retrieve or /access, GET /health`,
    );
  });
  app.setErrorHandler((error: FastifyError, _, reply) => {
    sendError(reply, error.statusCode ?? 500, error.message);
  });
  return app;
}

/** Records are JSON already; parsing them only to write them again would be most of a request's work. */
function listJson(records: readonly FoundRecord[], withScores: boolean): string {
  const items = withScores
    ? records.map(({ json, score }) => `{"document":${json},"score":${score}}`)
    : records.map(({ json }) => json);
  return `[${items.join(",")}]`;
}

function issueText(error: z.ZodError, input: unknown): string {
  const issue = error.issues[0];
  if (issue === undefined) return "invalid body";
  const key = issue.path.map(String).join(".");
  return `${key === "" ? "body" : key}: ${describeIssue(issue, input)}`;
}

/** FastAPI, which the published server is made with, has errors under `detail`. */
function sendError(reply: FastifyReply, status: number, detail: string, headers: Record<string, string> = {}): void {
  reply.code(status).headers(headers).send({ detail });
}
