// Typed errors of every package. Owns the codes; does not own recovery.
import type { ZodError } from "zod";
import { describeIssue } from "./issue.ts";

/** What went wrong, by what the caller can do about it. */
export type ErrorCode =
  | "WS_INVALID_ARGUMENT" // the caller's mistake: change the call
  | "WS_INVALID_STATE" // right call, wrong time
  | "WS_OUT_OF_MEMORY"
  | "WS_DEVICE_LOST"
  | "WS_IO"
  | "WS_CORRUPT_FILE"
  | "WS_UNSUPPORTED"
  | "WS_CLOSED"
  | "WS_TIMEOUT"
  | "WS_INTERNAL"; // a bug of ours

export interface WideSeekErrorOptions {
  /** The operation that failed, e.g. `forwardBackward` or `readTasks`. */
  op?: string;
  /** Facts for programs: paths, lines, limits. Never secrets. */
  details?: Readonly<Record<string, unknown>>;
  cause?: unknown;
}

/** The one error class of the system. Match on `code`; `message` says what was got, the limit and a hint. */
export class WideSeekError extends Error {
  override readonly name: "WideSeekError" = "WideSeekError";
  readonly code: ErrorCode;
  readonly op: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: WideSeekErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.op = options.op;
    this.details = options.details ?? {};
  }
}

/** One line for people from anything that was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Runs `fn` and turns whatever it throws into a `WideSeekError` with `code`; a `WideSeekError` passes unchanged. */
export async function atBoundary<T>(code: ErrorCode, op: string, fn: () => Promise<T> | T): Promise<T> {
  try {
    return await fn();
  } catch (error) {
    if (error instanceof WideSeekError) throw error;
    throw new WideSeekError(code, `${op}: ${errorMessage(error)}`, { op, cause: error });
  }
}

/** Turns the first zod issue into one `WS_INVALID_ARGUMENT` line naming `where` (file, option), the key and what `input` has. */
export function invalidInput(where: string, error: ZodError, input?: unknown): WideSeekError {
  const issue = error.issues[0];
  const key = issue?.path.length ? `${issue.path.map(String).join(".")}: ` : "";
  return new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `${where}: ${key}${issue ? describeIssue(issue, input) : "invalid value"}`,
    {
      details: { key: issue?.path.map(String).join(".") ?? "", numIssues: error.issues.length },
      cause: error,
    },
  );
}
