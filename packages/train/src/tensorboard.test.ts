import { describe, expect, it } from "vitest";
import { crc32c, fileVersionRecord, maskedCrc32c, scalarRecord } from "./tensorboard.ts";

/** A reader of its own: TFRecord frames, then protobuf fields by wire type. */
function readRecords(file: Buffer): Buffer[] {
  const records: Buffer[] = [];
  let offset = 0;
  while (offset < file.length) {
    const length = Number(file.readBigUInt64LE(offset));
    expect(file.readUInt32LE(offset + 8)).toBe(maskedCrc32c(file.subarray(offset, offset + 8)));
    const data = file.subarray(offset + 12, offset + 12 + length);
    expect(file.readUInt32LE(offset + 12 + length)).toBe(maskedCrc32c(data));
    records.push(data);
    offset += 16 + length;
  }
  return records;
}

function readFields(message: Buffer): [number, number | Buffer][] {
  const fields: [number, number | Buffer][] = [];
  let offset = 0;
  const varint = (): number => {
    let value = 0n;
    let shift = 0n;
    for (;;) {
      const byte = message[offset++] as number;
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
      if (byte < 0x80) return Number(value);
    }
  };
  while (offset < message.length) {
    const key = varint();
    const field = key >> 3;
    if ((key & 7) === 0) fields.push([field, varint()]);
    else if ((key & 7) === 1) {
      fields.push([field, message.readDoubleLE(offset)]);
      offset += 8;
    } else if ((key & 7) === 5) {
      fields.push([field, message.readFloatLE(offset)]);
      offset += 4;
    } else {
      const length = varint();
      fields.push([field, message.subarray(offset, offset + length)]);
      offset += length;
    }
  }
  return fields;
}

describe("tensorboard", () => {
  it("computes CRC-32C (RFC 3720, appendix B.4)", () => {
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  });

  it("writes events that a reader of the formats gets back", () => {
    const event = { step: 300, wallTime: 1.7e9, scalars: { "reward/mean": 0.5, "train/läuft": -2 } };
    const [version, scalars] = readRecords(Buffer.concat([fileVersionRecord(1.7e9), scalarRecord(event)]));
    expect(readFields(version as Buffer)).toEqual([
      [1, 1.7e9],
      [3, Buffer.from("brain.Event:2")],
    ]);
    const fields = readFields(scalars as Buffer);
    expect(fields.slice(0, 2)).toEqual([
      [1, 1.7e9],
      [2, 300],
    ]);
    const values = readFields(fields[2]?.[1] as Buffer).map(([, value]) => readFields(value as Buffer));
    expect(values.map((value) => [String(value[0]?.[1]), value[1]?.[1]])).toEqual([
      ["reward/mean", 0.5],
      ["train/läuft", -2],
    ]);
  });
});
