// API keys: from the environment, by name. Owns what a key may look like; keeps none.
import { WideSeekError } from "@wideseek/spec";

export type Environment = Readonly<Record<string, string | undefined>>;

/** @param setting names the option in errors. @throws WS_INVALID_ARGUMENT when the variable is not set or holds no key */
export function readKey(setting: string, name: string, environment: Environment): string {
  const key = environment[name]?.trim() ?? "";
  const refuse = (why: string): WideSeekError =>
    new WideSeekError("WS_INVALID_ARGUMENT", `${setting}: ${why}`, { op: "readKey", details: { variable: name } });
  if (key === "") throw refuse(`the environment variable ${name} is not set; put the API key into it`);
  if (!/^[\x21-\x7e]+$/.test(key))
    throw refuse(`what ${name} holds is no API key: it has spaces or signs outside of ASCII`);
  return key;
}
