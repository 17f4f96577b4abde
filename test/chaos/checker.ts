// What must hold of every history, whatever was done to the cluster: a pure function from what was recorded to violations. Each
// property is a function of its own, and each has a test in which a small history breaks it.

import type { Contents, History, Operation, Place, Sight, Window } from "./history.ts";

export const properties = {
  lost: "acknowledged, and missing",
  duplicate: "carried out more than once",
  denied: "reported as failed, and there",
  foreign: "there, and nobody's",
  money: "money made or lost",
  crossed: "answered with another operation's result",
  stale: "written on a deposed leader after the router knew",
  stuck: "a client without an answer while it could be served",
  read: "a read that saw half a transaction",
  unhealed: "the cluster or its contents could not be read in the end",
  crashed: "a pgsteer that has died by itself",
  unseen: "a record is missing without which the checker sees nothing",
} as const;
export type Property = keyof typeof properties;

export interface Violation {
  readonly property: Property;
  readonly text: string;
  readonly operation: number | null;
}

export interface Verdict {
  readonly violations: readonly Violation[];
  /** Acknowledged writes that went with a timeline, as asynchronous replication may lose them. */
  readonly lostByReplication: readonly Operation[];
  /** The longest time that a client could have been served and was not, in milliseconds. */
  readonly longestWaitMs: number;
}

/** Moments of different processes on one machine are compared with this much doubt. */
const DOUBT_MS = 3;

export function check(history: History): Verdict {
  const { contents } = history;
  const lostByReplication: Operation[] = [];
  const waits = stuckClients(history);
  const violations = [
    ...(contents === null
      ? [violation("unhealed", null, "there is no record of the database's contents")]
      : [...missing(history, contents, lostByReplication), ...surplus(history, contents), ...money(history, contents)]),
    ...crossed(history),
    ...staleWrites(history, contents),
    ...reads(history),
    ...waits.violations,
    ...history.sights
      .filter(({ what }) => what === "ended")
      .map(({ router, text }) => violation("crashed", null, `${router}: ${text}`)),
    ...unseen(history),
  ];
  return { violations, lostByReplication, longestWaitMs: waits.longestMs };
}

function violation(property: Property, operation: Operation | null, text: string): Violation {
  const whose = operation === null ? "" : `op ${operation.id} (${operation.kind}, client ${operation.client}): `;
  return { property, text: whose + text, operation: operation?.id ?? null };
}

const writes = ({ kind }: Operation): boolean => kind !== "read";

function missing(history: History, contents: Contents, lostByReplication: Operation[]): Violation[] {
  const there = new Set([...contents.register, ...contents.transfers].map(({ op }) => op));
  const gone = history.operations.filter((each) => writes(each) && each.outcome === "ok" && !there.has(each.id));
  const commitBefore = commitBounds(history.operations);
  return gone.flatMap((each) => {
    const why = history.run.sync ? "replication is synchronous" : notLostByFork(each, contents, commitBefore(each));
    if (why !== null) return [violation("lost", each, `acknowledged at ${each.completedAt}, and not there: ${why}`)];
    lostByReplication.push(each);
    return [];
  });
}

/** Why a fork of the timelines does not account for the loss; null when it does. */
function notLostByFork(operation: Operation, contents: Contents, committedBefore: number): string | null {
  if (operation.place === null) return "nobody knows where it was written";
  const { timeline, origin, lsn } = operation.place;
  // Another timeline has got the number of the one that it was written on.
  if (originOf(timeline, contents) !== origin || isAnothers(operation.place, contents)) return null;
  if (timeline === contents.timeline) return `its timeline ${timeline} is the present one`;
  const fork = contents.forks.find((each) => each.timeline === timeline);
  if (fork === undefined || committedBefore > fork.lsn) return null;
  return `timeline ${timeline} was followed up to ${fork.lsn}, and it was written at ${lsn}, committed before ${committedBefore}`;
}

/** Where a timeline of the present history began; null for one that is not part of it. */
function originOf(timeline: number, { timeline: present, forks }: Contents): number | null {
  const index = forks.findIndex((each) => each.timeline === timeline);
  if (index < 0 && timeline !== present) return null;
  const before = index < 0 ? forks.at(-1) : forks[index - 1];
  return index === 0 ? 0 : (before?.lsn ?? 0);
}

/**
 * Whether the present history's timeline of that number is another member's. Only one member ever writes on a timeline, for whoever is
 * promoted begins a new one; but two that are promoted at the same position, neither of which has heard of the other, give
 * theirs the same number.
 */
function isAnothers({ port, timeline }: Place, { register }: Contents): boolean {
  const writers = new Set(register.filter(({ place }) => place.timeline === timeline).map(({ place }) => place.port));
  return writers.size > 0 && !writers.has(port);
}

const branch = ({ port, timeline, origin }: Place): string => `${port} ${timeline} ${origin}`;

