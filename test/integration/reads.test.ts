// Which member a read goes to: round the replicas, not to one that is too far behind, by what a transaction says of itself, and
// as libpq's target_session_attrs asks.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { psql } from "../support/programs.ts";
import { RawClient } from "../support/raw-client.ts";
import { type Login, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let cluster: Cluster;
let pgsteer: Pgsteer;
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster();
  pgsteer = await startPgsteer(cluster, {
    ready: "sql",
    configure: ({ listeners }) => {
      for (const listener of listeners) if (listener["route"] !== "write") listener["lag_bytes_max"] = 1_048_576;
    },
  });
  const leader = cluster.login(await cluster.requireLeader(), APPLICATION);
  await queryOnce(leader, "CREATE TABLE counted (id int PRIMARY KEY, n int NOT NULL)");
  await cluster.waitHealthy();
});

afterEach(() => {
  for (const client of opened.splice(0)) client.destroy();
});

afterAll(async () => {
  await cluster?.remove();
});

async function client(login: Login, parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
  const found = await RawClient.login(login, parameters);
  opened.push(found);
  return found;
}

describe("reads", { timeout: 120_000 }, () => {
  const ports = async (names: readonly string[]) => names.map((name) => String(cluster.member(name).port)).sort();
  const where = "SELECT inet_server_port()";

  /** Where `count` reads one after the other go. */
  async function served(count: number): Promise<string[]> {
    const reader = await client(pgsteer.login("read"));
    const seen: string[] = [];
    for (let each = 0; each < count; each += 1) seen.push(await reader.value(where));
    return seen;
  }

  test("on the read port go round the replicas", async () => {
    const seen = await served(10);
    const replicas = await ports(await cluster.replicas());
    expect([...new Set(seen)].sort()).toEqual(replicas);
    for (const port of replicas) expect(seen.filter((each) => each === port)).toHaveLength(5);
  });

  test("leave a replica that is too far behind, and come back to it", async () => {
    const [lagging = "", fresh = ""] = await cluster.replicas();
    cluster.addLag(lagging);
    const leader = await cluster.requireLeader();
    await cluster.sql(leader, "CREATE TABLE ballast AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)");
    const only = async (names: readonly string[]) => {
      const expected = await ports(names);
      return [...new Set(await served(6))].sort().join() === expected.join();
    };
    await waitFor(() => only([fresh]), { timeoutMs: 30_000, what: "reads leave the lagging replica" });
    cluster.removeLag(lagging);
    await waitFor(() => only([lagging, fresh]), { timeoutMs: 30_000, what: "reads come back to it" });
  });

  test("go to the leader when every replica is too far behind", async () => {
    const replicas = await cluster.replicas();
    for (const name of replicas) cluster.addLag(name);
    const leader = await cluster.requireLeader();
    await cluster.sql(leader, "CREATE TABLE ballast2 AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)");
    const [port = ""] = await ports([leader]);
    const isLeader = async () => (await served(4)).every((each) => each === port);
    await waitFor(isLeader, { timeoutMs: 30_000, what: "reads go to the leader" });
    for (const name of replicas) cluster.removeLag(name);
    const isReplica = async () => !(await served(4)).includes(port);
    await waitFor(isReplica, { timeoutMs: 30_000, what: "reads leave the leader" });
  });

  test("on auto go to a replica inside BEGIN READ ONLY, and everything else to the leader", async () => {
    const [leader = ""] = await ports([await cluster.requireLeader()]);
    const replicas = await ports(await cluster.replicas());
    const one = await client(pgsteer.login("auto"));
    for (const begin of [
      "BEGIN READ ONLY",
      "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;",
      "begin /* x */ transaction read only",
    ]) {
      for (const send of [() => one.simple(begin), () => one.extended(begin)]) {
        expect((await send()).at(-1)).toBe("Z T");
        expect(replicas).toContain(await one.value(where));
        expect(await one.simple("INSERT INTO counted VALUES (2, 2)")).toEqual(["E ERROR 25006", "Z E"]);
        expect(await one.simple("ROLLBACK")).toEqual(["C ROLLBACK", "Z I"]);
      }
    }
    for (const begin of ["BEGIN", "BEGIN READ WRITE", "BEGIN READ ONLY, READ WRITE"]) {
      expect((await one.simple(begin)).at(-1)).toBe("Z T");
      expect(await one.value(where)).toBe(leader);
      await one.simple("ROLLBACK");
    }
    expect(await one.simple("INSERT INTO counted VALUES (3, 3)")).toEqual(["C INSERT 0 1", "Z I"]);
    const reader = await client(pgsteer.login("auto"), { options: "-c default_transaction_read_only=on" });
    expect(replicas).toContain(await reader.value(where));
  });

  test.each([
    ["write", ["any", "read-write", "primary", "prefer-standby"], ["read-only", "standby"]],
    ["auto", ["any", "read-write", "primary", "prefer-standby"], ["read-only", "standby"]],
    ["read", ["any", "read-only", "standby", "prefer-standby"], ["read-write", "primary"]],
  ] as const)("libpq's target_session_attrs hold on the %s port", async (route, good, bad) => {
    const attempt = async (attributes: string) => {
      const env = { PGTARGETSESSIONATTRS: attributes };
      const { code, stderr } = await psql(pgsteer.login(route), ["-c", "SELECT 1"], { env });
      return `${attributes}: ${code === 0 ? "connected" : stderr}`;
    };
    for (const attributes of good) expect(await attempt(attributes)).toBe(`${attributes}: connected`);
    for (const attributes of bad)
      expect(await attempt(attributes)).toMatch(/session is|not in hot standby|in hot standby/);
  });
});
