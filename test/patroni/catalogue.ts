// All scenarios, in the order in which they run: those that share a setup stand together.

import { announcedScenarios } from "./announced-scenarios.ts";
import { clientSees } from "./client-sees.ts";
import { etcdScenarios } from "./etcd-scenarios.ts";
import { frozenScenarios } from "./frozen-scenarios.ts";
import { leaderScenarios } from "./leader-scenarios.ts";
import { replicaScenarios } from "./replica-scenarios.ts";
import type { Scenario } from "./site.ts";
import { stateScenarios } from "./state-scenarios.ts";

export const scenarios: readonly Scenario[] = [
  ...leaderScenarios,
  ...announcedScenarios,
  ...replicaScenarios,
  ...stateScenarios,
  ...etcdScenarios,
  ...frozenScenarios,
  ...clientSees,
];
