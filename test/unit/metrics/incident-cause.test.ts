import { describe, expect, test } from "vitest";
import { millis } from "../../../src/core/units.ts";
import type { ConnectionEvidence } from "../../../src/discovery/feed.ts";
import type { Topology } from "../../../src/discovery/topology.ts";
import { beginningOf, type Report, speaksAgainst } from "../../../src/metrics/incident-cause.ts";
import { elected, none, standby, topology, writable } from "./fixture.ts";

const NOW = millis(10_000);
const report = (evidence: ConnectionEvidence, at = NOW, member = "a"): Report => ({ at, member, evidence });
const causeOf = (now: Topology, said: Report | null = null, before = topology(writable)) =>
  beginningOf(now, before, NOW, said)?.cause ?? null;
const source = (kind: "etcd" | "static", connected: boolean) => ({
  source: { kind, connected, confirmedAt: millis(0), reason: connected ? "" : "no answer" },
});
const other = { ...writable, member: "b", epoch: { timeline: 3, revision: 12n, sequence: 4 } } as const;

describe("a record begins when the leader that took writes", () => {
  test("is said to go", () => {
    const epoch = { timeline: 2, revision: 9n, sequence: 3 };
    const draining = { kind: "draining", member: "a", epoch, reason: "a switchover was asked for" } as const;
    const beginning = beginningOf(topology(draining), topology(), NOW, null);
    expect(beginning).toEqual({
      cause: "announced",
      reason: "a switchover was asked for",
      old: { member: "a", epoch: 3, timeline: 2 },
      key: "a 9",
    });
    const asked = (reason: string) => causeOf(topology({ ...draining, reason }));
    expect(asked("pgsteer switchover is under way (admin@db1, 03:04)")).toBe("switchover_requested");
    expect(asked("all transactions are paused by pgsteer pause (admin@db1, 03:04)")).toBe("pause_requested");
    // What follows belongs to the same record.
    expect(beginningOf(topology(none), topology(draining), NOW, null)).toBeNull();
  });

  test("holds the key no more", () => {
    expect(causeOf(topology(none))).toBe("leader_key_gone");
    expect(causeOf(topology(other))).toBe("leader_key_changed");
    expect(causeOf(topology({ ...other, kind: "elected", reason: "b is still in recovery" }))).toBe(
      "leader_key_changed",
    );
    expect(causeOf(topology(standby))).toBe("standby");
  });

  test("is in doubt, by what a connection said just now, or else by a probe", () => {
    const refused = report({ kind: "failed", reason: "connect ECONNREFUSED 10.0.0.1:5432" });
    expect(causeOf(topology(elected), refused)).toBe("connection_refused");
    expect(causeOf(topology(elected), report({ kind: "failed", reason: "read ECONNRESET" }))).toBe("connection_lost");
    expect(causeOf(topology(elected), report({ kind: "login", inRecovery: true }))).toBe("in_recovery");
    expect(causeOf(topology(elected))).toBe("probe_failed");
    expect(causeOf(topology(elected), { ...refused, at: millis(9_000) })).toBe("probe_failed");
    expect(causeOf(topology(elected), { ...refused, member: "b" })).toBe("probe_failed");
  });

  test("is not confirmed while the source is silent, or not found in a static list", () => {
    expect(causeOf({ ...topology(none), ...source("etcd", false) })).toBe("source_lost");
    expect(causeOf({ ...topology(none), ...source("static", true) })).toBe("probe_failed");
    expect(causeOf({ ...topology(other), ...source("static", true) })).toBe("probe_failed");
    const lost = report({ kind: "failed", reason: "read ECONNRESET" });
    expect(causeOf({ ...topology(none), ...source("static", true) }, lost)).toBe("connection_lost");
  });

  test("and not when it stays, nor before one was seen", () => {
    expect(causeOf(topology(writable))).toBeNull();
    expect(causeOf(topology(none), null, topology(elected))).toBeNull();
    expect(causeOf(topology(writable), null, topology(none))).toBeNull();
  });
});

describe("what a connection says", () => {
  test("speaks against a leader unless it is a login that found it writable, or did not say", () => {
    expect(speaksAgainst({ kind: "failed", reason: "" })).toBe(true);
    expect([true, false, null].map((inRecovery) => speaksAgainst({ kind: "login", inRecovery }))).toEqual([
      true,
      false,
      false,
    ]);
  });
});
