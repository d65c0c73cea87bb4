import { describe, expect, it } from "vitest";
import { mapConcurrent } from "./concurrent.ts";

describe("mapConcurrent", () => {
  it("keeps the order and the limit", async () => {
    let running = 0;
    let most = 0;
    const results = await mapConcurrent([5, 1, 4, 2, 3], 2, async (item) => {
      most = Math.max(most, ++running);
      for (let turn = 0; turn < item; turn++) await Promise.resolve();
      running--;
      return item * 2;
    });
    expect(results).toEqual([10, 2, 8, 4, 6]);
    expect(most).toBe(2);
  });

  it("starts nothing after a failure, stops the rest and leaves none running", async () => {
    const started: number[] = [];
    let stopped = false;
    const work = mapConcurrent([0, 1, 2, 3], 2, async (item, signal) => {
      started.push(item);
      if (item === 1) throw new Error("broken");
      await new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          stopped = true;
          reject(signal.reason);
        });
      });
    });
    await expect(work).rejects.toThrow("broken");
    expect({ started, stopped }).toEqual({ started: [0, 1], stopped: true });
  });

  it("rejects with the reason of an abort", async () => {
    const stop = new AbortController();
    stop.abort(new Error("stop"));
    await expect(mapConcurrent([1], 1, async () => 1, stop.signal)).rejects.toBe(stop.signal.reason);
  });
});
