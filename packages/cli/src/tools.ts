// `tools serve`: the retrieval server. Owns flags and what is printed.
import { loadRetrievalService, startRetrievalService } from "@wideseek/core/tooling";
import { Command, InvalidArgumentError } from "commander";
import { stopOnSignal } from "./stop.ts";

interface ServeFlags {
  config?: string;
  index?: string;
  mode?: string;
  host?: string;
  port?: string;
  set: string[];
}

export function toolsCommand(): Command {
  const collect = (value: string, previous: string[]): string[] => [...previous, value];
  const serve = new Command("serve")
    .description("serve search and access with the published interface: POST /retrieve, POST /access, GET /health")
    .option("--config <file>", "YAML settings of the server")
    .option("--index <path>", "short for --set index=PATH")
    .option("--mode <mode>", "short for --set mode=bm25, dense or hybrid")
    .option("--host <address>", "short for --set host=ADDRESS")
    .option("--port <number>", "short for --set port=NUMBER")
    .option("--set <key=value>", "override one setting; may be repeated", collect, [])
    .option("--debug", "print stacks of errors")
    .action(async ({ config, set, ...flags }: ServeFlags) => {
      const short = (["index", "mode", "host", "port"] as const).flatMap((key) => {
        const value = flags[key];
        if (value === undefined) return [];
        return [`${key}=${key === "port" ? value : JSON.stringify(value)}`];
      });
      if (config === undefined && ![...short, ...set].some((setting) => setting.startsWith("index="))) {
        throw new InvalidArgumentError("name what is served: --index PATH, made by `wideseek index`");
      }
      const options = await loadRetrievalService({ file: config, overrides: [...short, ...set] });
      const server = await startRetrievalService(options);
      try {
        using stop = stopOnSignal();
        console.log(`serving ${options.mode} search on ${server.url}`);
        await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
      } finally {
        await server.close();
      }
    });
  // Errors are reported once, by whoever runs the command.
  serve.exitOverride().configureOutput({ outputError: () => undefined });
  return new Command("tools").description("tools of the agents as a service").addCommand(serve);
}
