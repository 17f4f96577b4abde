import { describe, expect, test } from "vitest";
import { topologyDocument } from "../../../src/admin/topology-document.ts";
import { formatAge, formatBytes, renderStatus } from "../../../src/cli/status-table.ts";
import type { Snapshot } from "../../../src/metrics/snapshot.ts";
import { clusterSnapshot, elected, listenerSnapshot, member, none, snapshot, topology } from "../metrics/fixture.ts";

const render = (of: Snapshot) => renderStatus(topologyDocument(of));

describe("pgsteer status", () => {
  test("shows a healthy cluster as a table", () => {
    const now = topology(undefined, [member("c", { lagBytes: 22_020_096, timeline: 1 })]);
    expect(render(snapshot(now))).toMatchInlineSnapshot(`
      "pgsteer 1.2.3, up 61 s

      Cluster main: leader a (epoch 3, timeline 2) takes writes; 2 clients wait for a member that can serve them
      Source: etcd answers (last proof 0.3 s ago)
      +--------+---------------+---------+---------+----+-------+--------------------------------------------+------------------+
      | Member | Host          | Role    | State   | TL |   Lag | Serves                                     | Connections      |
      +--------+---------------+---------+---------+----+-------+--------------------------------------------+------------------+
      | a      | 10.0.0.1:5432 | Leader  | running |  2 |       | write, auto (writes)                       | 2 active, 1 idle |
      | b      | 10.0.0.1:5432 | Replica | running |  2 |     0 | read, auto (reads)                         | 2 active, 1 idle |
      | c      | 10.0.0.1:5432 | Replica | running |  1 | 21 MB | nothing: 22020096 bytes behind, limit 1000 | 2 active, 1 idle |
      +--------+---------------+---------+---------+----+-------+--------------------------------------------+------------------+
      a: writes: a holds the leader key; reads: is in recovery and streams
      b: writes: a holds the leader key; reads: is in recovery and streams
      c: writes: a holds the leader key; reads: is in recovery and streams

      Clients: 66 of at most 100
      +----------+----------------+-------+-------------+------+--------+---------+----------+--------+-------+-------+
      | Listener | Address        | Route | Mode        | Idle | Active | Waiting | Settling | Failed | Login | Ready |
      +----------+----------------+-------+-------------+------+--------+---------+----------+--------+-------+-------+
      | write1   | 127.0.0.1:5000 | write | transaction |    2 |      4 |       3 |        7 |      5 |     1 | yes   |
      | read1    | 127.0.0.1:5000 | read  | transaction |    2 |      4 |       3 |        7 |      5 |     1 | yes   |
      | auto1    | 127.0.0.1:5000 | auto  | transaction |    2 |      4 |       3 |        7 |      5 |     1 | yes   |
      +----------+----------------+-------+-------------+------+--------+---------+----------+--------+-------+-------+
      write1 has clients that keep their server: 2 listen
      read1 has clients that keep their server: 2 listen
      auto1 has clients that keep their server: 2 listen"
    `);
  });

  test("says why there are no writes, and which listener suffers", () => {
    const text = render(snapshot(topology(elected)));
    expect(text).toContain("leader a (epoch 3, timeline 2) takes no writes: a is still in recovery; 2 clients wait");
    expect(text).toMatch(/\| write1 .* no +\|/);
    expect(text).toContain("write1 is not ready: ");
    expect(render(snapshot(topology(none)))).toContain("no leader: nobody holds the leader key");
  });

  test("says that a member serves nothing, and why", () => {
    const text = render(snapshot(topology(undefined, [member("b", { readable: false, reason: "not streaming" })])));
    expect(text).toContain("nothing: not streaming");
  });

  test("says once, and loudly, that the source is lost", () => {
    const source = { kind: "etcd", connected: false, ageSeconds: 75, reason: "connection refused" } as const;
    const leader = { state: "none", member: null, epoch: null, timeline: null, revision: null } as const;
    const lost = clusterSnapshot(topology(none), {
      source,
      leader: { ...leader, reason: "connection refused" },
      members: [],
    });
    const text = render(snapshot(topology(none), { clusters: [lost], listeners: [] }));
    expect(text).toContain("Cluster main: no leader is known");
    expect(text).toContain("etcd DOES NOT ANSWER (for 75 s): connection refused");
    expect(text).toContain("(no member is known)");
  });

  test("shows draining, a paused cluster, and which cluster a listener leads to where there are several", () => {
    const two = [clusterSnapshot(topology(), { paused: true }), clusterSnapshot(topology(), { name: "other" })];
    const text = render(snapshot(undefined, { draining: true, clusters: two, listeners: [listenerSnapshot("write")] }));
    expect(text).toContain("SHUTTING DOWN");
    expect(text).toContain("automatic failover is PAUSED");
    expect(text).toContain("| Cluster |");
    expect(text).toContain("Cluster other:");
  });

  test("writes sizes and ages as a person says them", () => {
    expect([null, 0, 812, 1536, 25_000, 22_020_096, 5e12].map(formatBytes)).toEqual([
      "unknown",
      "0",
      "812 B",
      "1.5 kB",
      "24 kB",
      "21 MB",
      "4.5 TB",
    ]);
    expect([0.44, 59, 300, 10_000, 400_000].map(formatAge)).toEqual(["0.4 s", "59 s", "5 min", "3 h", "5 d"]);
  });
});
