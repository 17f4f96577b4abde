import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { millis } from "../../../src/core/units.ts";
import { beginIncident, stepIncident } from "../../../src/metrics/incident.ts";
import { Metrics } from "../../../src/metrics/registry.ts";
import type { Snapshot } from "../../../src/metrics/snapshot.ts";
import { metricTable } from "../../../src/metrics/table.ts";
import { clusterSnapshot, none, snapshot, topology, writable } from "./fixture.ts";

const scrape = async (of: Snapshot) => (await new Metrics(() => of).scrape()).text.split("\n");

describe("the metrics", () => {
  test("show what the snapshot says", async () => {
    const lines = await scrape(snapshot());
    for (const line of [
      'pgsteer_build_info{version="1.2.3",node="26.0.0"} 1',
      'pgsteer_writable{cluster="main"} 1',
      'pgsteer_leader{cluster="main",member="a",state="writable"} 1',
      'pgsteer_epoch{cluster="main"} 3',
      'pgsteer_source_age_seconds{cluster="main",source="etcd"} 0.25',
      'pgsteer_member_lag_bytes{cluster="main",member="b"} 0',
      'pgsteer_member_serves{cluster="main",member="b",listener="read1",purpose="read"} 1',
      'pgsteer_held_clients{cluster="main"} 2',
      'pgsteer_server_login_failures_total{cluster="main",member="a",purpose="write"} 1',
      'pgsteer_clients{cluster="main",listener="write1",state="waiting"} 3',
      'pgsteer_wait_seconds_total{cluster="main",listener="write1"} 1.5',
      'pgsteer_errors_total{cluster="main",listener="read1",code="password_failed",sqlstate="28P01"} 1',
      'pgsteer_pins_total{cluster="main",listener="auto1",cause="listen"} 8',
      'pgsteer_pinned_clients{cluster="main",listener="auto1",cause="listen"} 2',
      'pgsteer_session_state_refused_total{cluster="main",listener="auto1",cause="load"} 2',
      'pgsteer_session_state_ignored_total{cluster="main",listener="auto1",cause="advisory_lock"} 3',
      'pgsteer_failover_going{cluster="main"} 0',
      'pgsteer_failovers_total{cluster="main",kind="switchover"} 2',
      'pgsteer_failover_longest_wait_seconds{cluster="main"} 1.5',
      'pgsteer_failover_held_total{cluster="main"} 5',
      'pgsteer_failover_avoided_total{cluster="main",how="waited"} 4',
      'pgsteer_failover_avoided_total{cluster="main",how="rerun"} 1',
      'pgsteer_failover_errors_total{cluster="main",code="leader_changed",sqlstate="40001"} 3',
    ]) {
      expect(lines).toContain(line);
    }
  });

  test("sum the pools of all databases and users, whose names are no labels", async () => {
    const lines = await scrape(snapshot());
    expect(lines).toContain('pgsteer_servers{cluster="main",member="a",purpose="write",state="active"} 4');
    expect(lines).toContain('pgsteer_waiting_clients{cluster="main",member="a",purpose="write"} 2');
    expect(metricTable.flatMap(({ labels }) => labels)).not.toContain("database");
    expect(metricTable.flatMap(({ labels }) => labels)).not.toContain("user");
  });

  test("leave out what is unknown instead of inventing a number", async () => {
    const text = (await scrape(snapshot(topology(none)))).join("\n");
    expect(text).toContain('pgsteer_writable{cluster="main"} 0');
    expect(text).not.toContain("pgsteer_leader{");
    expect(text).not.toContain("pgsteer_epoch{");
    expect(text).not.toContain('pgsteer_member_lag_bytes{cluster="main",member="a"}');
  });

  test("are read anew at each scrape: counters do not add up twice, and members that are gone are gone", async () => {
    let current = snapshot();
    const metrics = new Metrics(() => current);
    await metrics.scrape();
    const again = (await metrics.scrape()).text;
    expect(again).toContain('pgsteer_transactions_total{cluster="main",listener="write1"} 100\n');
    current = snapshot(undefined, { clusters: [clusterSnapshot(topology(), { members: [] })] });
    expect((await metrics.scrape()).text).not.toContain("pgsteer_member_info{");
  });

  test("add up the phases of changes of leader, each once and only those that it had", async () => {
    const metrics = new Metrics(() => snapshot());
    const old = { member: "a", epoch: 1, timeline: 1 };
    const seed = { id: 1, cluster: "main", at: millis(0), wall: 0, holding: 0, old, key: "a 1" } as const;
    const begun = beginIncident({ ...seed, cause: "leader_key_gone", reason: "" });
    const leader = { ...writable, member: "b", epoch: { timeline: 2, revision: 2n, sequence: 2 } } as const;
    metrics.observe(stepIncident(begun, { kind: "leader", at: millis(300), leader, keyKnown: true }));
    await metrics.scrape();
    const lines = (await metrics.scrape()).text.split("\n");
    for (const line of [
      'pgsteer_failover_phase_seconds_bucket{le="0.25",cluster="main",phase="gate"} 0',
      'pgsteer_failover_phase_seconds_bucket{le="0.5",cluster="main",phase="gate"} 1',
      'pgsteer_failover_phase_seconds_sum{cluster="main",phase="gate"} 0.3',
      'pgsteer_failover_phase_seconds_count{cluster="main",phase="end"} 1',
    ])
      expect(lines).toContain(line);
    expect(lines.some((line) => line.includes('phase="first_answer"'))).toBe(false);
  });

  test("tell of the process itself too", async () => {
    const text = (await scrape(snapshot())).join("\n");
    expect(text).toMatch(/^process_resident_memory_bytes \d+/m);
    expect(text).toMatch(/^nodejs_eventloop_lag_seconds /m);
  });

  test("two routers in one process do not meet", () => {
    expect(() => [new Metrics(() => snapshot()), new Metrics(() => snapshot())]).not.toThrow();
  });
});

describe("the table of metrics", () => {
  test("follows Prometheus' rules for names", () => {
    const names = metricTable.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { name, kind, help } of metricTable) {
      expect(name).toMatch(/^pgsteer_[a-z_]+$/);
      expect(name.endsWith("_total")).toBe(kind === "counter");
      expect(help).toMatch(/\.$/);
    }
  });

  test("is the one in the documentation", () => {
    const text = readFileSync(new URL("../../../docs/operations.md", import.meta.url), "utf8");
    const documented = [...text.matchAll(/^\| `(pgsteer_[a-z_]+)` \| ([^|]*) \| ([^|]*) \|$/gm)];
    const rows = documented.map(([, name, labels, help]) => ({ name, labels: labels?.trim(), help: help?.trim() }));
    const expected = metricTable.map(({ name, labels, help }) => ({ name, labels: labels.join(", "), help }));
    expect(rows).toEqual(expected);
  });
});
