// Where every random number of a run comes from. Owns the derivation, not the generators.
import { createHash } from "node:crypto";

/** 64-bit seed from named parts; a sample depends on them alone, not on order, batching or a restart. */
export function deriveSeed(...parts: readonly (string | number | bigint)[]): bigint {
  return createHash("sha256")
    .update(JSON.stringify(parts.map(String)))
    .digest()
    .readBigUInt64LE(0);
}
