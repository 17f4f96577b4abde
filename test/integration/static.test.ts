// pgsteer without a DCS: a list of servers, in a file or as URLs on the command line, roles found by asking PostgreSQL alone. It
// follows a switchover that nobody tells it of, and never takes a member in recovery for the leader.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, projectRoot, startPgsteer } from "../support/pgsteer.ts";
import type { RunningProcess } from "../support/processes.ts";
import { codeOf, type Login, queryOnce } from "../support/sql.ts";
import { now, waitFor } from "../support/time.ts";
import { Writer } from "../support/writer.ts";

const WHERE = "SELECT inet_server_port() AS port, pg_is_in_recovery() AS recovery";
const placeSchema = z.object({ port: z.number(), recovery: z.boolean() });

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
});

afterAll(async () => {
  await cluster?.remove();
});

async function place(login: Login): Promise<z.output<typeof placeSchema>> {
  return placeSchema.parse((await queryOnce(login, WHERE)).rows[0]);
}

async function leaderPort(): Promise<number> {
  return cluster.member(await cluster.requireLeader()).port;
}

/** Where writes and reads go must be what Patroni says. */
async function expectRoles(login: (route: "auto" | "write" | "read") => Login): Promise<void> {
  const leader = await leaderPort();
  for (const route of ["write", "auto"] as const) {
    expect(await place(login(route))).toEqual({ port: leader, recovery: false });
  }
  const read = new Set<number>();
  for (let count = 0; count < 6; count += 1) {
    const found = await place(login("read"));
    expect(found.recovery).toBe(true);
    read.add(found.port);
  }
  expect(read.size).toBe(2);
}

describe("a static cluster from a file", () => {
  let pgsteer: Pgsteer;

  beforeAll(async () => {
    pgsteer = await startPgsteer(cluster, {
      configure: ({ clusters }) => {
        const probe = clusters["demo"]?.["probe"];
        const hosts = cluster.members.map(({ host, port }) => `${host}:${port}`);
        clusters["demo"] = { source: "static", static: { hosts }, probe };
      },
    });
  });

  test("knows every member's role", async () => {
    await waitFor(async () => (await place(pgsteer.login("read"))).recovery, {
      timeoutMs: 30_000,
      what: "replicas serve",
    });
    await expectRoles((route) => pgsteer.login(route));
  });

  test("follows a switchover; nothing acknowledged is lost, nothing is done twice", { timeout: 120_000 }, async () => {
    const before = await cluster.requireLeader();
    const columns = "id bigint NOT NULL, client_time double precision NOT NULL";
    await queryOnce(cluster.login(before, APPLICATION), `CREATE TABLE writes (${columns})`);
    const writer = new Writer(pgsteer.login("write"));
    writer.start();
    try {
      await writer.nextAcknowledged();
      const since = now();
      await cluster.switchover();
      await cluster.waitHealthy();
      await writer.nextAcknowledged();
      // Nobody says that a switchover is coming: what is in flight at that moment is unknown. Never more than that.
      const failures = writer.failures().filter(({ end }) => end >= since);
      const told = failures.map(({ outcome, code }) => `${outcome} ${code}`);
      expect(told).toEqual(told.map(() => "unknown 08007"));
      console.log(`static, switchover: gap ${Math.round(writer.gap(since)?.ms ?? 0)} ms, failures: ${told.length}`);
    } finally {
      await writer.stop();
    }
    expect(await cluster.leader()).not.toBe(before);
    const statement = "SELECT id::int AS id, count(*)::int AS n FROM writes GROUP BY id";
    const { rows } = await queryOnce(pgsteer.login("write"), statement);
    const counts = new Map(rows.map((row) => [row["id"], row["n"]]));
    expect(writer.acknowledged().filter((id) => counts.get(id) !== 1)).toEqual([]);
    expect([...counts].filter(([, count]) => count !== 1)).toEqual([]);
    await waitFor(
      async () => {
        await expectRoles((route) => pgsteer.login(route));
        return true;
      },
      { timeoutMs: 30_000, what: "the roles are the new ones" },
    );
  });

  test("comes back when a killed leader does", { timeout: 120_000 }, async () => {
    const leader = await cluster.requireLeader();
    await cluster.killPostgres(leader);
    const answer = await queryOnce(pgsteer.login("write"), WHERE, [], 30_000);
    expect(placeSchema.parse(answer.rows[0])).toEqual({ port: await leaderPort(), recovery: false });
    await cluster.waitHealthy();
  });
});

describe("pgsteer run with URLs", () => {
  const ports = { auto: 6432, write: 5000, read: 5001 } as const;
  const login = (route: keyof typeof ports): Login => ({ host: "127.0.0.1", port: ports[route], ...APPLICATION });
  const processes: RunningProcess[] = [];

  const run = async (urls: readonly string[]): Promise<RunningProcess> => {
    const args = [`${projectRoot}/src/cli/main.ts`, "run", ...urls];
    const started = await cluster.processes.start(process.execPath, args, { name: `urls${processes.length}` });
    processes.push(started);
    return started;
  };

  afterAll(async () => {
    for (const each of processes) await each.stop();
  });

  test("serves the three default ports, with roles found by SQL", { timeout: 180_000 }, async (context) => {
    const { user, password, database } = APPLICATION;
    const hosts = cluster.members.map(({ host, port }) => `${host}:${port}`);
    const started = await run([
      `postgres://${user}:${password}@${hosts[0]}/${database}`,
      `postgresql://${user}:${password}@${hosts.slice(1).join(",")}/${database}`,
    ]);
    const served = await waitFor(
      async () => {
        if (!started.alive()) return "ended";
        await queryOnce(login("write"), "SELECT 1");
        return "serves";
      },
      { timeoutMs: 30_000, what: `it serves; its log ends:\n${started.tail(5)}` },
    );
    if (served === "ended" && started.tail(5).includes("another process listens")) {
      console.log(`skipped: one of the default ports is taken on this machine: ${started.tail(1)}`);
      context.skip();
    }
    await waitFor(async () => (await place(login("read"))).recovery, { timeoutMs: 30_000, what: "replicas serve" });
    await expectRoles(login);
    const wrong = await queryOnce({ ...login("write"), password: "wrong" }, "SELECT 1").catch(codeOf);
    expect(wrong).toBe("28P01");
    await cluster.switchover();
    await cluster.waitHealthy();
    await waitFor(
      async () => {
        await expectRoles(login);
        return true;
      },
      { timeoutMs: 30_000, what: "the roles are the new ones" },
    );
    started.signal("SIGTERM");
    await waitFor(() => started.exitCode() !== null, { timeoutMs: 30_000, what: "it has ended" });
    expect(started.exitCode()).toBe(0);
  });

  test("says what is wrong with a URL, without its password", async () => {
    const started = await run(["postgres://app:very-secret@127.0.0.1:5432/app?sslmod=require", "not a url"]);
    await waitFor(() => started.exitCode() !== null, { timeoutMs: 30_000, what: "it has ended" });
    expect(started.exitCode()).toBe(78);
    expect(started.tail()).toContain("sslmod");
    expect(started.tail()).toContain("url 2");
    expect(started.tail()).not.toContain("very-secret");
  });
});
