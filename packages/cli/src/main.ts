#!/usr/bin/env node
// Entry of the command line. Owns nothing but the process.
import { runCli } from "./run-cli.ts";

process.exitCode = await runCli(process.argv.slice(2));
