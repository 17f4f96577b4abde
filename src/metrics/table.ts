// Every metric of our own: one row each, with its name, its help for the person who reads a dashboard, its labels and how it is read
// from a snapshot. Labels hold only what is bounded: names from the configuration and from Patroni, and words from our own lists.

import { authRows } from "./auth-rows.ts";
import { incidentRows } from "./incident-rows.ts";
import { known, type MetricRow, ofClusters, type Reader, type Sample, type SampledRow, truth } from "./metric-row.ts";
import type { CauseCount, ListenerSnapshot, MemberSnapshot, ServerTotals, Snapshot } from "./snapshot.ts";

const ofProcess = (name: string, help: string, read: (snapshot: Snapshot) => number): SampledRow => ({
  name,
  kind: "gauge",
  help,
  labels: [],
  read: (snapshot) => [[{}, read(snapshot)]],
});

/** A gauge per member; `labels` beyond `cluster` and `member`. */
const ofMembers = (name: string, help: string, labels: readonly string[], read: Reader<MemberSnapshot>): SampledRow =>
  ofClusters(name, help, ["member", ...labels], ({ members }) =>
    members.flatMap((member) => read(member).map(([more, value]): Sample => [{ member: member.name, ...more }, value])),
  );

/** A counter per member and purpose. */
const ofServers = (name: string, help: string, read: (totals: ServerTotals) => number): SampledRow => ({
  ...ofClusters(name, help, ["member", "purpose"], ({ serverTotals }) =>
    serverTotals.map((totals): Sample => [{ member: totals.member, purpose: totals.purpose }, read(totals)]),
  ),
  kind: "counter",
});

/** A counter per listener; `labels` beyond `cluster` and `listener`. */
const ofTraffic = (
  name: string,
  help: string,
  labels: readonly string[],
  read: Reader<ListenerSnapshot["traffic"]>,
): MetricRow => ({
  name,
  kind: "counter",
  help,
  labels: ["cluster", "listener", ...labels],
  read: ({ listeners }) =>
    listeners.flatMap(({ name: listener, cluster, traffic }) =>
      read(traffic).map(([more, value]): Sample => [{ cluster, listener, ...more }, value]),
    ),
});

const processRows: readonly MetricRow[] = [
  {
    name: "pgsteer_build_info",
    kind: "gauge",
    help: "Always 1; the labels say which pgsteer runs on which Node.js.",
    labels: ["version", "node"],
    read: ({ build: { version, node } }) => [[{ version, node }, 1]],
  },
  ofProcess("pgsteer_up", "1 while this pgsteer runs.", () => 1),
  ofProcess("pgsteer_uptime_seconds", "Time since this pgsteer was started.", ({ uptimeSeconds }) => uptimeSeconds),
  ofProcess("pgsteer_draining", "1 while pgsteer shuts down and only lets its clients finish.", ({ draining }) =>
    draining ? 1 : 0,
  ),
  ofProcess(
    "pgsteer_max_client_conn",
    "Clients that may be connected at once (setting max_client_conn).",
    ({ maxClientConn }) => maxClientConn,
  ),
];

