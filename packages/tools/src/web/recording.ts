// Everything that was looked up in a run, in a file that a second run answers from. Owns the file and what "the same"
// means; looks nothing up.
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { errorMessage, makeFolder, type SearchBackend, type SearchHit, WideSeekError } from "@wideseek/spec";
import { z } from "zod";

const hitSchema = z.object({ url: z.string(), title: z.string(), contents: z.string() });
const failure = { failure: z.string() };
const entrySchema = z.union([
  z.strictObject({ query: z.string(), count: z.int(), hits: z.array(hitSchema) }),
  z.strictObject({ query: z.string(), count: z.int(), ...failure }),
  z.strictObject({ url: z.string(), page: z.string().nullable() }),
  z.strictObject({ url: z.string(), ...failure }),
]);
type Entry = z.output<typeof entrySchema>;

const headerSchema = z.strictObject({ format: z.literal("wideseek-recording"), version: z.literal(1) });
const header = JSON.stringify({ format: "wideseek-recording", version: 1 } satisfies z.output<typeof headerSchema>);

const keyOf = (entry: Request): string =>
  "url" in entry ? `access ${entry.url}` : `search ${entry.count} ${entry.query}`;

/** Bytes of one line. */
interface Place {
  position: number;
  length: number;
}

/** What came back for one lookup: failures in their order, then where the answer lies, if there ever was one. */
interface Outcomes {
  failures: string[];
  answer?: Place;
}
type Request = { query: string; count: number } | { url: string };
type Answer = SearchHit[] | string | null;

/**
 * Answers a lookup from the file where it has an answer, else from `backend`, and writes that down. An answer holds for
 * the whole run, so that every lookup has one answer; a failure is tried again the next time, and its text is kept.
 */
export class RecordingBackend implements SearchBackend {
  readonly #backend: SearchBackend;
  readonly #file: RecordingFile;
  #numReused = 0;

  private constructor(backend: SearchBackend, file: RecordingFile) {
    this.#backend = backend;
    this.#file = file;
  }

