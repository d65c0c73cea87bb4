// Where reference data lies that is too large or not ours to keep in this repository; tests that need it skip without it.
import { resolve } from "node:path";

/** `WIDESEEK_SHARED`, or the folder `shared` beside the checkout. */
export const sharedData: string = process.env.WIDESEEK_SHARED ?? resolve(import.meta.dirname, "../../shared");
