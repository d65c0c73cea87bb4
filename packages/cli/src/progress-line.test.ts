import { expect, test } from "vitest";
import { ProgressLine } from "./progress-line.ts";

const clock = (): { now: number; texts: string[]; line: (isTTY: boolean) => ProgressLine } => {
  const state = {
    now: 0,
    texts: [] as string[],
    line: (isTTY: boolean) =>
      new ProgressLine({ isTTY, write: (text) => void state.texts.push(text) }, () => state.now),
  };
  return state;
};

test("on a terminal one line is rewritten, with speed and time left", () => {
  const state = clock();
  {
    using line = state.line(true);
    line.show("indexing words", 1_000_000, 4_000_000, "passages");
    state.now = 100;
    line.show("indexing words", 1_100_000, 4_000_000, "passages");
    state.now = 10_000;
    line.show("indexing words", 2_000_000, 4_000_000, "passages");
  }
  expect(state.texts).toEqual([
    "\rindexing words [######------------------] 25.0 % of 4.0 M passages\u001b[K",
    "\rindexing words [############------------] 50.0 % of 4.0 M passages, 100 k passages/s, 20 s left\u001b[K",
    "\n",
  ]);
});

test("elsewhere a plain line every half minute, at each new task and at its end", () => {
  const state = clock();
  using line = state.line(false);
  line.show("reading", 0, 2 ** 31, "bytes");
  state.now = 29_000;
  line.show("reading", 2 ** 20, 2 ** 31, "bytes");
  state.now = 30_000;
  line.show("reading", 2 ** 30, 2 ** 31, "bytes");
  line.show("reading", 2 ** 31, 2 ** 31, "bytes");
  line.show("joining", 40_000, null, "terms");
  expect(state.texts).toEqual([
    "reading [------------------------] 0.0 % of 2.0 GiB\n",
    "reading [############------------] 50.0 % of 2.0 GiB, 34.1 MiB/s, 30 s left\n",
    "reading [########################] 100.0 % of 2.0 GiB, 68.3 MiB/s\n",
    "joining: 40 k terms\n",
  ]);
});
