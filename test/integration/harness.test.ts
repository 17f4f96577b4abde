import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, PROBE, startCluster } from "../support/cluster.ts";
import { recordLeadership } from "../support/leadership.ts";
import { type PgsteerConfiguration, startPgsteer } from "../support/pgsteer.ts";
import { preferredPort } from "../support/ports.ts";
import { temporaryServerDirectory } from "../support/processes.ts";
import { processesOf } from "../support/procfs.ts";
import { queryOnce } from "../support/sql.ts";
import { now, waitFor } from "../support/time.ts";
import { Writer } from "../support/writer.ts";

describe("the cluster harness", () => {
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await startCluster();
  });

  afterAll(async () => {
    await cluster?.remove();
  });

  test("starts one leader, two replicas that stream, and the roles that tests need", async () => {
    const leader = await cluster.requireLeader();
    expect(await cluster.replicas()).toHaveLength(2);
    const app = await queryOnce(
      cluster.login(leader, APPLICATION),
      "CREATE TABLE t (n int); SELECT pg_is_in_recovery()",
    );
    expect(app).toHaveLength(2);
    for (const name of await cluster.replicas()) {
      const { rows } = await queryOnce(cluster.login(name, PROBE), "SELECT pg_is_in_recovery() AS recovery");
      expect(rows).toEqual([{ recovery: true }]);
    }
  });

  test("switches over to the candidate, and records what Patroni made of it", async () => {
    const from = await cluster.requireLeader();
    const [candidate] = await cluster.replicas();
    await Writer.createTable(cluster.login(from, APPLICATION));
    const writer = new Writer(cluster.login(from, APPLICATION), { attemptTimeoutMs: 2000 });
    writer.start();
    const record = await recordLeadership(cluster);
    try {
      await writer.nextAcknowledged();
      const since = now();
      await cluster.switchover(candidate);
      await waitFor(() => record.change(since, from), { timeoutMs: 30_000, what: "the candidate takes writes" });
      await cluster.waitHealthy();
      const change = record.change(since, from);
      expect(change?.to).toBe(candidate);
      expect(await cluster.leader()).toBe(candidate);
      expect(change?.keyPut ?? 0).toBeGreaterThan(change?.lastWriteOld ?? Number.POSITIVE_INFINITY);
      expect(change?.firstWriteNew ?? 0).toBeGreaterThan(change?.lastWriteOld ?? Number.POSITIVE_INFINITY);
      expect(record.overlaps()).toEqual([]);
      expect(record.staleWrites()).toEqual([]);
    } finally {
      await record.stop();
      await writer.stop();
    }
    // The writer went straight to the old leader: what it was promised is there, and the demotion was seen as errors.
    expect(writer.failures().length).toBeGreaterThan(0);
    const kept = await cluster.sql(
      await cluster.requireLeader(),
      "SELECT id::int AS id FROM writes",
      [],
      APPLICATION.database,
    );
    const ids = new Set(kept.rows.map((row) => row.id));
    expect(writer.acknowledged().filter((id) => !ids.has(id))).toEqual([]);
  });

  test("sees Patroni start a killed PostgreSQL again in place", async () => {
    const leader = await cluster.requireLeader();
    const before = cluster.member(leader).pids().postmaster;
    await cluster.killPostgres(leader);
    await cluster.waitFor(() => ![null, before].includes(cluster.member(leader).pids().postmaster), 30_000);
    await cluster.waitHealthy();
    expect(await cluster.leader()).toBe(leader);
  });

  test("lets a replica fall behind and catch up", async () => {
    const leader = await cluster.requireLeader();
    const [replica = ""] = await cluster.replicas();
    const lag = async (): Promise<number> => {
      const { rows } = await cluster.sql(leader, "SELECT pg_current_wal_lsn()::text AS at");
      const behind = "SELECT pg_wal_lsn_diff($1::pg_lsn, pg_last_wal_replay_lsn())::float8 AS bytes";
      return Number((await cluster.sql(replica, behind, [rows[0]?.at])).rows[0]?.bytes);
    };
    cluster.addLag(replica);
    await cluster.sql(leader, "CREATE TABLE ballast AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)");
    await cluster.waitFor(async () => (await lag()) > 1_000_000, 30_000);
    cluster.removeLag(replica);
    await cluster.waitFor(async () => (await lag()) === 0, 30_000);
  });

  test("takes a member away and brings it back", async () => {
    const [replica = ""] = await cluster.replicas();
    await cluster.killNode(replica);
    expect(cluster.member(replica).pids()).toEqual({ patroni: null, postmaster: null });
    await cluster.waitHealthy();
    expect(await cluster.replicas()).not.toContain(replica);
    await cluster.startMember(replica);
    await cluster.waitHealthy();
    expect(await cluster.replicas()).toContain(replica);
  });

  test("stops, freezes and starts etcd without losing the leader", async () => {
    const leader = await cluster.requireLeader();
    await cluster.stopEtcd();
    await expect(cluster.leader()).rejects.toThrow("no etcd endpoint answers");
    await cluster.startEtcd();
    await cluster.etcd.ready();
    cluster.freezeEtcd();
    await expect(cluster.leader()).rejects.toThrow("no etcd endpoint answers");
    cluster.thawEtcd();
    await cluster.waitHealthy();
    expect(await cluster.leader()).toBe(leader);
  });

  test("puts pgsteer in front, which takes writes to the leader and ends with its stop", async () => {
    const leader = await cluster.requireLeader();
    const pgsteer = await startPgsteer(cluster, { ready: "sql" });
    const asked = "SELECT inet_server_port() AS port, pg_is_in_recovery() AS recovery";
    const { rows } = await queryOnce(pgsteer.login("write"), asked);
    expect(rows).toEqual([{ port: cluster.member(leader).port, recovery: false }]);
    await pgsteer.stop();
    expect(pgsteer.process.alive()).toBe(false);
  });

  test("says at once when pgsteer refuses its configuration", async () => {
    const configure = (configuration: PgsteerConfiguration) => {
      configuration.pool["no_such_setting"] = true;
    };
    await expect(startPgsteer(cluster, { name: "misconfigured", configure })).rejects.toThrow("no_such_setting");
  });

  test("leaves no process behind", async () => {
    expect(processesOf(cluster.directory).length).toBeGreaterThan(10);
    await cluster.stop();
    expect(processesOf(cluster.directory)).toEqual([]);
  });
});

