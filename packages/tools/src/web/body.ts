// Bodies of responses, decompressed. Owns the limit: it holds for what comes out, so a small bomb is stopped early.
import type { Readable } from "node:stream";
import zlib from "node:zlib";
import { WideSeekError } from "@wideseek/spec";

/** What we say we accept; `deflate` means two things, so it is not asked for. */
export const acceptEncoding = "gzip, br, zstd";
/** Nobody compresses more often than this in earnest. */
const maxEncodings = 2;

/** @throws WS_IO when the body is longer than `maxBytes` after decompression, broken, or in an unknown encoding */
export async function readBody(body: Readable, contentEncoding: string, maxBytes: number): Promise<Buffer> {
  let stream: Readable = body;
  const encodings = contentEncoding
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "" && name !== "identity");
  const decoders = encodings.slice(0, maxEncodings).map(decoder);
  const unknown = encodings.length > maxEncodings || decoders.includes(undefined);
  if (unknown) {
    body.destroy();
    throw new WideSeekError("WS_IO", `unknown content encoding ${contentEncoding.slice(0, 100)}`, { op: "access" });
  }
  const streams: Readable[] = [body];
  for (const next of decoders.reverse() as zlib.Gunzip[]) {
    const previous = stream;
    previous.on("error", (error) => next.destroy(error));
    stream = previous.pipe(next);
    streams.push(stream);
  }
  const chunks: Buffer[] = [];
  let numBytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      numBytes += chunk.length;
      if (numBytes > maxBytes) {
        throw new WideSeekError("WS_IO", `longer than ${maxBytes} bytes`, { op: "access", details: { maxBytes } });
      }
      chunks.push(chunk);
    }
  } finally {
    for (const each of streams) {
      // What fails after the end is of no interest, but would end the process.
      each.on("error", () => {});
      each.destroy();
    }
  }
  return Buffer.concat(chunks);
}

function decoder(name: string): zlib.Gunzip | undefined {
  // Truncated ends are common on the web; the part that came is a page too. Bytes come in small chunks, so a bomb goes
  // off one chunk after the limit.
  const flush = { finishFlush: zlib.constants.Z_SYNC_FLUSH };
  switch (name) {
    case "gzip":
    case "x-gzip":
      return zlib.createGunzip(flush);
    case "deflate":
      return zlib.createInflate(flush);
    case "br":
      return zlib.createBrotliDecompress({ finishFlush: zlib.constants.BROTLI_OPERATION_FLUSH });
    case "zstd":
      return zlib.createZstdDecompress();
    default:
      return undefined;
  }
}
