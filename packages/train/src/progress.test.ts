import { describe, expect, it } from "vitest";
import { duration, Progress } from "./progress.ts";

function record(isTTY: boolean): { text: string; isTTY: boolean; write(text: string): void } {
  return {
    text: "",
    isTTY,
    write(text) {
      this.text += text;
    },
  };
}

describe("Progress", () => {
  it("draws a bar with the time left on a terminal", () => {
    const stream = record(true);
    let now = 0;
    const progress = new Progress(stream, "train", 10, 4, () => now);
    now = 6;
    progress.update(6, "reward 0.5");
    // Two steps took 6 s, so the other four take 12 s; steps done before do not count.
    expect(stream.text.startsWith("\r\u001b[2Ktrain 6/10 █")).toBe(true);
    expect(stream.text).toMatch(/█░+ ETA 0:12 {2}reward 0\.5$/);
    progress.update(10);
    expect(stream.text).toMatch(/took 0:06\n$/);
  });

  it("writes plain lines elsewhere, not more than one in two seconds, and always the last", () => {
    const stream = record(false);
    let now = 0;
    const progress = new Progress(stream, "train", 3, 0, () => now);
    for (const done of [1, 2, 3]) {
      now += 1;
      progress.update(done);
    }
    expect(stream.text).toBe("train 1/3  33 %  ETA 0:02\ntrain 3/3  100 %  took 0:03\n");
  });

  it("writes hours when there are any", () => {
    expect([0, 59.6, 3723].map(duration)).toEqual(["0:00", "1:00", "1:02:03"]);
  });
});
