// Public face of the workflows package: the other systems of the paper's tables.
import { agentflow } from "./agentflow.ts";
import { asearcher } from "./asearcher.ts";
import { miroflow } from "./miroflow.ts";
import { owl } from "./owl.ts";
import { searchR1 } from "./search-r1.ts";
import type { Workflow } from "./workflow.ts";

export {
  checkRoles,
  runWorkflow,
  type Workflow,
  type WorkflowModel,
  type WorkflowRequest,
  workflowOptions,
} from "./workflow.ts";

const all = [searchR1, asearcher, agentflow, owl, miroflow] as readonly unknown[] as readonly Workflow<never>[];

/** By name. */
export const workflows: ReadonlyMap<string, Workflow<never>> = new Map(
  all.map((workflow) => [workflow.name, workflow]),
);
