// A change of leader as text, for a person at 3 a.m.: what it was, one line per moment, what it cost.

import type { EventDocument } from "../admin/events-document.ts";

/** How text is made to stand out; on a terminal by colour, elsewhere not at all. */
export interface Paint {
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly title: (text: string) => string;
  readonly aside: (text: string) => string;
}

const same = (text: string): string => text;

/** For whatever is no terminal. */
export const plain: Paint = { good: same, bad: same, title: same, aside: same };

/** `3 ms`, `1420 ms`, `27.3 s`, `5 min 12 s`. */
export function formatSpan(ms: number): string {
  if (ms < 10_000) return `${ms < 10 && ms > 0 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

const count = (number: number, one: string, many = `${one}s`): string => `${number} ${number === 1 ? one : many}`;

const causes: Readonly<Record<string, string>> = {
  announced: "announced",
  switchover_requested: "requested",
  pause_requested: "requested",
  leader_key_gone: "leader key gone",
  leader_key_changed: "leader key changed hands",
  connection_refused: "connection refused",
  connection_lost: "connection lost",
  in_recovery: "leader is in recovery",
  probe_failed: "probe failed",
  source_lost: "the source of the topology is silent",
  standby: "standby cluster",
};

const kinds: Readonly<Record<string, string>> = {
  switchover: "SWITCHOVER",
  failover: "FAILOVER",
  away: "LEADER AWAY",
  called_off: "SWITCHOVER CALLED OFF",
  paused: "PAUSED",
  standby: "STANDBY CLUSTER",
};

/** What an error meant for whoever got it, by pgsteer's own code. */
const costs: Readonly<Record<string, string>> = {
  leader_changed: "open transaction rolled back",
  read_interrupted: "read broken off",
  outcome_unknown: "outcome unknown, session ended",
  terminated: "session ended",
  query_wait_timeout: "waited too long (query_wait_timeout)",
  wait_queue_full: "too many waited already (wait_queue_max)",
  server_login_failed: "login to the new leader failed",
  read_only_cluster: "refused: the cluster is read-only",
  broken_off: "connection closed in the middle of an answer",
};

/** First line: which, when, who, how long. */
export function titleOf(event: EventDocument, paint: Paint): string {
  const { id, cluster, kind, going, began, away_ms } = event;
  const state = going && away_ms === null ? paint.bad("STILL GOING ON") : "";
  const parts = [`#${id} ${kinds[kind] ?? kind}`, `${cluster}: ${leadersOf(event)}`, began, state || lastedOf(event)];
  return paint.title(parts.filter((part) => part !== "").join("   "));
}

/** How one came out whose first line was written while it went on. */
export function resultOf(event: EventDocument, paint: Paint): string {
  const parts = [kinds[event.kind] ?? event.kind, leadersOf(event), lastedOf(event)];
  return entry("it was", paint.title(parts.filter((part) => part !== "").join("   ")));
}

function leadersOf({ old_leader, new_leader }: EventDocument): string {
  const moved = new_leader !== null && new_leader.member !== old_leader.member;
  return moved ? `${old_leader.member} → ${new_leader.member}` : old_leader.member;
}

const lastedOf = ({ away_ms }: EventDocument): string =>
  away_ms === null ? "" : `no writes for ${formatSpan(away_ms)}`;

/** A line without a time. */
const entry = (name: string, text: string): string => `${" ".repeat(11)}  ${name.padEnd(13)} ${text}`;

/** One line per moment. */
export function lineOf(event: EventDocument, index: number, paint: Paint): string {
  const mark = event.timeline[index];
  if (mark === undefined) return "";
  const [name, what] = wordsOf(event, mark);
  const at = formatSpan(mark.ms).padStart(11);
  const line = `${at}  ${name.padEnd(13)} ${what}`.trimEnd();
  return mark.phase === "sign" ? paint.aside(line) : mark.phase === "gate" ? paint.good(line) : line;
}

function wordsOf(event: EventDocument, { phase, what }: EventDocument["timeline"][number]): readonly [string, string] {
  const { old_leader, new_leader, connections_cut, clients, cause, kind } = event;
  switch (phase) {
    case "first_sign": {
      const word = causes[cause] ?? cause;
      return ["first sign", what === word ? word : `${word}: ${what}`];
    }
    case "sign":
      return ["", what];
    case "first_hold":
      return ["hold", "the first client waits"];
    case "key_gone":
      return ["leader key", what];
    case "fence":
      return [
        "fence",
        connections_cut === 0
          ? `${old_leader.member} had closed all connections itself`
          : `${count(connections_cut, "connection")} to ${old_leader.member} cut`,
      ];
    case "key":
      return ["leader key", `${what} holds it${epochOf(new_leader, what)}`];
    case "gate": {
      const timeline = new_leader?.member === what && new_leader.timeline !== null ? new_leader.timeline : null;
      const again = kind === "called_off" || what === old_leader.member ? " again" : "";
      return ["gate", `${what} takes writes${again}${timeline === null ? "" : ` (timeline ${timeline})`}`];
    }
    case "first_lease":
      return ["first lease", "the first client that waited has a connection"];
    case "first_answer":
      return ["first answer", "a transaction was answered"];
    default:
      return ["end", clients.held === 0 ? "nobody had to wait" : "nobody waits any more"];
  }
}

const epochOf = (leader: EventDocument["new_leader"], member: string): string =>
  leader?.member === member ? ` (epoch ${leader.epoch})` : "";

/** What it cost, and what it did not. */
export function totalsOf(event: EventDocument, paint: Paint): readonly string[] {
  const { clients, avoided, errors, error_count, going, waits_for } = event;
  const { held, held_at_once, held_now, longest_wait_ms } = clients;
  const waits = `${held} waited, at most ${held_at_once} at once, the longest ${formatSpan(longest_wait_ms)}`;
  const left = held - held_now - avoided.waited;
  const now = (left > 0 ? `; ${left} left or gave up` : "") + (held_now > 0 ? `; ${held_now} wait now` : "");
  const given = errors
    .map(({ code, sqlstate, count: times }) => `${times} × ${sqlstate ?? ""} ${costs[code] ?? code}`)
    .join(", ");
  const spared = [
    ...(avoided.waited > 0 ? [`${avoided.waited} waited and were served`] : []),
    ...(avoided.rerun > 0 ? [`${count(avoided.rerun, "statement")} run again unseen`] : []),
  ].join(", ");
  return [
    ...(going && waits_for !== "" ? [entry("now", paint.bad(`no writes: ${waits_for}`))] : []),
    entry("clients", held === 0 ? "nobody waited" : waits + now),
    entry("errors", error_count === 0 ? paint.good("none") : paint.bad(`${error_count}: ${given}`)),
    ...(spared === "" ? [] : [entry("avoided", spared)]),
  ];
}

/** One change of leader as a whole. */
export function renderEvent(event: EventDocument, paint: Paint): string {
  const lines = event.timeline.map((_, index) => lineOf(event, index, paint));
  return [titleOf(event, paint), ...lines, ...totalsOf(event, paint)].join("\n");
}
