// One of several processes that use a cache at once. Run as: node cache-process.ts FILE NUMBER ROUNDS
import { contentKey, DiskCache } from "../disk-cache.ts";

const [file = "", number = "0", rounds = "0"] = process.argv.slice(2);
const cache = DiskCache.open(file, { contents: "pages", maxBytes: 64 * 2 ** 20, maxAgeSeconds: 1000 });
let numWrong = 0;
for (let round = 0; round < Number(rounds); round += 1) {
  // Everybody writes everybody's keys: the same key always has the same answer.
  const name = `page ${round % 50}`;
  const expected = { text: `${name} ${"x".repeat(2000)}` };
  const found = cache.get(contentKey(name));
  if (found !== undefined && JSON.stringify(found) !== JSON.stringify(expected)) numWrong += 1;
  cache.put(contentKey(name), expected);
  cache.put(contentKey(["own", number, round]), { number, round });
}
let numKept = 0;
for (let round = 0; round < Number(rounds); round += 1)
  if (cache.get(contentKey(["own", number, round])) !== undefined) numKept += 1;
process.stdout.write(JSON.stringify({ numWrong, numKept, numSkipped: cache.numSkipped }));
cache[Symbol.dispose]();
