// How a server of models is reached, as a schema. Owns no behaviour: reading a config needs only this file.
import { z } from "zod";

const count = (limit: number): z.ZodInt => z.int().min(1).max(limit);
const seconds = z.number().positive().max(86_400);

/** Fields of a section that names an OpenAI-compatible server; sections of other packages spread them. */
export const chatServerShape = {
  baseUrl: z
    .url({ protocol: /^https?$/, error: "must be an http or https URL such as http://127.0.0.1:30000/v1", abort: true })
    .refine((url) => {
      const { username, password, search, hash } = new URL(url);
      return username + password + search + hash === "";
    }, "must have no user, password, query or fragment")
    .describe("Address of an OpenAI-compatible server, up to where /chat/completions begins."),
  model: z.string().min(1).max(500).describe("Name under which the server knows the model."),
  apiKeyEnv: z
    .string()
    // The value may be a key by mistake, so no message may show it.
    .regex(/^[A-Z_][A-Z0-9_]{0,99}$/, "must be the NAME of an environment variable in capitals, never the key itself")
    .nullable()
    .default(null)
    .describe("Name of the environment variable that holds the API key; null = the server needs none."),
  maxConcurrent: count(10_000).default(64).describe("Requests on the wire at once; further ones wait."),
  attemptSeconds: seconds.default(300).describe("Seconds after which one attempt of a request is given up."),
  deadlineSeconds: seconds
    .default(600)
    .describe("Seconds after which a request is given up, its retries included; waiting for its turn does not count."),
  maxAttempts: count(100).default(6).describe("Attempts of one request at network errors, 429, 5xx and garbage."),
  breakerFailures: count(100_000)
    .default(10)
    .describe("Failed attempts in a row after which the server is left alone for a while."),
  breakerSeconds: seconds.default(10).describe("Seconds for which a failing server is left alone before one new try."),
  maxTokens: count(10_000_000).nullable().default(null).describe("Most tokens of a reply; null = the server's limit."),
  jsonSchema: z
    .enum(["auto", "never"])
    .default("auto")
    .describe("Whether replies are held to a JSON schema; auto = where the server has that."),
  extraBody: z
    .record(z.string(), z.unknown())
    .refine(
      (body) => !Object.keys(body).some((key) => /api.?key|secret|password|authorization/i.test(key)),
      "must hold no secrets: it is written to run folders; name the key's environment variable in apiKeyEnv",
    )
    .default({})
    .describe("Further fields of every request, such as chat_template_kwargs; null takes a field out of it."),
} as const;

export const chatServerOptionsSchema = z.strictObject(chatServerShape);

export type ChatServerOptions = z.output<typeof chatServerOptionsSchema>;
export type ChatServerOptionsInput = z.input<typeof chatServerOptionsSchema>;
