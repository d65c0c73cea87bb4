// Where the compiled addon lies; loading it is the engine package's job.
import { fileURLToPath } from "node:url";

const path = fileURLToPath(new URL("./build/Release/wideseek.node", import.meta.url));

export const addonPath = () => path;
