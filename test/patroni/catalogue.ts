// All scenarios, in the order in which they run: those that share a setup stand together.

import { etcdScenarios } from "./etcd-scenarios.ts";
import { frozenScenarios } from "./frozen-scenarios.ts";
import { leaderScenarios } from "./leader-scenarios.ts";
import type { Scenario } from "./site.ts";

export const scenarios: readonly Scenario[] = [...leaderScenarios, ...etcdScenarios, ...frozenScenarios];
