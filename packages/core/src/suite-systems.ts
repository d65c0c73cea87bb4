// What a row of a suite runs: our own agents or another system's workflow, as one function from task to episode. Owns the
// names of our own and the check of a row before anything starts.
import { runTeam } from "@wideseek/agents";
import type { RunConfig, Suite, SuiteRow } from "@wideseek/config";
import { type Episode, type Role, type SearchBackend, type Task, type Toolset, WideSeekError } from "@wideseek/spec";
import { checkRoles, runWorkflow, type WorkflowModel, workflowOptions, workflows } from "@wideseek/workflows";
import type { RowModels } from "./suite-models.ts";

/** Our own agents. */
const ownSystems: Readonly<Record<string, { workflow: "mas" | "sa"; roles: readonly Role[] }>> = {
  wideseek: { workflow: "mas", roles: ["lead", "subagent"] },
  singleseek: { workflow: "sa", roles: ["single"] },
};

/** @throws WS_INVALID_ARGUMENT naming the row and what is wrong with its workflow, roles or options */
export function checkRow(id: string, row: Suite["rows"][string]): void {
  const mistake = (message: string): WideSeekError =>
    new WideSeekError("WS_INVALID_ARGUMENT", `suite row ${id}: ${message}`, { op: "runSuite" });
  const own = ownSystems[row.workflow];
  if (own !== undefined) {
    checkRoles({ name: `suite row ${id}`, roles: own.roles }, row.models);
    if (Object.keys(row.options).length > 0) {
      throw mistake(`${row.workflow} has no options; the config's agents.limits count`);
    }
    return;
  }
  const workflow = workflows.get(row.workflow);
  if (workflow === undefined) {
    const known = [...Object.keys(ownSystems), ...workflows.keys()].join(", ");
    throw mistake(`no workflow ${row.workflow}; known ones are ${known}`);
  }
  checkRoles({ name: `suite row ${id}`, roles: workflow.roles }, row.models);
  workflowOptions(workflow, row.options);
}

export interface SystemParts {
  row: SuiteRow;
  models: RowModels;
  config: RunConfig;
  tools: Toolset;
  backend: SearchBackend;
  signal: AbortSignal;
}

/** The row as a function; it rejects on abort or a broken engine only. */
export function systemOf(parts: SystemParts): (task: Task, sample: number, seed: bigint) => Promise<Episode> {
  const { row, models, config, tools, backend, signal } = parts;
  const own = ownSystems[row.workflow];
  if (own !== undefined) {
    const { limits, promptStyle: prompts, promptLanguage } = config.agents;
    const sampling = { temperature: config.eval.temperature, topP: 1, topK: 0, minP: 0 };
    const modelOf = (role: Role) => models.agentModel((row.models[role] ?? row.models.default) as string, sampling);
    const byRole = Object.fromEntries(own.roles.map((role) => [role, modelOf(role)]));
    const { workflow } = own;
    return (task, sample, seed) =>
      runTeam({ models: byRole, tools, task, sample, seed, signal, workflow, limits, prompts, promptLanguage });
  }
  const workflow = workflows.get(row.workflow);
  if (workflow === undefined) throw new WideSeekError("WS_INTERNAL", `suite: no workflow ${row.workflow}`);
  const byRole: Record<string, WorkflowModel> = {};
  for (const [role, name] of Object.entries(row.models)) byRole[role] = models.workflowModel(name);
  const { options } = row;
  return (task, sample, seed) =>
    runWorkflow({ workflow, task, sample, seed, signal, models: byRole, backend, options });
}
