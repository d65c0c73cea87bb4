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

function isNativeCode(error: Error): error is Error & { code: ErrorCode } {
  return "code" in error && typeof error.code === "string" && error.code.startsWith("WS_");
}

function toWideSeekError(error: unknown, caller: Error): unknown {
  if (error instanceof WideSeekError || !(error instanceof Error) || !isNativeCode(error)) return error;
  const op = "op" in error && typeof error.op === "string" ? error.op : "";
  const wrapped = new WideSeekError(error.code, errorMessage(error), { op, cause: error });
  const frames = caller.stack?.split("\n").slice(1).join("\n") ?? "";
  wrapped.stack = `${wrapped.name} [${wrapped.code}]: ${wrapped.message}\n${frames}`;
  return wrapped;
}
