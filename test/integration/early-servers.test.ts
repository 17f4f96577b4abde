// What is ready when a new leader begins to take writes: servers that were logged in before, for as many as wait and the pool may
// have, none of them lent before the gate has opened. The new leader's startup process is stopped, so that its promotion lasts for
// as long as the test wants.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { type Connection, connect, query, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const POOL_SIZE = 3;
const CLIENTS = 12;

describe("clients that wait for a new leader", () => {
  let cluster: Cluster;
  let pgsteer: Pgsteer;
  const connections: Connection[] = [];

  beforeAll(async () => {
    cluster = await startCluster();
    await queryOnce(
      cluster.login(await cluster.requireLeader(), APPLICATION),
      "CREATE TABLE served (turn serial, client int, pid int DEFAULT pg_backend_pid(), port int DEFAULT inet_server_port())",
    );
    // Nothing but what its clients prove lets it in as the application.
    const leader = await cluster.requireLeader();
    const kept = await cluster.sql(leader, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", [APPLICATION.user]);
    const secret = z.object({ rolpassword: z.string().startsWith("SCRAM-SHA-256$") }).parse(kept.rows[0]).rolpassword;
    pgsteer = await startPgsteer(cluster, {
      ready: "sql",
      users: { [APPLICATION.user]: secret },
      configure: ({ pool, log }) => {
        pool["default_pool_size"] = POOL_SIZE;
        log["level"] = "debug";
      },
    });
    for (let count = 0; count < CLIENTS; count += 1) connections.push(await connect(pgsteer.login("write")));
  });

  afterAll(async () => {
    for (const connection of connections) connection.destroy();
    await cluster?.remove();
  });

  /** The application's sessions on a member, which are pgsteer's: pids, smallest first. */
  async function sessions(member: string): Promise<number[]> {
    const statement = "SELECT pid FROM pg_stat_activity WHERE usename = $1 ORDER BY pid";
    const { rows } = await cluster.sql(member, statement, [APPLICATION.user]);
    return z
      .array(z.object({ pid: z.number() }))
      .parse(rows)
      .map(({ pid }) => pid);
  }

  const insert = (client: number) => {
    const connection = connections[client];
    if (connection === undefined) throw new Error(`there is no client ${client}`);
    return query(connection, "INSERT INTO served (client) VALUES ($1) RETURNING pid", [client], 60_000);
  };

  /**
   * A switchover to `candidate` that stops short of its promotion, with a row of each of the clients, in this order, waiting for it;
   * `before` gets the servers that are ready, then all goes on.
   */
  async function switchover(candidate: string, clients: readonly number[], before: (pids: number[]) => void) {
    const known = await sessions(candidate);
    cluster.addLag(candidate);
    const switched = cluster.switchover(candidate);
    switched.catch(() => {});
    let written: Promise<unknown> = switched;
    try {
      await waitFor(async () => (await cluster.leader()) === candidate, {
        timeoutMs: 30_000,
        what: `${candidate} holds the leader key`,
      });
      written = Promise.all(clients.map(insert));
      written.catch(() => {});
      const wanted = Math.min(POOL_SIZE, clients.length);
      const ready = async () => {
        const pids = (await sessions(candidate)).filter((pid) => !known.includes(pid));
        return pids.length >= wanted ? pids : null;
      };
      before(await waitFor(ready, { timeoutMs: 10_000, what: `${wanted} servers are ready for ${candidate}` }));
      // The gate is shut, so nothing has gone through.
      expect((await cluster.sql(candidate, "SELECT pg_is_in_recovery() AS shut")).rows).toEqual([{ shut: true }]);
      expect((await rows(candidate)).filter(({ port }) => port === cluster.member(candidate).port)).toEqual([]);
    } finally {
      cluster.removeLag(candidate);
    }
    await Promise.all([switched, written]);
    await cluster.waitHealthy();
  }

  const served = z.array(z.object({ client: z.number(), pid: z.number(), port: z.number() }));

  async function rows(member: string): Promise<z.output<typeof served>> {
    const found = await cluster.sql(member, "SELECT client, pid, port FROM served ORDER BY turn", [], "app");
    return served.parse(found.rows);
  }

  test("are served by servers that were there before, by no more than the pool may have", {
    timeout: 90_000,
  }, async () => {
    const [candidate, other] = await cluster.replicas();
    if (candidate === undefined || other === undefined) throw new Error("there are no replicas");
    const all = connections.map((_each, index) => index);
    let early: number[] = [];
    const reader = await connect(pgsteer.login("read"));
    const readers = await waitFor(
      async () => {
        await query(reader, "SELECT 1");
        const found = { candidate: await sessions(candidate), other: await sessions(other) };
        return found.candidate.length > 0 && found.other.length > 0 ? found : null;
      },
      { timeoutMs: 20_000, what: "both replicas have a server for reads" },
    );
    await switchover(candidate, all, (pids) => {
      early = pids;
    });
    expect(early).toHaveLength(POOL_SIZE);
    const seen = (await rows(candidate)).filter(({ port }) => port === cluster.member(candidate).port);
    expect(seen.map(({ client }) => client).toSorted((a, b) => a - b)).toEqual(all);
    expect(seen.filter(({ pid }) => !early.includes(pid))).toEqual([]);
    // First come, first served: each server took those who waited in their order.
    for (const pid of early) {
      const clients = seen.filter((row) => row.pid === pid).map(({ client }) => client);
      expect(clients).toEqual(clients.toSorted((a, b) => a - b));
    }
    // What stayed a replica has kept its servers.
    expect(await sessions(other)).toEqual(readers.other);
    reader.destroy();
  });

  test("find no more servers ready than there are of them", { timeout: 90_000 }, async () => {
    const [candidate] = await cluster.replicas();
    if (candidate === undefined) throw new Error("there is no replica");
    let early: number[] = [];
    await switchover(candidate, [0], (pids) => {
      early = pids;
    });
    expect(early).toHaveLength(1);
  });
});
