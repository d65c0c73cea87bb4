// How far a run is, for people: a bar on a terminal, plain lines elsewhere. Owns no numbers of the run.

/** Where progress is shown; `process.stderr` fits. */
export interface ProgressStream {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
}

const BAR_WIDTH = 24;
/** Seconds between plain lines, so that a log of thousands of steps stays readable. */
const LINE_INTERVAL = 2;

export class Progress {
  readonly #stream: ProgressStream;
  readonly #label: string;
  readonly #total: number;
  readonly #first: number;
  readonly #start: number;
  readonly #now: () => number;
  #lastLine: number = Number.NEGATIVE_INFINITY;

  /** `first` steps were done before; the ETA counts from there. `now` gives seconds. */
  constructor(
    stream: ProgressStream,
    label: string,
    total: number,
    first: number = 0,
    now: () => number = () => performance.now() / 1000,
  ) {
    this.#stream = stream;
    this.#label = label;
    this.#total = total;
    this.#first = first;
    this.#now = now;
    this.#start = now();
  }

  update(done: number, text: string = ""): void {
    const share = this.#total === 0 ? 1 : done / this.#total;
    const head = `${this.#label} ${done}/${this.#total}`;
    const tail = `${this.#eta(done)}  ${text}`.trimEnd();
    if (this.#stream.isTTY) {
      const filled = Math.round(share * BAR_WIDTH);
      const bar = "█".repeat(filled) + "░".repeat(BAR_WIDTH - filled);
      const line = `${head} ${bar} ${tail}`.slice(0, (this.#stream.columns ?? 120) - 1);
      this.#stream.write(`\r\u001b[2K${line}${done === this.#total ? "\n" : ""}`);
    } else if (done === this.#total || this.#now() - this.#lastLine >= LINE_INTERVAL) {
      this.#lastLine = this.#now();
      this.#stream.write(`${head}  ${Math.round(share * 100)} %  ${tail}\n`);
    }
  }

  /** A line of its own that the bar does not overwrite. */
  log(line: string): void {
    this.#stream.write(this.#stream.isTTY ? `\r\u001b[2K${line}\n` : `${line}\n`);
  }

  #eta(done: number): string {
    const finished = done - this.#first;
    if (finished <= 0 || done >= this.#total) return `took ${duration(this.#now() - this.#start)}`;
    return `ETA ${duration(((this.#now() - this.#start) / finished) * (this.#total - done))}`;
  }
}

/** "1:02:03" or "2:03". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, index) => (index === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}