  /** A recording that exists is continued. Owns `backend` from then on. @throws WS_IO, WS_CORRUPT_FILE */
  static open(path: string, backend: SearchBackend): RecordingBackend {
    return new RecordingBackend(backend, RecordingFile.open(path, "record"));
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    return (await this.#look(
      { query, count },
      () => this.#backend.search(query, count, signal),
      signal,
    )) as SearchHit[];
  }

  async access(url: string, signal?: AbortSignal): Promise<string | null> {
    return (await this.#look({ url }, () => this.#backend.access(url, signal), signal)) as string | null;
  }

  metrics(): Readonly<Record<string, number>> {
    const { numLookups } = this.#file;
    return { ...this.#backend.metrics?.(), recorded_lookups: numLookups, reused_lookups: this.#numReused };
  }

  /** Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#backend[Symbol.asyncDispose]();
    this.#file.close();
  }

  async #look(request: Request, ask: () => Promise<Answer>, signal: AbortSignal | undefined): Promise<Answer> {
    signal?.throwIfAborted();
    const known = this.#file.outcomes(request)?.answer;
    if (known !== undefined) {
      this.#numReused += 1;
      return this.#file.answer(known);
    }
    let answer: Answer;
    try {
      answer = await ask();
    } catch (error) {
      // An abort says nothing about the lookup, except the deadline of the tool, which the model reads.
      const isTimeout = error instanceof WideSeekError && error.code === "WS_TIMEOUT";
      if (signal?.aborted !== true || isTimeout) this.#file.write({ ...request, failure: errorMessage(error) });
      throw error;
    }
    // Two that asked at the same time get one answer: the one that is written.
    const written = this.#file.outcomes(request)?.answer;
    if (written !== undefined) return this.#file.answer(written);
    this.#file.write(
      "url" in request ? { ...request, page: answer as string | null } : { ...request, hits: answer as SearchHit[] },
    );
    return answer;
  }
}

/** Answers from a recording alone. What it does not have is a failure that the model reads, and is counted. */
export class ReplayBackend implements SearchBackend {
  readonly #file: RecordingFile;
  readonly #numFailed = new Map<string, number>();
  readonly #counts = { replayed_lookups: 0, missing_lookups: 0 };

  private constructor(file: RecordingFile) {
    this.#file = file;
  }

  /** @throws WS_IO, WS_CORRUPT_FILE naming file and line */
  static open(path: string): ReplayBackend {
    return new ReplayBackend(RecordingFile.open(path, "replay"));
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    return this.#look({ query, count }, signal) as SearchHit[];
  }

  async access(url: string, signal?: AbortSignal): Promise<string | null> {
    return this.#look({ url }, signal) as string | null;
  }

  metrics(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  /** Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#file.close();
  }

  #look(request: Request, signal: AbortSignal | undefined): Answer {
    signal?.throwIfAborted();
    const outcomes = this.#file.outcomes(request);
    if (outcomes === undefined) {
      this.#counts.missing_lookups += 1;
      const message = "this lookup is not in the recording that is replayed";
      throw new WideSeekError("WS_INVALID_STATE", message, { op: "replay" });
    }
    this.#counts.replayed_lookups += 1;
    const { failures, answer } = outcomes;
    const key = keyOf(request);
    const numFailed = this.#numFailed.get(key) ?? 0;
    // Where no answer ever came, the last failure stays.
    const failure = failures[answer === undefined ? Math.min(numFailed, failures.length - 1) : numFailed];
    if (failure !== undefined) {
      this.#numFailed.set(key, numFailed + 1);
      throw new WideSeekError("WS_IO", failure, { op: "replay" });
    }
    return answer === undefined ? null : this.#file.answer(answer);
  }
}

/** The file with an index of its lines in memory; answers stay on disk. */
class RecordingFile {
  readonly #path: string;
  readonly #outcomes = new Map<string, Outcomes>();
  #file: number | undefined;
  #numBytes = 0;

  private constructor(path: string, file: number) {
    this.#path = path;
    this.#file = file;
  }

  static open(path: string, mode: "record" | "replay"): RecordingFile {
    let file: number | undefined;
    try {
      if (mode === "record") makeFolder(dirname(path), path);
      file = openSync(path, mode === "record" ? "a+" : "r");
      const recording = new RecordingFile(path, file);
      recording.#read();
      if (mode === "record") {
        // A killed run may have left its last line unfinished.
        ftruncateSync(file, recording.#numBytes);
        if (recording.#numBytes === 0) recording.#append(`${header}\n`);
      } else if (recording.#numBytes === 0) throw recording.#corrupt(1, "the recording is empty");
      return recording;
    } catch (error) {
      if (file !== undefined) closeSync(file);
      if (error instanceof WideSeekError) throw error;
      const message = `${path}: cannot open the recording: ${errorMessage(error)}`;
      throw new WideSeekError("WS_IO", message, { op: "openRecording", cause: error });
    }
  }

  get numLookups(): number {
    return this.#outcomes.size;
  }

  outcomes(request: Request): Outcomes | undefined {
    return this.#outcomes.get(keyOf(request));
  }

  answer({ position, length }: Place): Answer {
    if (this.#file === undefined) throw new WideSeekError("WS_CLOSED", "the recording is closed", { op: "replay" });
    const bytes = Buffer.alloc(length);
    let numRead = 0;
    while (numRead < length) {
      const count = readSync(this.#file, bytes, numRead, length - numRead, position + numRead);
      if (count === 0) throw new WideSeekError("WS_IO", `${this.#path}: was cut while it was read`, { op: "replay" });
      numRead += count;
    }
    const entry = JSON.parse(bytes.toString("utf8")) as Exclude<Entry, { failure: string }>;
    return "hits" in entry ? entry.hits : entry.page;
  }

  write(entry: Entry): void {
    if (this.#file === undefined) return;
    const position = this.#numBytes;
    try {
      this.#append(`${JSON.stringify(entry)}\n`);
    } catch (error) {
      const message = `${this.#path}: cannot write the recording: ${errorMessage(error)}`;
      throw new WideSeekError("WS_IO", message, { op: "record", cause: error });
    }
    this.#add(entry, { position, length: this.#numBytes - position });
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #append(line: string): void {
    const bytes = Buffer.from(line);
    let numWritten = 0;
    while (numWritten < bytes.length) numWritten += writeSync(this.#file as number, bytes, numWritten);
    this.#numBytes += bytes.length;
  }

  #add(entry: Entry, place: Place): void {
    const key = keyOf(entry);
    const known = this.#outcomes.get(key) ?? { failures: [] };
    this.#outcomes.set(key, known);
    // After an answer nothing is looked up any more; what follows was under way at the time.
    if (known.answer !== undefined) return;
    if ("failure" in entry) known.failures.push(entry.failure);
    else known.answer = place;
  }

  #read(): void {
    let number = 0;
    for (const { bytes, place } of wholeLines(this.#file as number)) {
      number += 1;
      const parsed = (number === 1 ? headerSchema : entrySchema).safeParse(parseJson(bytes));
      if (!parsed.success) {
        throw this.#corrupt(number, number === 1 ? "not a recording of version 1" : "not an entry of a recording");
      }
      if (number > 1) this.#add(parsed.data as Entry, place);
      this.#numBytes = place.position + place.length;
    }
  }

  #corrupt(line: number, what: string): WideSeekError {
    const details = { path: this.#path, line };
    return new WideSeekError("WS_CORRUPT_FILE", `${this.#path}:${line}: ${what}`, { op: "openRecording", details });
  }
}

/** Lines that end with a newline, a piece of the file at a time. */
function* wholeLines(file: number): Generator<{ bytes: Buffer; place: Place }> {
  const piece = Buffer.alloc(2 ** 20);
  let rest: Buffer = Buffer.alloc(0);
  let position = 0;
  for (;;) {
    const count = readSync(file, piece, 0, piece.length, position + rest.length);
    if (count === 0) return;
    rest = Buffer.concat([rest, piece.subarray(0, count)]);
    let start = 0;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, start)) {
      yield { bytes: rest.subarray(start, end), place: { position: position + start, length: end + 1 - start } };
      start = end + 1;
    }
    rest = rest.subarray(start);
    position += start;
  }
}

function parseJson(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString("utf8"));
  } catch {
    return undefined;
  }
}
