// Turns errors of the addon into WideSeekErrors whose stack shows the caller. Owns no recovery.
import { type ErrorCode, errorMessage, WideSeekError } from "@wideseek/spec";

/**
 * Awaits `call` of the addon. The stack of a native error ends in the event loop, so it is taken here, at the call.
 * @throws WideSeekError
 */
export async function fromNative<T>(call: () => Promise<T>): Promise<T> {
  const caller = new Error();
  Error.captureStackTrace(caller, fromNative);
  try {
    return await call();
  } catch (error) {
    throw toWideSeekError(error, caller);
  }
}

function toWideSeekError(error: unknown, caller: Error): unknown {
  if (error instanceof WideSeekError || !(error instanceof Error) || !("code" in error)) return error;
  const op = "op" in error && typeof error.op === "string" ? error.op : "";
  const wrapped = new WideSeekError(error.code as ErrorCode, errorMessage(error), { op, cause: error });
  const frames = caller.stack?.split("\n").slice(1).join("\n") ?? "";
  wrapped.stack = `${wrapped.name} [${wrapped.code}]: ${wrapped.message}\n${frames}`;
  return wrapped;
}
