// A peer in a process of its own that answers one JSON line with one JSON line, so that runs can alternate with ours.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export class PeerProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #name: string;
  #errorText = "";

  constructor(name: string, command: string, args: readonly string[], environment: Record<string, string>) {
    this.#name = name;
    this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...environment } });
    this.#child.stderr?.on("data", (data: Buffer) => {
      this.#errorText = (this.#errorText + data.toString()).slice(-2000);
    });
    this.#child.on("error", (error) => {
      this.#errorText += error.message;
    });
    const stdout = this.#child.stdout;
    if (!stdout) throw new Error(`${name}: no stdout`);
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }

  /** Lines that are no JSON object are the peer's chatter. @throws Error with the peer's stderr when it ended or failed */
  async request<Reply>(message: object): Promise<Reply> {
    this.#child.stdin?.write(`${JSON.stringify(message)}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`${this.#name} ended: ${this.#errorText.trim()}`);
      if (!value.startsWith("{")) continue;
      const reply = JSON.parse(value) as Reply & { error?: string };
      if (reply.error !== undefined) throw new Error(`${this.#name}: ${reply.error}`);
      return reply;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.stdin?.end();
    this.#child.kill();
    await exited;
  }
}
