// SIGINT and SIGTERM as one abort signal. Owns no clean-up; a second signal ends the process at once.

/** The reason of the abort. */
export class StopRequest extends Error {}

export interface StopSignal extends Disposable {
  readonly signal: AbortSignal;
}

export function stopOnSignal(): StopSignal {
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM"] as const;
  const stop = (name: NodeJS.Signals): void => {
    process.stderr.write(`\n${name}: stopping after the current operation; once more ends at once\n`);
    for (const each of names) process.off(each, stop);
    controller.abort(new StopRequest(name));
  };
  for (const name of names) process.once(name, stop);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const name of names) process.off(name, stop);
    },
  };
}