/**
 * An upper bound of where an operation's commit stands in the WAL of its timeline: every write that was begun after its
 * acknowledgement was written further on. Without any: no bound.
 */
function commitBounds(operations: readonly Operation[]): (operation: Operation) => number {
  const later = new Map<string, { at: number; lsn: number }[]>();
  for (const { place, invokedAt } of operations.toSorted((a, b) => b.invokedAt - a.invokedAt)) {
    if (place === null) continue;
    const list = listOf(later, branch(place));
    list.push({ at: invokedAt, lsn: Math.min(place.lsn, list.at(-1)?.lsn ?? Number.POSITIVE_INFINITY) });
  }
  return ({ place, completedAt }) => {
    if (place === null) return Number.POSITIVE_INFINITY;
    const list = later.get(branch(place)) ?? [];
    return list.findLast(({ at }) => at > completedAt + DOUBT_MS)?.lsn ?? Number.POSITIVE_INFINITY;
  };
}

function surplus(history: History, contents: Contents): Violation[] {
  const known = new Map(history.operations.map((each) => [each.id, each]));
  const seen = new Set<number>();
  const numbers = new Map<string, number>();
  const found: Violation[] = [];
  for (const row of [...contents.register, ...contents.transfers]) {
    const operation = known.get(row.op);
    if (operation === undefined) {
      found.push(violation("foreign", null, `a row names op ${row.op}, which nobody began`));
      continue;
    }
    if (seen.has(row.op)) found.push(violation("duplicate", operation, "there is more than one row of it"));
    else if (operation.outcome === "fail") {
      const told = `${operation.code}: ${operation.message}`;
      found.push(violation("denied", operation, `it is there, and its client was told ${told}`));
    }
    seen.add(row.op);
  }
  for (const row of contents.register) {
    const key = `${row.client} ${row.value}`;
    const other = numbers.get(key);
    if (other !== undefined && other !== row.op)
      found.push(
        violation("duplicate", known.get(row.op) ?? null, `op ${other} has written the same number ${row.value}`),
      );
    numbers.set(key, row.op);
  }
  return found;
}

function money({ run }: History, contents: Contents): Violation[] {
  const found: Violation[] = [];
  const sum = contents.balances.reduce((total, { balance }) => total + balance, 0);
  if (sum !== run.total) found.push(violation("money", null, `all accounts hold ${sum} in place of ${run.total}`));
  if (contents.balances.length !== run.accounts)
    found.push(violation("money", null, `there are ${contents.balances.length} accounts in place of ${run.accounts}`));
  const expected = new Map(contents.balances.map(({ account }) => [account, run.total / run.accounts]));
  for (const { from, to, value } of contents.transfers) {
    expected.set(from, (expected.get(from) ?? 0) - value);
    expected.set(to, (expected.get(to) ?? 0) + value);
  }
  for (const { account, balance } of contents.balances) {
    const due = expected.get(account);
    if (due !== balance)
      found.push(violation("money", null, `account ${account} holds ${balance}, its transfers say ${due}`));
  }
  return found;
}

function crossed({ operations }: History): Violation[] {
  return operations
    .filter((each) => each.crossed !== null)
    .map((each) => violation("crossed", each, `the answer was op ${each.crossed}'s`));
}

function reads({ operations, run }: History): Violation[] {
  return operations
    .filter(({ kind, outcome, value }) => kind === "read" && outcome === "ok" && value !== run.total)
    .map((each) => violation("read", each, `all accounts held ${each.value} in place of ${run.total}`));
}

/** Without these, whole properties would hold whatever happened. */
function unseen({ operations, sights, windows }: History): Violation[] {
  const routers = new Set(operations.map(({ router }) => router));
  const silent = [...routers].filter(
    (name) => !sights.some(({ what, router }) => what === "served" && router === name),
  );
  const complaints = [
    ...silent.map((name) => `${name} never said that a leader takes writes`),
    ...(windows.length === 0 ? ["no member was ever seen to take writes"] : []),
    ...(operations.length === 0 ? ["no client did anything"] : []),
  ];
  return complaints.map((text) => violation("unseen", null, text));
}

/** What one pgsteer process knew when a moment came: sights of its own life only, and certainly before that moment. */
function knownBefore(sights: readonly Sight[], at: number): readonly Sight[] {
  const before = sights.filter((each) => each.at < at - DOUBT_MS);
  return before.slice(before.findLastIndex(({ what }) => what === "start") + 1);
}

