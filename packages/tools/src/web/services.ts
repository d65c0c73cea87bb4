// Answers of services that are paid or run for us. Owns how a refusal reads and how JSON is checked.
import { errorMessage, WideSeekError } from "@wideseek/spec";
import type { z } from "zod";
import { excerpt, type WebResponse } from "./web-client.ts";

export interface Service {
  name: string;
  /** Empty = it needs none. */
  key: string;
  /** What the user can do about a refusal. */
  refusalHint: string;
}

/** @throws WS_IO for any status but 200 */
export function requireOk(service: Service, { status, body }: WebResponse): void {
  if (status === 200) return;
  const hint = status === 401 || status === 402 || status === 403 ? `; ${service.refusalHint}` : "";
  throw serviceError(service, `HTTP status ${status}: ${excerpt(body, service.key)}${hint}`, status);
}

/** @throws WS_IO when the answer is not of the form */
export function readJson<T>(service: Service, response: WebResponse, schema: z.ZodType<T>): T {
  requireOk(service, response);
  let value: unknown;
  try {
    value = JSON.parse(response.body.toString("utf8"));
  } catch (error) {
    throw serviceError(service, `the answer is not JSON: ${errorMessage(error).slice(0, 200)}`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw serviceError(service, `not an answer of this service: ${issue?.path.join(".")}: ${issue?.message}`);
}

export function serviceError({ name }: Service, what: string, status?: number): WideSeekError {
  return new WideSeekError("WS_IO", `${name}: ${what}`, { op: name, details: { status } });
}
