// In the place of index.mjs in a checkout (`--conditions=@wideseek/build`): the addon is compiled when it is first loaded,
// not before a mistake of the caller would have shown.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { addonPath as builtPath } from "./index.mjs";

const script = fileURLToPath(new URL("./build.mjs", import.meta.url));

export function addonPath() {
  const { status } = spawnSync(process.execPath, [script], { stdio: ["ignore", "inherit", "inherit"] });
  if (status !== 0) throw new Error("the native build failed, see above");
  return builtPath();
}
