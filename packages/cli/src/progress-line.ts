// How far a long task is: one line that is rewritten on a terminal, a plain line now and then elsewhere.

const terminalMs = 200;
const plainMs = 30_000;
const barWidth = 24;

export interface ProgressOutput {
  isTTY?: boolean;
  write(text: string): unknown;
}

export class ProgressLine implements Disposable {
  readonly #output: ProgressOutput;
  readonly #now: () => number;
  #task = "";
  #begun = { time: 0, done: 0 };
  #shownAt = Number.NEGATIVE_INFINITY;
  #isOpen = false;

  /** `now` in milliseconds. */
  constructor(output: ProgressOutput, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#now = now;
  }

  /** `total` null = unknown. Cheap to call often. */
  show(task: string, done: number, total: number | null, unit: string): void {
    const now = this.#now();
    if (task !== this.#task) {
      this.end();
      this.#task = task;
      // A task that goes on after a stop begins in the middle; its speed is that of now.
      this.#begun = { time: now, done };
      this.#shownAt = Number.NEGATIVE_INFINITY;
    }
    const isLast = total !== null && done >= total;
    if (!isLast && now - this.#shownAt < (this.#output.isTTY === true ? terminalMs : plainMs)) return;
    this.#shownAt = now;
    const text = this.#text(done, total, unit, now);
    if (this.#output.isTTY === true) this.#output.write(`\r${text}\u001b[K`);
    else this.#output.write(`${text}\n`);
    this.#isOpen = this.#output.isTTY === true;
  }

  /** Leaves the line standing. */
  end(): void {
    if (this.#isOpen) this.#output.write("\n");
    this.#isOpen = false;
  }

  [Symbol.dispose](): void {
    this.end();
  }

  #text(done: number, total: number | null, unit: string, now: number): string {
    const seconds = (now - this.#begun.time) / 1000;
    const speed = seconds > 0 ? (done - this.#begun.done) / seconds : 0;
    const rate = speed > 0 ? `, ${short(speed, unit)}/s` : "";
    if (total === null || total === 0) return `${this.#task}: ${short(done, unit)}${rate}`;
    const share = Math.min(1, done / total);
    const filled = Math.round(share * barWidth);
    const bar = `[${"#".repeat(filled)}${"-".repeat(barWidth - filled)}]`;
    const left = speed > 0 && share < 1 ? `, ${duration((total - done) / speed)} left` : "";
    return `${this.#task} ${bar} ${(share * 100).toFixed(1)} % of ${short(total, unit)}${rate}${left}`;
  }
}

function short(value: number, unit: string): string {
  if (unit === "bytes")
    return value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(1)} GiB` : `${(value / 2 ** 20).toFixed(1)} MiB`;
  const number =
    value >= 1e6 ? `${(value / 1e6).toFixed(1)} M` : value >= 1e4 ? `${(value / 1e3).toFixed(0)} k` : value.toFixed(0);
  return `${number} ${unit}`;
}

function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