/** Writes that were acknowledged, or that are there, though their pgsteer could have known better when it was asked for them. */
function staleWrites({ operations, sights, run }: History, contents: Contents | null): Violation[] {
  const there = new Set([...(contents?.register ?? []), ...(contents?.transfers ?? [])].map(({ op }) => op));
  const byRouter = new Map<string, Sight[]>();
  for (const each of sights) listOf(byRouter, each.router).push(each);
  return operations.flatMap((each) => {
    if (!writes(each) || each.place === null) return [];
    if (each.outcome !== "ok" && !there.has(each.id)) return [];
    const known = byRouter.get(each.router) ?? [];
    const member = run.members[each.place.port] ?? `port ${each.place.port}`;
    const told = staleness(each, each.place.timeline, member, known);
    return told === null ? [] : [violation("stale", each, told)];
  });
}

function staleness(operation: Operation, timeline: number, member: string, sights: readonly Sight[]): string | null {
  if (operation.decidedAt === null) return null;
  const known = knownBefore(sights, operation.decidedAt);
  const newest = known
    .filter(({ what }) => what === "served")
    .reduce((top, sight) => Math.max(top, sight.timeline ?? 0), 0);
  if (timeline < newest)
    return `sent at ${operation.decidedAt}, written on ${member}, timeline ${timeline}, when ${operation.router} had served timeline ${newest}`;
  const last = known.findLast(
    (sight) => sight.member === member && (sight.what === "deposed" || sight.what === "served"),
  );
  if (last?.what !== "deposed") return null;
  const again = sights.some(
    ({ at, what, member: whose }) =>
      what === "served" && whose === member && at > last.at && at <= operation.completedAt + DOUBT_MS,
  );
  return again
    ? null
    : `sent at ${operation.decidedAt}, written on ${member}, which ${operation.router} had deposed at ${last.at}`;
}

function listOf<K, V>(map: Map<K, V[]>, key: K): V[] {
  const list = map.get(key) ?? [];
  map.set(key, list);
  return list;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

/** How long `span` and the spans of the list have in common. */
function shared(span: Span, list: readonly Span[]): number {
  return list.reduce((sum, { from, to }) => sum + Math.max(0, Math.min(to, span.to) - Math.max(from, span.from)), 0);
}

/** What is left of the spans of a list without those of another. */
function without(list: readonly Span[], holes: readonly Span[]): Span[] {
  let left = [...list];
  for (const hole of holes) {
    left = left.flatMap((span) =>
      [
        { from: span.from, to: Math.min(span.to, hole.from) },
        { from: Math.max(span.from, hole.to), to: span.to },
      ].filter(({ from, to }) => to > from),
    );
  }
  return left;
}

/** Spans in one list, none of which overlaps another. */
function joined(list: readonly Span[]): Span[] {
  const result: { from: number; to: number }[] = [];
  for (const { from, to } of list.toSorted((a, b) => a.from - b.from)) {
    const last = result.at(-1);
    if (last !== undefined && from <= last.to) last.to = Math.max(last.to, to);
    else result.push({ from, to });
  }
  return result;
}

/** Whether PostgreSQL itself has answered: that two transfers met is an answer, too. */
function served({ outcome, message }: Operation): boolean {
  return outcome === "ok" || message?.startsWith("could not serialize access") === true;
}

/** A member whose timeline is older than one that takes or took writes is not served, whatever it says. */
function servableWindows(windows: readonly Window[]): Span[] {
  return windows.flatMap(({ timeline, from, to }) => {
    const newer = windows.filter((each) => each.timeline > timeline).map((each) => each.from);
    const end = Math.min(to, ...newer);
    return end > from ? [{ from, to: end }] : [];
  });
}

function stuckClients({ operations, windows, faults, run }: History): { violations: Violation[]; longestMs: number } {
  const violations: Violation[] = [];
  const writable = joined(servableWindows(windows));
  const servable = new Map<string, Span[]>();
  const byClient = new Map<number, Operation[]>();
  for (const each of operations) listOf(byClient, each.client).push(each);
  let longestMs = 0;
  for (const [client, list] of byClient) {
    const router = list[0]?.router ?? "";
    // A transfer can wait for rows that another one has locked, which came through a pgsteer that stands still.
    const anywhere = list.some(({ kind }) => kind === "transfer");
    const blind = faults.filter((fault) => (anywhere ? fault.blind.length > 0 : fault.blind.includes(router)));
    const key = anywhere ? "" : router;
    const good =
      servable.get(key) ??
      without(
        writable,
        blind.map(({ beganAt, endedAt }) => ({ from: beganAt, to: endedAt })),
      );
    servable.set(key, good);
    const answers = list.filter(served).map(({ completedAt }) => completedAt);
    let from = run.startedAt;
    for (const to of [...answers.toSorted((a, b) => a - b), run.endedAt]) {
      const ms = shared({ from, to }, good);
      longestMs = Math.max(longestMs, ms);
      if (ms > run.stuckMs)
        violations.push(
          violation(
            "stuck",
            null,
            `client ${client} of ${router}: nothing from ${from} to ${to}, ${Math.round(ms)} ms of which it could be served`,
          ),
        );
      from = Math.max(from, to);
    }
  }
  return { violations, longestMs };
}
