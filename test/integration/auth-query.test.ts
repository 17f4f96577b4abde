// Users whom the userlist does not know: asked for in PostgreSQL, judged by its answer of now, logged in to servers with what they have
// proven. What a changed password, a dropped role, an expired one come to; who is asked while there is no leader, or nobody.

import { chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeCertificates } from "../support/certificates.ts";
import { type Cluster, PROBE, startCluster } from "../support/cluster.ts";
import { runCommand } from "../support/command.ts";
import { SUPERUSER } from "../support/patroni.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { ProcessGroup, temporaryServerDirectory } from "../support/processes.ts";
import { psql } from "../support/programs.ts";
import { connect, query, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const ASKER = { user: "asker", password: "asker-secret" } as const;
const DATABASE = "app";

/** As PgBouncer's documentation has it. */
const LOOKUP = `
  CREATE SCHEMA pgbouncer AUTHORIZATION asker;
  CREATE OR REPLACE FUNCTION pgbouncer.user_lookup(in i_username text, out uname text, out phash text)
  RETURNS record AS $$
  BEGIN
      SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END
      FROM pg_authid WHERE rolname=i_username AND rolcanlogin
      INTO uname, phash;
      RETURN;
  END;
  $$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
  REVOKE ALL ON FUNCTION pgbouncer.user_lookup(text) FROM public;
  GRANT EXECUTE ON FUNCTION pgbouncer.user_lookup(text) TO asker`;
const FUNCTION_QUERY = "SELECT * FROM pgbouncer.user_lookup($1)";

/** How a login fares: the user that PostgreSQL sees, or SQLSTATE and message. */
async function fares(of: Pgsteer, user: string, password: string, database = DATABASE): Promise<string> {
  try {
    const { rows } = await queryOnce({ ...of.login("write"), user, password, database }, "SELECT current_user AS me");
    return String(rows[0]?.["me"]);
  } catch (error) {
    const { code, message } = error as { code?: string; message?: string };
    return `${code} ${message}`;
  }
}

const wrong = (user: string): string => `28P01 password authentication failed for user "${user}"`;
const unavailable = "57P03 users cannot be authenticated at this time";

/** A metric's value, over all its other labels. */
async function metric(of: Pgsteer, name: string): Promise<number> {
  const text = await (await fetch(`${of.httpUrl}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(name));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

describe("in a cluster", () => {
  let cluster: Cluster;
  let directory: string;

  const sql = async (text: string, database = "postgres") =>
    cluster.sql(await cluster.requireLeader(), text, [], database);

  /** A pgsteer that asks; `auth` beyond that. */
  const asking = (
    name: string,
    auth: Readonly<Record<string, unknown>> = {},
    tls: Readonly<Record<string, string>> = {},
  ) =>
    startPgsteer(cluster, {
      name,
      users: { [ASKER.user]: ASKER.password },
      configure: (configuration) => {
        Object.assign(configuration.auth, { user: ASKER.user, query: FUNCTION_QUERY, ...auth });
        Object.assign(configuration.clusters["demo"] ?? {}, { server_tls: { sslmode: "require", ...tls } });
        configuration["client_tls"] = {
          mode: "allow",
          cert_file: join(directory, "server.crt"),
          key_file: join(directory, "server.key"),
        };
        configuration.pool["max_client_conn"] = 400;
        configuration.pool["query_wait_timeout"] = "5s";
        configuration.log["level"] = "debug";
      },
      args: ["--record", join(cluster.directory, `${name}.record`)],
    });

  let router: Pgsteer;

  beforeAll(async () => {
    directory = temporaryServerDirectory("auth-query");
    await makeCertificates(directory);
    const { uid, gid } = statSync(directory);
    chownSync(join(directory, "server.key"), uid, gid);
    cluster = await startCluster({
      directory,
      members: 2,
      postgres: {
        parameters: {
          ssl: "on",
          ssl_cert_file: join(directory, "server.crt"),
          ssl_key_file: join(directory, "server.key"),
        },
        hba: ["host all hashed 127.0.0.0/8 md5"],
      },
    });
    await sql(`CREATE ROLE asker LOGIN PASSWORD '${ASKER.password}'`);
    await sql(LOOKUP, DATABASE);
    await sql(`
      CREATE ROLE ann LOGIN PASSWORD 'ann-1'; CREATE ROLE bob LOGIN PASSWORD 'bob-1'; CREATE ROLE crowd LOGIN PASSWORD 'crowd-1';
      CREATE ROLE late LOGIN PASSWORD 'late-1'; CREATE ROLE away LOGIN PASSWORD 'away-1';
      SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'hashed-1'`);
    router = await asking("asking");
  });

  afterAll(async () => {
    await cluster?.remove();
  });

  test("a user is let in with its password, and logged in to servers with what it has proven", async () => {
    expect(await fares(router, "ann", "ann-1")).toBe("ann");
    expect(await fares(router, "ann", "ann-2")).toBe(wrong("ann"));
    expect(await fares(router, "nobody", "ann-1")).toBe(wrong("nobody"));
  });

  test("a changed password works at the first attempt, the old one no more, and who is connected stays so", async () => {
    const old = await connect({ ...router.login("write"), user: "ann", password: "ann-1" });
    await query(old, "SELECT 1");
    await sql("ALTER ROLE ann PASSWORD 'ann-2'");
    expect(await fares(router, "ann", "ann-2")).toBe("ann");
    expect(await fares(router, "ann", "ann-1")).toBe(wrong("ann"));
    // The server that was there before is lent on; the next one is logged in to with the new keys.
    expect((await query(old, "SELECT 2 AS two")).rows).toEqual([{ two: 2 }]);
    await sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ann'");
    expect(await waitFor(() => fares(router, "ann", "ann-2"), { timeoutMs: 5_000, what: "an answer" })).toBe("ann");
    old.destroy();
  });

  test("keys that a server refuses end the logins of their user alone", async () => {
    const client = await connect({ ...router.login("write"), user: "bob", password: "bob-1" });
    await query(client, "SELECT 1");
    await sql("ALTER ROLE bob PASSWORD 'bob-2'");
    await sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bob'");
    const failure = await waitFor(
      async () =>
        query(client, "SELECT 1").then(
          () => null,
          (error: unknown) => (error as Error).message,
        ),
      { timeoutMs: 5_000, what: "the next login to fail" },
    );
    expect(failure).toBe('server keeps another SCRAM secret of user "bob" than pgsteer knows');
    expect(await fares(router, "ann", "ann-2")).toBe("ann");
    expect(await fares(router, "bob", "bob-2")).toBe("bob");
    client.destroy();
  });

  test("a role that may not log in any more, that has expired, or that is dropped is out at once", async () => {
    const outcomes: string[] = [];
    for (const statement of [
      "ALTER ROLE late VALID UNTIL '2020-01-01'",
      "ALTER ROLE late VALID UNTIL 'infinity' NOLOGIN",
      "ALTER ROLE late LOGIN",
      "DROP ROLE late",
    ]) {
      expect(outcomes.push(await fares(router, "late", "late-1"))).toBeGreaterThan(0);
      await sql(statement);
    }
    outcomes.push(await fares(router, "late", "late-1"));
    expect(outcomes).toEqual(["late", wrong("late"), wrong("late"), "late", wrong("late")]);
  });

  test("200 logins at once are all let in, and share their questions", async () => {
    const before = await metric(router, "pgsteer_auth_queries_total");
    const outcomes = await Promise.all(Array.from({ length: 200 }, () => fares(router, "crowd", "crowd-1")));
    expect(new Set(outcomes)).toEqual(new Set(["crowd"]));
    const asked = (await metric(router, "pgsteer_auth_queries_total")) - before;
    expect(asked).toBeGreaterThan(0);
    expect(asked).toBeLessThan(200);
    process.stdout.write(`200 logins at once: ${asked} questions\n`);
  });

  test("a database that does not exist is told to those alone who are let in", async () => {
    expect(await fares(router, "ann", "wrong", "nowhere")).toBe(wrong("ann"));
  });

  test("both sides can be bound to their certificates", async () => {
    const bound = await asking(
      "bound",
      {},
      { sslmode: "require", channel_binding: "require", require_auth: "scram-sha-256" },
    );
    const env = { PGSSLMODE: "require", PGCHANNELBINDING: "require" };
    const login = { ...bound.login("write"), user: "ann", password: "ann-2" };
    expect(await psql(login, ["-Atc", "SELECT current_user"], { env })).toMatchObject({ code: 0, stdout: "ann\n" });
    await bound.stop();
  });

  test("keys come from a password in clear as well; a remembered secret is asked for again before a login fails by it", async () => {
    const clear = await asking("clear", { type: "password", allow_clear_text: true, query_age_max: "1h" });
    expect(await fares(clear, "ann", "ann-2")).toBe("ann");
    expect(await fares(clear, "ann", "ann-2")).toBe("ann");
    expect(await metric(clear, "pgsteer_auth_remembered_total")).toBe(1);
    await sql("ALTER ROLE ann PASSWORD 'ann-3'");
    expect(await fares(clear, "ann", "ann-3")).toBe("ann");
    expect(await fares(clear, "ann", "ann-2")).toBe(wrong("ann"));
    await clear.stop();
  });

  test("md5 hashes log in to servers that ask for md5", async () => {
    const md5 = await asking("md5", { type: "md5" });
    expect(await fares(md5, "hashed", "hashed-1")).toBe("hashed");
    expect(await fares(md5, "hashed", "hashed-2")).toBe(wrong("hashed"));
    expect(await fares(md5, "ann", "ann-3")).toBe("ann");
    await md5.stop();
  });

  test("one database's users can be asked for and another's not", async () => {
    const some = await startPgsteer(cluster, {
      name: "some",
      users: { [ASKER.user]: ASKER.password },
      configure: (configuration) => {
        configuration["databases"] = {
          shop: { dbname: DATABASE, auth_user: ASKER.user, auth_query: FUNCTION_QUERY },
          store: { dbname: "postgres", auth_user: ASKER.user, auth_query: FUNCTION_QUERY, auth_dbname: "shop" },
          listed: { dbname: DATABASE },
        };
      },
    });
    const outcomes = ["shop", "store", "listed"].map((database) => fares(some, "ann", "ann-3", database));
    expect(await Promise.all(outcomes)).toEqual(["ann", "ann", wrong("ann")]);
    await some.stop();
  });

  test("who is trusted is logged in to servers with an md5 hash, or a password, and told what a SCRAM secret needs", async () => {
    const trusting = await asking("trusting", { type: "trust" });
    expect(await fares(trusting, "hashed", "")).toBe("hashed");
    expect(await fares(trusting, "ann", "")).toBe(
      '08001 server asks for SCRAM-SHA-256 authentication, but only a SCRAM verifier of user "ann" is known',
    );
    await trusting.stop();
  });

  test("a wrong password of auth.user is told to the operator, not to clients; it is read again with the configuration", async () => {
    const password = join(directory, "asker-password");
    writeFileSync(password, "wrong\n");
    const mistaken = await asking("mistaken", { password_command: ["cat", password], dbname: DATABASE });
    expect(await fares(mistaken, "ann", "ann-3")).toBe(unavailable);
    expect(await fares(mistaken, "nobody", "ann-3")).toBe(unavailable);
    const log = readFileSync(mistaken.log, "utf8");
    expect(log).toContain('password authentication failed for user \\"asker\\"');
    expect(log).toContain("auth_query was not answered");
    expect(log).not.toContain("SCRAM-SHA-256$");
    const check = () => runCommand(cluster, "check", "--connect", "-c", mistaken.configurationFile);
    expect((await check()).output).toMatch(
      /PROBLEM demo: auth_query as "asker" in database "app": is not answered: member node\d: password authentication failed for user "asker"/,
    );
    writeFileSync(password, `${ASKER.password}\n`);
    process.kill(mistaken.pid, "SIGHUP");
    await waitFor(() => readFileSync(mistaken.log, "utf8").includes("configuration reloaded"), {
      timeoutMs: 10_000,
      what: "the reload",
    });
    expect(await fares(mistaken, "ann", "ann-3")).toBe("ann");
    expect((await check()).output).toContain('ok      demo: auth_query as "asker" in database "app": is answered');
    await mistaken.stop();
  });

  test("how servers are logged in to changes with a reload, for pools, probes and auth_query alike", async () => {
    const reloaded = await asking("reloaded");
    expect(await fares(reloaded, "ann", "ann-3")).toBe("ann");
    // All that is ours is encrypted so far, in every router here.
    const inClear = async (role: string): Promise<boolean> => {
      const statement = `SELECT 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = '${role}' AND NOT ssl`;
      return (await sql(statement)).rows.length > 0;
    };
    const roles = ["ann", PROBE.user, ASKER.user];
    for (const role of roles) expect([role, await inClear(role)]).toEqual([role, false]);
    const configuration = readFileSync(reloaded.configurationFile, "utf8");
    writeFileSync(reloaded.configurationFile, configuration.replace("sslmode: require", "sslmode: disable"));
    process.kill(reloaded.pid, "SIGHUP");
    await waitFor(() => readFileSync(reloaded.log, "utf8").includes("configuration reloaded"), {
      timeoutMs: 10_000,
      what: "the reload",
    });
    // What works stays; all that is new goes by the new settings.
    for (const role of roles) {
      await sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${role}'`);
    }
    for (const role of roles) {
      const look = async (): Promise<boolean> => (await fares(reloaded, "ann", "ann-3")) === "ann" && inClear(role);
      expect(await waitFor(look, { timeoutMs: 10_000, what: `${role} in clear` })).toBe(true);
    }
    await reloaded.stop();
  });

  test("nothing of a secret is in the log, the metrics, what HTTP shows, or a transcript", async () => {
    const kept = await sql("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL");
    const secrets = kept.rows
      .flatMap(({ rolpassword }) => String(rolpassword).split(/[$:]/))
      .filter((part) => part.length > 20);
    expect(secrets.length).toBeGreaterThan(10);
    const passwords = [
      "ann-1",
      "ann-2",
      "ann-3",
      "bob-1",
      "bob-2",
      "crowd-1",
      "hashed-1",
      ASKER.password,
      PROBE.password,
    ];
    const shown = ["metrics", "topology", "events"].map(async (path) =>
      (await fetch(`${router.httpUrl}/${path}`)).text(),
    );
    const texts = [
      ...(await Promise.all(shown)),
      ...["asking", "clear", "mistaken", "trusting"].map((name) =>
        readFileSync(join(cluster.directory, `${name}.record`), "utf8"),
      ),
      ...readdirSync(cluster.directory)
        .filter((name) => /^(?:asking|bound|clear|md5|mistaken|trusting|reloaded).*\.log$/.test(name))
        .map((name) => readFileSync(join(cluster.directory, name), "utf8")),
      readFileSync(router.log, "utf8"),
    ];
    expect(texts.length).toBeGreaterThan(13);
    expect(texts.filter((text) => text.includes(ASKER.user))).not.toEqual([]);
    for (const secret of [...secrets, ...passwords]) {
      expect(texts.filter((text) => text.includes(secret)).map((text) => text.slice(0, 100))).toEqual([]);
    }
  });

  test("without a leader a replica is asked", { timeout: 60_000 }, async () => {
    const leader = await cluster.requireLeader();
    await cluster.killNode(leader);
    await waitFor(
      async () => {
        const topology = await (await fetch(`${router.httpUrl}/topology`)).text();
        return topology.includes("unreachable");
      },
      { timeoutMs: 10_000, what: "the leader is known to be away" },
    );
    const login = { ...router.login("read"), user: "away", password: "away-1" };
    const { rows } = await queryOnce(login, "SELECT current_user AS me, pg_is_in_recovery() AS replica", [], 10_000);
    expect(rows).toEqual([{ me: "away", replica: true }]);
    await expect(queryOnce({ ...login, password: "away-2" }, "SELECT 1")).rejects.toMatchObject({ code: "28P01" });
  });
});