const clusterRows: readonly MetricRow[] = [
  ofClusters("pgsteer_writable", "1 while writes to the cluster are served.", [], ({ writable }) => truth(writable)),
  ofClusters(
    "pgsteer_leader",
    "1 for the member that leads; state is writable, or elected (it does not take writes yet), draining (a switchover is under way), standby.",
    ["member", "state"],
    ({ leader }) => (leader.member === null ? [] : [[{ member: leader.member, state: leader.state }, 1]]),
  ),
  ofClusters(
    "pgsteer_epoch",
    "Leaderships that this pgsteer has seen: goes up by one at each change of leader. Absent while there is no leader.",
    [],
    ({ leader }) => known(leader.epoch),
  ),
  ofClusters("pgsteer_paused", "1 while Patroni's automatic failover is paused.", [], ({ paused }) => truth(paused)),
  ofClusters(
    "pgsteer_coordination",
    "1 for what this router does at the request of pgsteer switchover or pgsteer pause; state is serving, draining, drained, holding, paused or cannot (drain in time). Absent without etcd as source.",
    ["state"],
    ({ coordination }) => (coordination === null ? [] : [[{ state: coordination.state }, 1]]),
  ),
  ofClusters(
    "pgsteer_routers",
    "Routers of the cluster that have announced themselves in etcd, this one included. Absent without etcd as source.",
    [],
    ({ coordination }) => known(coordination?.routers ?? null),
  ),
  ofClusters(
    "pgsteer_source_connected",
    "1 while the source of the topology (etcd, patroni, static) answers. Losing it does not stop the service while the leader is confirmed otherwise.",
    ["source"],
    ({ source }) => [[{ source: source.kind }, source.connected ? 1 : 0]],
  ),
  ofClusters(
    "pgsteer_source_age_seconds",
    "Time since the source of the topology last proved to be alive.",
    ["source"],
    ({ source }) => [[{ source: source.kind }, source.ageSeconds]],
  ),
  ofClusters(
    "pgsteer_held_clients",
    "Clients that wait because no member can serve them now: no writable leader, or no replica that is fresh enough.",
    [],
    ({ heldClients }) => [[{}, heldClients]],
  ),
  ofClusters(
    "pgsteer_waiting_clients",
    "Clients that wait for a server of a pool that has none free.",
    ["member", "purpose"],
    ({ pools }) => perPurpose(pools.map(({ member, purpose, waiting }) => [{ member, purpose }, waiting])),
  ),
  ofClusters(
    "pgsteer_servers",
    "Connections to PostgreSQL by state: login, idle (free to be lent), active (lent to a client), tested (being reset or checked, or ready for a new leader that does not take writes yet).",
    ["member", "purpose", "state"],
    ({ pools }) =>
      perPurpose(
        pools.flatMap(({ member, purpose, servers }) =>
          Object.entries(servers).map(([state, count]): Sample => [{ member, purpose, state }, count]),
        ),
      ),
  ),
];

const memberRows: readonly MetricRow[] = [
  ofMembers(
    "pgsteer_member_info",
    "Always 1; the labels say a member's role and its state in Patroni's words.",
    ["role", "state"],
    ({ role, state }) => [[{ role, state }, 1]],
  ),
  ofMembers("pgsteer_member_readable", "1 while the member may get reads.", [], ({ readable }) => truth(readable)),
  ofMembers(
    "pgsteer_member_lag_bytes",
    "WAL that a member has still to replay to stand where the leader stood. Absent while unknown.",
    [],
    ({ lagBytes }) => known(lagBytes),
  ),
  ofMembers("pgsteer_member_timeline", "Timeline of the member. Absent while unknown.", [], ({ timeline }) =>
    known(timeline),
  ),
  ofMembers(
    "pgsteer_member_serves",
    "1 for what a member serves now: on which listener, for writes or for reads.",
    ["listener", "purpose"],
    ({ serves }) => serves.map(({ listener, purpose }): Sample => [{ listener, purpose }, 1]),
  ),
];

const serverRows: readonly MetricRow[] = [
  ofServers("pgsteer_server_logins_total", "Connections to PostgreSQL that were opened.", ({ logins }) => logins),
  ofServers(
    "pgsteer_server_login_failures_total",
    "Attempts to open a connection to PostgreSQL that failed.",
    ({ loginFailures }) => loginFailures,
  ),
  ofServers("pgsteer_servers_closed_total", "Connections to PostgreSQL that ended.", ({ closed }) => closed),
];

