// Reads and writes safetensors files, single or sharded (model.safetensors.index.json).
import { constants } from "node:fs";
import { access, type FileHandle, open, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { errorMessage, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import {
  corruptFile,
  formatHeader,
  MAX_HEADER_BYTES,
  parseHeader,
  type SafetensorsDtype,
  type SafetensorsHeader,
  type TensorInfo,
} from "./safetensors-header.ts";

export type { SafetensorsDtype, TensorInfo } from "./safetensors-header.ts";

/** Open files; closed by `close` or `await using`. */
export interface TensorReader extends AsyncDisposable {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The tensor's bytes, little-endian, row-major. @throws WS_INVALID_ARGUMENT, WS_CORRUPT_FILE, WS_IO */
  read(name: string): Promise<Uint8Array>;
  close(): Promise<void>;
}

function ioError(path: string, error: unknown): WideSeekError {
  return new WideSeekError("WS_IO", `${path}: ${errorMessage(error)}`, { details: { path }, cause: error });
}

class SafetensorsFile implements TensorReader {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly #handle: FileHandle;

  constructor(path: string, handle: FileHandle, header: SafetensorsHeader) {
    this.path = path;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#handle = handle;
  }

  async read(name: string): Promise<Uint8Array> {
    const info = this.tensors.get(name);
    if (!info) throw new WideSeekError("WS_INVALID_ARGUMENT", `${this.path}: no tensor ${JSON.stringify(name)}`);
    return await readExactly(this.path, this.#handle, info.byteOffset, info.byteLength, name);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function readExactly(
  path: string,
  handle: FileHandle,
  position: number,
  length: number,
  tensor?: string,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, position + done).catch((error: unknown) => {
      throw ioError(path, error);
    });
    if (bytesRead === 0) throw corruptFile(path, `the file ends ${length - done} bytes early`, tensor);
    done += bytesRead;
  }
  return bytes;
}

/** Opens one file and checks its header. @throws WS_IO, WS_CORRUPT_FILE */
export async function openSafetensors(
  path: string,
): Promise<TensorReader & { readonly metadata: Readonly<Record<string, string>> }> {
  const handle = await open(path, "r").catch((error: unknown) => {
    throw ioError(path, error);
  });
  try {
    const fileBytes = (await handle.stat()).size;
    if (fileBytes < 8) throw corruptFile(path, `${fileBytes} bytes are too few for a safetensors file`);
    const prefix = await readExactly(path, handle, 0, 8);
    const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true);
    if (headerBytes > BigInt(MAX_HEADER_BYTES)) {
      throw corruptFile(path, `a header of ${headerBytes} bytes, the limit is ${MAX_HEADER_BYTES}`);
    }
    if (headerBytes > BigInt(fileBytes - 8)) {
      throw corruptFile(path, `a header of ${headerBytes} bytes in a file of ${fileBytes}; truncated?`);
    }
    const text = await readExactly(path, handle, 8, Number(headerBytes));
    return new SafetensorsFile(path, handle, parseHeader(path, text, fileBytes));
  } catch (error) {
    await handle.close();
    throw error;
  }
}

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * Opens the weights of a Hugging Face folder: model.safetensors, or the shards of its index.
 * @throws WS_IO if there are none, WS_CORRUPT_FILE
 */
export async function openModelWeights(directory: string): Promise<TensorReader> {
  const single = join(directory, "model.safetensors");
  const index = join(directory, "model.safetensors.index.json");
  if (await exists(single)) return await openSafetensors(single);
  if (!(await exists(index))) {
    throw new WideSeekError("WS_IO", `${directory}: neither model.safetensors nor model.safetensors.index.json`, {
      details: { path: directory },
    });
  }
  return await openShards(directory, index);
}

async function openShards(directory: string, indexPath: string): Promise<TensorReader> {
  const weightMap = await readIndex(indexPath);
  const shards = new Map<string, TensorReader>();
  const close = async (): Promise<void> => {
    await Promise.all([...shards.values()].map((shard) => shard.close()));
  };
  try {
    const tensors = new Map<string, TensorInfo>();
    for (const [name, fileName] of Object.entries(weightMap)) {
      if (basename(fileName) !== fileName) {
        throw corruptFile(indexPath, `shard ${JSON.stringify(fileName)} is not a plain file name`, name);
      }
      const shard = shards.get(fileName) ?? (await openSafetensors(join(directory, fileName)));
      shards.set(fileName, shard);
      const info = shard.tensors.get(name);
      if (!info) throw corruptFile(indexPath, `the index places it in ${fileName}, which does not have it`, name);
      tensors.set(name, info);
    }
    const read = (name: string): Promise<Uint8Array> => {
      const shard = shards.get(weightMap[name] ?? "");
      if (!shard) throw new WideSeekError("WS_INVALID_ARGUMENT", `${indexPath}: no tensor ${JSON.stringify(name)}`);
      return shard.read(name);
    };
    return { tensors, read: async (name) => await read(name), close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readIndex(path: string): Promise<Record<string, string>> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw ioError(path, error);
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw corruptFile(path, "not valid JSON");
  }
  const parsed = indexSchema.safeParse(json);
  if (!parsed.success) throw corruptFile(path, "no weight_map from tensor names to file names");
  return parsed.data.weight_map;
}

async function exists(path: string): Promise<boolean> {
  return await access(path, constants.F_OK).then(
    () => true,
    () => false,
  );
}

/** One tensor to write; its bytes are asked for when their turn comes, so that never two are in memory. */
export interface TensorSource {
  name: string;
  dtype: SafetensorsDtype;
  shape: readonly number[];
  read: () => Promise<Uint8Array>;
}

/** Writes and fsyncs a new file. @throws WS_IO, also if it exists */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { header, byteLengths } = formatHeader(tensors, metadata);
  const handle = await open(path, "wx").catch((error: unknown) => {
    throw ioError(path, error);
  });
  try {
    await handle.writeFile(header);
    for (const [index, tensor] of tensors.entries()) {
      const bytes = await tensor.read();
      if (bytes.byteLength !== byteLengths[index]) {
        throw new WideSeekError(
          "WS_INTERNAL",
          `${tensor.name}: ${bytes.byteLength} bytes for a shape that takes ${byteLengths[index]}`,
        );
      }
      await handle.writeFile(bytes);
    }
    await handle.sync();
  } catch (error) {
    throw error instanceof WideSeekError ? error : ioError(path, error);
  } finally {
    await handle.close();
  }
}