describe("with nobody to ask", () => {
  let postgres: Postgres;
  let router: Pgsteer;

  beforeAll(async () => {
    const hba = ["host all app,ann,bob 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"];
    postgres = await startPostgres("auth-silence", hba);
    await queryOnce(
      postgres.login,
      `CREATE ROLE ann LOGIN PASSWORD 'ann-1'; CREATE ROLE bob LOGIN PASSWORD 'bob-1'; CREATE ROLE ${PROBE.user} LOGIN IN ROLE pg_monitor`,
    );
    await queryOnce(postgres.login, `CREATE DATABASE ${DATABASE}`);
    const directory = join(postgres.directory, "..", "router");
    mkdirSync(directory);
    router = await startPgsteer(
      { directory, processes: new ProcessGroup(directory) },
      {
        configure: (configuration) => {
          const probe = { ...PROBE, interval: "200ms" };
          const hosts = [`127.0.0.1:${postgres.port}`];
          configuration.clusters["demo"] = { source: "static", static: { hosts }, probe };
          Object.assign(configuration.auth, { user: SUPERUSER.user, dbname: "postgres" });
        },
      },
    );
  });

  afterAll(async () => {
    await router?.stop();
    await postgres?.remove();
  });

  test("the last answer counts, a login that fails by it hears what strangers hear, and all is well again afterwards", async () => {
    // PgBouncer's own query, which needs a superuser.
    expect(await fares(router, "ann", "ann-1")).toBe("ann");
    await postgres.stop();
    const login = { ...router.login("write"), user: "ann", password: "ann-1", database: DATABASE };
    const held = await connect(login);
    const answer = query(held, "SELECT current_user AS me", [], 20_000);
    answer.catch(() => {});
    const failed = [
      await fares(router, "ann", "ann-2"),
      await fares(router, "bob", "bob-1"),
      await fares(router, "x", "y"),
    ];
    expect(failed).toEqual([unavailable, unavailable, unavailable]);
    await postgres.start();
    expect((await answer).rows).toEqual([{ me: "ann" }]);
    held.destroy();
    expect(
      await waitFor(async () => (await fares(router, "bob", "bob-1")) === "bob", { timeoutMs: 10_000, what: "bob" }),
    ).toBe(true);
    expect(await fares(router, "bob", "bob-2")).toBe(wrong("bob"));
  });
});
