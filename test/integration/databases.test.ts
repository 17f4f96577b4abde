// The sections `databases` and `users` as clients meet them: aliases, a role for all, sizes and limits of their own, connect_query,
// and what a reload changes of it.

import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { APPLICATION, type Cluster, PROBE, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { errorFields, frontend, outline, RawClient, startup } from "../support/raw-client.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const OTHER = { user: PROBE.user, password: PROBE.password } as const;
const forced = { dbname: "app", user: APPLICATION.user, password: APPLICATION.password };

const databases = {
  app: {},
  first: { dbname: "app", pool_size: 1 },
  second: { dbname: "app", pool_size: 2, max_db_connections: 1 },
  forced: { ...forced, pool_mode: "session" },
  warm: { ...forced, min_pool_size: 2, connect_query: "SET application_name = 'warm'" },
  few: { dbname: "app", max_db_client_connections: 2 },
  prepared: {
    ...forced,
    pool_size: 1,
    connect_query: "SET search_path = mine; SET work_mem = '12MB'; SET app.tenant = 't1'; SET ROLE reader",
  },
  broken: { dbname: "app", connect_query: "SELECT no_such_function()" },
};
const users = { [OTHER.user]: { pool_mode: "session", max_user_client_connections: 3 } };

let cluster: Cluster;
let pgsteer: Pgsteer;
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  await cluster.sql("node1", "CREATE ROLE reader; GRANT reader TO app");
  await cluster.sql("node1", "CREATE SCHEMA mine AUTHORIZATION app; GRANT USAGE ON SCHEMA mine TO reader", [], "app");
  pgsteer = await startPgsteer(cluster, {
    name: "databases",
    configure: (configuration) => {
      Object.assign(configuration, { databases, users });
      configuration.pool["query_wait_timeout"] = "1s";
    },
  });
});

afterEach(() => {
  for (const client of opened.splice(0)) client.destroy();
});

afterAll(async () => {
  await pgsteer?.stop();
  await cluster?.remove();
});

async function client(database: string, as: { user: string; password: string } = APPLICATION): Promise<RawClient> {
  const found = await RawClient.login(pgsteer.login("write", { ...as, database }));
  opened.push(found);
  return found;
}

/** The error that a login ends with. */
async function refusal(database: string, as: { user: string; password: string } = APPLICATION, port?: number) {
  const found = await RawClient.open(port ?? pgsteer.ports.write);
  opened.push(found);
  found.send(startup({ user: as.user, database }));
  const last = (await found.authenticate(as.user, as.password)).at(-1);
  expect(last?.type).toBe("E");
  const { V, C, M, D } = errorFields(last?.body ?? Buffer.alloc(0));
  return { V, C, M, ...(D === undefined ? {} : { D }) };
}

/** Server connections of an application name, by state of PostgreSQL. */
async function serversNamed(name: string): Promise<number> {
  const sql = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = $1";
  return Number((await cluster.sql("node1", sql, [name])).rows[0]?.["n"]);
}

describe("a minimum", () => {
  test("is there before any client, where the database has a role of its own, and is filled again", async () => {
    const two = async () => (await serversNamed("warm")) === 2;
    await waitFor(two, { timeoutMs: 30_000, what: "two servers are there" });
    const kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'warm'";
    await cluster.sql("node1", kill);
    await waitFor(two, { timeoutMs: 30_000, what: "two servers are there again" });
  });
});

describe("a database", () => {
  test("that is not listed does not exist, in PostgreSQL's words, for those who may log in", async () => {
    const { port } = cluster.member("node1");
    expect(await refusal("nowhere")).toEqual(await refusal("nowhere", APPLICATION, port));
    expect(await refusal("nowhere", { user: "app", password: "wrong" })).toMatchObject({ C: "28P01" });
  });

  test("may be an alias, with a pool of its own", async () => {
    const [first, other, second] = [await client("first"), await client("first"), await client("second")];
    expect(await first.value("SELECT current_database()")).toBe("app");
    await first.simple("BEGIN");
    expect(await second.value("SELECT current_database()")).toBe("app");
    other.send(frontend.query("SELECT 1"));
    expect(outline(await other.untilEnd())).toEqual(["E FATAL 57P03", "EOF"]);
  });

  test("may have a role that logs in for all its clients, who still prove who they are", async () => {
    const one = await client("forced", OTHER);
    expect(await one.value("SELECT current_user || ' ' || session_user")).toBe("app app");
    expect(await refusal("forced", { user: OTHER.user, password: "wrong" })).toMatchObject({ C: "28P01" });
  });

  test("takes no more clients than max_db_client_connections, and the next when one has left", async () => {
    const [first] = [await client("few"), await client("few")];
    expect(await refusal("few")).toEqual({
      V: "FATAL",
      C: "53300",
      M: 'too many connections for database "few"',
      D: "max_db_client_connections is 2.",
    });
    first?.send(frontend.terminate());
    await first?.untilEnd();
    expect(await (await client("few")).value("SELECT 1")).toBe("1");
  });

  test("has no more servers than max_db_connections; an idle one makes room for another user's", async () => {
    const mine = await client("second");
    expect(await mine.value("SELECT current_user")).toBe("app");
    const yours = await client("second", OTHER);
    expect(await yours.value("SELECT current_user")).toBe(OTHER.user);
    mine.send(frontend.query("SELECT 1"));
    const seen = await mine.untilEnd();
    expect(outline(seen)).toEqual(["E FATAL 57P03", "EOF"]);
    expect(errorFields(seen[0]?.body ?? Buffer.alloc(0))["D"]).toBe(
      'max_db_connections is 1 for "second", and all are in use.',
    );
  });
});

