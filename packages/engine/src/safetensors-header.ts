// Parses and checks the header of a safetensors file, as strictly as the format asks. Does no input or output.
import { WideSeekError } from "@wideseek/spec";

/** Bytes per element of the dtypes of the format. */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;
export type SafetensorsDtype = keyof typeof DTYPE_BYTES;

/** Longest header that the format allows. */
export const MAX_HEADER_BYTES = 100_000_000;

export interface TensorInfo {
  name: string;
  dtype: SafetensorsDtype;
  shape: readonly number[];
  /** Of the first byte, from the start of the file. */
  byteOffset: number;
  byteLength: number;
}

export interface SafetensorsHeader {
  metadata: Readonly<Record<string, string>>;
  /** In order of their bytes. */
  tensors: ReadonlyMap<string, TensorInfo>;
}

/** One line naming the file, and the tensor where there is one. */
export function corruptFile(path: string, what: string, tensor?: string): WideSeekError {
  const where = tensor === undefined ? path : `${path}: tensor ${JSON.stringify(tensor)}`;
  return new WideSeekError("WS_CORRUPT_FILE", `${where}: ${what}`, {
    op: "readSafetensors",
    details: tensor === undefined ? { path } : { path, tensor },
  });
}

/** @throws WS_CORRUPT_FILE. `fileBytes` is the size of the whole file, `text` the header's JSON. */
export function parseHeader(path: string, text: Uint8Array, fileBytes: number): SafetensorsHeader {
  const json = decode(path, text);
  let root: unknown;
  try {
    root = JSON.parse(json);
  } catch {
    throw corruptFile(path, "the header is not valid JSON");
  }
  if (!isRecord(root) || !json.startsWith("{")) throw corruptFile(path, "the header is not a JSON object");
  const duplicate = findDuplicateKey(json);
  if (duplicate !== undefined) throw corruptFile(path, "the name appears twice in one object of the header", duplicate);

  const dataStart = 8 + text.byteLength;
  const metadata = parseMetadata(path, root.__metadata__);
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of Object.entries(root)) {
    if (name !== "__metadata__") tensors.push(parseTensor(path, name, entry, dataStart, fileBytes));
  }
  // An empty tensor sorts before the one that starts at the same byte.
  tensors.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = dataStart;
  for (const tensor of tensors) {
    if (tensor.byteOffset < end) throw corruptFile(path, "its bytes overlap those of another tensor", tensor.name);
    if (tensor.byteOffset > end) {
      throw corruptFile(path, `${tensor.byteOffset - end} bytes before it belong to no tensor`, tensor.name);
    }
    end += tensor.byteLength;
  }
  if (end !== fileBytes) throw corruptFile(path, `${fileBytes - end} bytes at the end belong to no tensor`);
  return { metadata, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])) };
}

function parseTensor(path: string, name: string, entry: unknown, dataStart: number, fileBytes: number): TensorInfo {
  if (!isRecord(entry)) throw corruptFile(path, "its entry is not an object", name);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype)) {
    throw corruptFile(path, `unknown dtype ${JSON.stringify(dtype)}`, name);
  }
  if (!isCountList(shape)) throw corruptFile(path, "its shape is not a list of non-negative integers", name);
  if (!isCountList(offsets) || offsets.length !== 2) {
    throw corruptFile(path, "its data_offsets are not two non-negative integers", name);
  }
  const [begin, end] = offsets as [number, number];
  if (end < begin) throw corruptFile(path, `its data_offsets [${begin}, ${end}] run backwards`, name);
  if (end > fileBytes - dataStart) {
    throw corruptFile(path, `it ends at data byte ${end}, but the file has ${fileBytes - dataStart}; truncated?`, name);
  }
  // Exact: a product of 64-bit sizes can exceed what a number holds.
  const wanted = shape.reduce(
    (product, size) => product * BigInt(size),
    BigInt(DTYPE_BYTES[dtype as SafetensorsDtype]),
  );
  if (wanted !== BigInt(end - begin)) {
    throw corruptFile(
      path,
      `shape [${shape.join(", ")}] of ${dtype} takes ${wanted} bytes, it has ${end - begin}`,
      name,
    );
  }
  return {
    name,
    dtype: dtype as SafetensorsDtype,
    shape,
    byteOffset: dataStart + begin,
    byteLength: end - begin,
  };
}

function parseMetadata(path: string, metadata: unknown): Record<string, string> {
  if (metadata === undefined) return {};
  if (!isRecord(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw corruptFile(path, "__metadata__ is not an object of strings");
  }
  return metadata as Record<string, string>;
}

function decode(path: string, text: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text);
  } catch {
    throw corruptFile(path, "the header is not valid UTF-8");
  }
}

/** JSON.parse keeps the last of two equal keys in silence. `json` is known to be valid. */
function findDuplicateKey(json: string): string | undefined {
  // Strings, or the brackets, braces and colons between them.
  const token = /"(?:[^"\\]|\\.)*"|[{}[\]:]/g;
  const scopes: Set<string>[] = [];
  let last = "";
  for (const [text] of json.matchAll(token)) {
    if (text === "{" || text === "[") scopes.push(new Set());
    else if (text === "}" || text === "]") scopes.pop();
    else if (text === ":") {
      const key = JSON.parse(last) as string;
      const scope = scopes.at(-1);
      if (scope?.has(key)) return key;
      scope?.add(key);
    }
    last = text;
  }
  return undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCountList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((entry) => Number.isSafeInteger(entry) && entry >= 0);
}

/** The 8 length bytes and the JSON of a file that holds `tensors` one after the other, padded to 8 bytes. */
export function formatHeader(
  tensors: readonly { name: string; dtype: SafetensorsDtype; shape: readonly number[] }[],
  metadata: Readonly<Record<string, string>>,
): { header: Uint8Array; byteLengths: number[] } {
  let offset = 0;
  const byteLengths: number[] = [];
  const root: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  for (const { name, dtype, shape } of tensors) {
    const byteLength = shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
    root[name] = { dtype, shape, data_offsets: [offset, offset + byteLength] };
    byteLengths.push(byteLength);
    offset += byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(root));
  const padded = Math.ceil(json.byteLength / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return { header, byteLengths };
}