describe("a cluster that cannot start", () => {
  test("is an error that leaves no process behind", async () => {
    const directory = temporaryServerDirectory("failing");
    const starting = startCluster({ members: 1, directory, patroni: { command: "/nonexistent/patroni" } });
    await expect(starting).rejects.toThrow("cannot start /nonexistent/patroni");
    expect(processesOf(directory)).toEqual([]);
    rmSync(directory, { recursive: true, force: true });
  });
});

describe("a port that a test process was given", () => {
  test("is given to no other while that process lives, and no longer", async () => {
    const support = new URL("../support/ports.ts", import.meta.url).href;
    const script = `const { freePort } = await import(${JSON.stringify(support)});
      console.log(await freePort());
      process.stdin.resume();`;
    const other = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      const [line] = await once(createInterface({ input: other.stdout }), "line");
      const port = Number(line);
      expect(await preferredPort(port)).not.toBe(port);
      const gone = once(other, "exit");
      other.stdin.end();
      await gone;
      expect(await preferredPort(port)).toBe(port);
      expect(await preferredPort(port)).not.toBe(port);
    } finally {
      other.kill("SIGKILL");
    }
  });
});

describe("a test process that dies", () => {
  test("leaves no process behind even when it is killed outright", async () => {
    const directory = temporaryServerDirectory("orphans");
    const support = new URL("../support/cluster.ts", import.meta.url).href;
    const script = `const { startCluster } = await import(${JSON.stringify(support)});
      await startCluster({ members: 1, directory: ${JSON.stringify(directory)} });
      console.log("up");
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await once(createInterface({ input: child.stdout }), "line");
      expect(processesOf(directory).length).toBeGreaterThan(3);
    } finally {
      child.kill("SIGKILL");
    }
    await waitFor(() => processesOf(directory).length === 0, {
      timeoutMs: 30_000,
      what: "the reaper has done its work",
    });
    rmSync(directory, { recursive: true, force: true });
  });
});