describe("a user", () => {
  test("may have a pool mode of its own, which goes before the listener's, as the database's does", async () => {
    const pid = "SELECT pg_backend_pid()";
    // In session mode each keeps the server that it has; in transaction mode one server does for both.
    const [ours, theirs] = [await client("app", OTHER), await client("app", OTHER)];
    expect(await ours.value(pid)).not.toBe(await theirs.value(pid));
    const [one, two] = [await client("forced"), await client("forced")];
    expect(await one.value(pid)).not.toBe(await two.value(pid));
    const [three, four] = [await client("app"), await client("app")];
    expect(await three.value(pid)).toBe(await four.value(pid));
  });

  test("has no more clients than max_user_client_connections, over all databases", async () => {
    for (const database of ["app", "forced", "app"]) await client(database, OTHER);
    expect(await refusal("forced", OTHER)).toEqual({
      V: "FATAL",
      C: "53300",
      M: `too many connections for role "${OTHER.user}"`,
      D: "max_user_client_connections is 3.",
    });
  });
});

describe("connect_query", () => {
  const state = `SELECT concat_ws(' ', current_setting('search_path'), current_user, current_setting('work_mem'),
    current_setting('app.tenant', true))`;

  test("holds for every client, whatever the one before has changed", async () => {
    const [first, second] = [await client("prepared"), await client("prepared")];
    expect(await first.value(state)).toBe("mine reader 12MB t1");
    for (const change of [
      "SET search_path = public",
      "RESET ROLE",
      "SET ROLE app",
      "DISCARD ALL",
      "RESET work_mem",
      "RESET app.tenant",
      "SET work_mem = '1MB'",
    ]) {
      expect((await first.simple(change)).at(-1)).toBe("Z I");
      expect(await second.value(state), change).toBe("mine reader 12MB t1");
      expect((await first.simple("RESET ALL")).at(-1)).toBe("Z I");
      expect(await second.value(state), `${change} and RESET ALL`).toBe("mine reader 12MB t1");
    }
    await first.simple("SET search_path = public");
    expect(await first.value("SHOW search_path")).toBe("public");
  });

  test("that fails is the client's error, in PostgreSQL's words", async () => {
    expect(await refusal("broken")).toMatchObject({
      V: "FATAL",
      C: "42883",
      M: "function no_such_function() does not exist",
    });
  });
});

describe("a reload", () => {
  test("brings new databases and limits, new sizes for pools that are there, and disturbs no client", async () => {
    const [one, two] = [await client("first"), await client("first")];
    await one.simple("BEGIN");
    const configuration: unknown = parse(readFileSync(pgsteer.configurationFile, "utf8"));
    if (typeof configuration !== "object" || configuration === null) throw new Error("no configuration");
    const changed = { ...databases, first: { dbname: "app", pool_size: 2 }, "*": { max_db_client_connections: 1 } };
    writeFileSync(pgsteer.configurationFile, stringify({ ...configuration, databases: changed }));
    pgsteer.process.signal("SIGHUP");
    const reloaded = () => readFileSync(pgsteer.log, "utf8").includes("configuration reloaded");
    await waitFor(reloaded, { timeoutMs: 30_000, what: "the configuration is reloaded" });
    expect(await two.value("SELECT 1")).toBe("1");
    expect(await one.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
    expect(await (await client("postgres")).value("SELECT current_database()")).toBe("postgres");
    expect(await refusal("postgres")).toMatchObject({ C: "53300", D: "max_db_client_connections is 1." });
    expect(await refusal("nowhere")).toMatchObject({ C: "3D000" });
    const { rows } = await queryOnce(pgsteer.login("write", { ...APPLICATION, database: "first" }), "SELECT 1 AS n");
    expect(rows).toEqual([{ n: 1 }]);
  });
});