const clientRows: readonly MetricRow[] = [
  {
    name: "pgsteer_clients",
    kind: "gauge",
    help: "Clients by state: login, idle, waiting (for a server or a leader), settling (its settings are being learnt), active (has a server), failed (its transaction was lost; it has still to roll back).",
    labels: ["cluster", "listener", "state"],
    read: ({ listeners }) =>
      listeners.flatMap(({ name: listener, cluster, clients: { closed: _, ...states } }) =>
        Object.entries(states).map(([state, count]): Sample => [{ cluster, listener, state }, count]),
      ),
  },
  {
    name: "pgsteer_pinned_clients",
    kind: "gauge",
    help: "Clients that keep their server between transactions now, by cause; one can have several causes.",
    labels: ["cluster", "listener", "cause"],
    read: ({ listeners }) =>
      listeners.flatMap(({ name: listener, cluster, pinned }) =>
        pinned.map(({ cause, count }): Sample => [{ cluster, listener, cause }, count]),
      ),
  },
  ofTraffic("pgsteer_client_connections_total", "Connections from clients that were accepted.", [], ({ accepted }) =>
    known(accepted),
  ),
  ofTraffic("pgsteer_client_logins_total", "Clients that logged in.", [], ({ logins }) => known(logins)),
  ofTraffic(
    "pgsteer_client_login_failures_total",
    "Clients that were refused before or during their login; pgsteer_errors_total says why.",
    [],
    ({ loginFailures }) => known(loginFailures),
  ),
  ofTraffic(
    "pgsteer_transactions_total",
    "Transactions, and statements outside of one, that were completed.",
    [],
    ({ transactions }) => known(transactions),
  ),
  ofTraffic("pgsteer_waits_total", "Times that a client had to wait for a server and got one.", [], ({ waits }) =>
    known(waits),
  ),
  ofTraffic("pgsteer_wait_seconds_total", "Time that these clients waited, all together.", [], ({ waitedSeconds }) =>
    known(waitedSeconds),
  ),
  ofTraffic(
    "pgsteer_reruns_total",
    "Statements that were sent again to another server, unseen by the client, after their server was lost.",
    [],
    ({ reruns }) => known(reruns),
  ),
  ofTraffic(
    "pgsteer_failed_transactions_total",
    "Open transactions that were lost with their server and failed with a code that asks the client to retry.",
    [],
    ({ failedTransactions }) => known(failedTransactions),
  ),
  ofTraffic("pgsteer_cancels_total", "Cancel requests that clients sent.", [], ({ cancels }) => known(cancels)),
  ofTraffic(
    "pgsteer_cancels_limited_total",
    "Of these, those that were closed unheard, being more than cancels_per_second.",
    [],
    ({ cancelsLimited }) => known(cancelsLimited),
  ),
  ofTraffic(
    "pgsteer_errors_total",
    "Errors that pgsteer itself gave to clients, by its own code and by SQLSTATE. Errors of PostgreSQL are not counted.",
    ["code", "sqlstate"],
    ({ errors }) => errors.map(({ code, sqlstate, count }): Sample => [{ code, sqlstate }, count]),
  ),
  ofTraffic(
    "pgsteer_pins_total",
    "Clients that had to keep their server between transactions, by cause.",
    ["cause"],
    ({ pins }) => byCause(pins),
  ),
  ofTraffic(
    "pgsteer_session_state_refused_total",
    "Statements that were refused because of what they would leave in their session (on_session_state: refuse), by cause.",
    ["cause"],
    ({ stateRefused }) => byCause(stateRefused),
  ),
  ofTraffic(
    "pgsteer_session_state_ignored_total",
    "Statements that may have left in a server's session what its next client meets (on_session_state: ignore), by cause.",
    ["cause"],
    ({ stateIgnored }) => byCause(stateIgnored),
  ),
];

/** One sample per cause. */
const byCause = (counts: readonly CauseCount[]): readonly Sample[] =>
  counts.map(({ cause, count }): Sample => [{ cause }, count]);

/** Pools of several databases and users, as one sample per set of labels. */
function perPurpose(samples: readonly Sample[]): readonly Sample[] {
  const sums = new Map<string, Sample>();
  for (const [labels, value] of samples) {
    const key = JSON.stringify(labels);
    sums.set(key, [labels, (sums.get(key)?.[1] ?? 0) + value]);
  }
  return [...sums.values()];
}

/** All rows, in the order of the documentation. */
export const metricTable: readonly MetricRow[] = [
  ...processRows,
  ...clusterRows,
  ...memberRows,
  ...serverRows,
  ...authRows,
  ...clientRows,
  ...incidentRows,
];
