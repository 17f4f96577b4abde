// The metrics about changes of leader: sums that are read from a snapshot, and a histogram of their phases.

import { markOf, sqlstateOf } from "./incident.ts";
import type { IncidentTotals } from "./incidents.ts";
import { known, type MetricRow, ofClusters, type Reader, type Sample, truth } from "./metric-row.ts";

/** From what is lost in the noise to what makes people telephone. */
const phaseSeconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120] as const;

/** The phases that a dashboard compares; the first sign is when the clock starts. */
const shownPhases = ["fence", "key", "gate", "first_answer", "end"] as const;

/** A counter per cluster of what changes of leader did. */
const ofIncidents = (
  name: string,
  help: string,
  labels: readonly string[],
  read: Reader<IncidentTotals>,
): MetricRow => ({
  ...ofClusters(name, help, labels, ({ incidents }) => read(incidents)),
  kind: "counter",
});

/** In the order of the documentation. */
export const incidentRows: readonly MetricRow[] = [
  ofClusters(
    "pgsteer_failover_going",
    "1 while a change of leader, or an absence of the leader, goes on.",
    [],
    ({ incidents }) => truth(incidents.going),
  ),
  ofIncidents(
    "pgsteer_failovers_total",
    "Changes of leader that are over, by kind: switchover, failover, away (the same leader came back), called_off (a switchover that did not happen), paused (by request), standby.",
    ["kind"],
    ({ kinds }) => [...kinds].map(([kind, count]): Sample => [{ kind }, count]),
  ),
  {
    name: "pgsteer_failover_phase_seconds",
    kind: "histogram",
    help: "Time from the first sign of a change of leader to each phase: fence (connections cut), key (new leader key seen), gate (writes are taken), first_answer (a transaction was answered), end (nobody waits any more).",
    labels: ["cluster", "phase"],
    buckets: phaseSeconds,
    observe: (incident) =>
      shownPhases.flatMap((phase): readonly Sample[] => {
        const mark = markOf(incident, phase);
        return mark === null ? [] : [[{ cluster: incident.cluster, phase }, mark.afterMs / 1000]];
      }),
  },
  ofClusters(
    "pgsteer_failover_longest_wait_seconds",
    "Longest wait of a client in the change of leader that goes on, or else in the last one. Absent until there is one.",
    [],
    ({ incidents: { longestWaitMs } }) => known(longestWaitMs === null ? null : longestWaitMs / 1000),
  ),
  ofIncidents(
    "pgsteer_failover_held_total",
    "Clients that had to wait because no leader took writes.",
    [],
    ({ held }) => known(held),
  ),
  ofIncidents(
    "pgsteer_failover_avoided_total",
    "Errors that clients did not see in changes of leader: waited (held, and then served), rerun (the statement was sent again unseen).",
    ["how"],
    ({ served, reruns }) => [
      [{ how: "waited" }, served],
      [{ how: "rerun" }, reruns],
    ],
  ),
  ofIncidents(
    "pgsteer_failover_errors_total",
    "Errors that clients were given in changes of leader, by pgsteer's own code and by SQLSTATE; broken_off is a connection that was closed in the middle of an answer.",
    ["code", "sqlstate"],
    ({ errors }) => [...errors].map(([code, count]): Sample => [{ code, sqlstate: sqlstateOf(code) ?? "" }, count]),
  ),
];
