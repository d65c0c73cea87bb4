// Finds and loads the native addon, once per process.
import { createRequire } from "node:module";
import { addonPath } from "@wideseek/native";
import { errorMessage, WideSeekError } from "@wideseek/spec";
import type { Binding } from "./binding.ts";

let loaded: Binding | undefined;

/** @throws WS_UNSUPPORTED naming the path that was tried and why it failed */
export function loadAddon(): Binding {
  if (loaded) return loaded;
  let path = "native/";
  try {
    path = addonPath();
    loaded = createRequire(import.meta.url)(path) as Binding;
    return loaded;
  } catch (error) {
    const reason = errorMessage(error).split("\n", 1)[0];
    throw new WideSeekError(
      "WS_UNSUPPORTED",
      `the native addon could not be loaded from ${path} (${reason}); run \`pnpm run build:native\``,
      { op: "loadAddon", details: { path }, cause: error },
    );
  }
}
