// The door: what a client can ask for at its login, and where it can come from. Everything against real servers.

import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { untilRuns } from "../support/activity.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { libpqEnvironment, psql, runProgram } from "../support/programs.ts";
import {
  errorFields,
  frontend,
  int32,
  message,
  outline,
  RawClient,
  type RawMessage,
  startup,
} from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { sleep, waitFor } from "../support/time.ts";

/** Role → its password: all that SASLprep has to do with. */
const passwords: Readonly<Record<string, string>> = {
  spaces: "  two  words ",
  accents: "pässwörd",
  prepared: "I\u00adX \u2168 a\u00a0b",
  unprepared: "\u2168\u0221\u0627",
  quoted: "'\"\\$%",
};

let cluster: Cluster;
let pgsteer: Pgsteer;
/** Of a listener that takes no replication. */
let refusingPort = 0;
const POOL_SIZE = 3;
const opened: RawClient[] = [];
const REPLICATOR = { user: "copier", password: "copier-secret", database: "app" } as const;

beforeAll(async () => {
  const hba = ["host replication,app copier,app 127.0.0.0/8 scram-sha-256", "host all ghost,sleeper 127.0.0.0/8 trust"];
  cluster = await startCluster({ members: 2, postgres: { hba, parameters: { wal_level: "logical" } } });
  await cluster.sql("node1", `CREATE ROLE ${REPLICATOR.user} REPLICATION LOGIN PASSWORD '${REPLICATOR.password}'`);
  await cluster.sql("node1", "CREATE ROLE sleeper NOLOGIN");
  await cluster.sql("node1", "CREATE DATABASE closed ALLOW_CONNECTIONS false");
  await cluster.sql("node1", "CREATE DATABASE secret");
  await cluster.sql("node1", "REVOKE CONNECT ON DATABASE secret FROM PUBLIC");
  for (const [user, password] of Object.entries(passwords)) {
    await cluster.sql("node1", `CREATE ROLE ${user} LOGIN PASSWORD '${password.replaceAll("'", "''")}'`);
  }
  const users = {
    [REPLICATOR.user]: REPLICATOR.password,
    ghost: "boo",
    phoenix: "ashes",
    sleeper: "zzz",
    ...passwords,
  };
  refusingPort = await freePort();
  pgsteer = await startPgsteer(cluster, {
    ready: "sql",
    users,
    configure: ({ listeners, pool }) => {
      pool["default_pool_size"] = POOL_SIZE;
      pool["ignore_startup_parameters"] = ["no_such_setting"];
      listeners.push({ name: "refusing", port: refusingPort, route: "write", replication: "refuse" });
    },
  });
});

afterEach(() => {
  for (const client of opened.splice(0)) client.destroy();
});

afterAll(async () => {
  await cluster?.remove();
});

async function open(): Promise<RawClient> {
  const client = await RawClient.open(pgsteer.ports.write);
  opened.push(client);
  return client;
}

/** Logs in as the application, and returns everything that was said. */
async function enter(
  minor: number,
  parameters: Readonly<Record<string, string>> = {},
): Promise<{ client: RawClient; seen: (RawMessage | null)[] }> {
  const client = await open();
  client.send(startup({ user: APPLICATION.user, database: APPLICATION.database, ...parameters }, minor));
  return { client, seen: await client.authenticate(APPLICATION.user, APPLICATION.password) };
}

describe("a client that asks for protocol", () => {
  test.each([
    ["3.0", 0, 4, null],
    ["3.2", 2, 32, null],
    ["3.1, which there never was,", 1, 4, 0],
    ["3.9999", 9999, 32, 2],
  ])("%s is let in, and its statement can be cancelled with the key it got", async (_name, minor, length, offered) => {
    const { client, seen } = await enter(minor);
    const offer = seen.find((each) => each?.type === "v")?.body ?? null;
    expect(offer?.readInt32BE(0) ?? null).toBe(offered === null ? null : 0x0003_0000 + offered);
    const key = seen.find((each) => each?.type === "K")?.body ?? Buffer.alloc(0);
    expect(key).toHaveLength(4 + length);
    const cancelled = client.simple("SELECT pg_sleep(30)");
    await untilRuns(cluster, "pg_sleep(30)");
    const guess = await open();
    guess.send(message("", int32(80_877_102), key.subarray(0, -1), Buffer.from([(key.at(-1) ?? 0) ^ 1])));
    expect(await guess.untilEnd()).toEqual([null]);
    const request = await open();
    request.send(message("", int32(80_877_102), key));
    expect(await request.untilEnd()).toEqual([null]);
    expect(await cancelled).toEqual(["T", "E ERROR 57014", "Z I"]);
    expect(await client.simple("SELECT 2")).toEqual(["T", "D 2", "C SELECT 1", "Z I"]);
  });

  test("extensions that nobody knows is told which, and let in", async () => {
    const { client, seen } = await enter(2, { "_pq_.report": "on", TimeZone: "Asia/Tokyo", "_pq_.x": "" });
    const offer = seen.find((each) => each?.type === "v")?.body ?? Buffer.alloc(8);
    expect([offer.readInt32BE(0), offer.readInt32BE(4)]).toEqual([0x0003_0002, 2]);
    expect(offer.toString("latin1", 8)).toBe("_pq_.report\0_pq_.x\0");
    expect(outline(seen).at(-1)).toBe("Z I");
    expect(await client.value("SHOW TimeZone")).toBe("Asia/Tokyo");
  });
});

/** The same twice: through the router, and with PostgreSQL itself. */
const both = (as: Omit<Login, "host" | "port"> = APPLICATION): readonly [Login, Login] => [
  pgsteer.login("write", as),
  cluster.login("node1", as),
];

describe("startup parameters", () => {
  const asked = {
    client_encoding: "utf-8",
    DateStyle: "german",
    IntervalStyle: "iso_8601",
    search_path: '"$user", public, "odd ""name"""',
    extra_float_digits: "0",
    client_min_messages: "warning",
    statement_timeout: "1min",
    "my.var": "it's\\here",
    application_name: "übung",
    options: "-c work_mem=3MB --maintenance-work-mem=7MB -c other.var=a\\ b -c geqo=off",
  };
  const names = [
    ...Object.keys(asked).filter((name) => name !== "options"),
    ...["work_mem", "maintenance_work_mem", "other.var", "geqo", "standard_conforming_strings"],
  ];

  test("are taken, spelled, reset and discarded as by PostgreSQL itself", async () => {
    const told: unknown[] = [];
    for (const login of both()) {
      const client = await RawClient.login(login, asked);
      opened.push(client);
      const shown: unknown[] = [[...client.parameters].toSorted()];
      const show = async (): Promise<void> => {
        for (const name of names) shown.push([name, await client.value(`SELECT current_setting('${name}')`)]);
      };
      await show();
      const changes = ["client_encoding = latin1", "search_path = pg_catalog", "work_mem = '1MB'", "geqo = on"];
      for (const change of changes) shown.push(await client.simple(`SET ${change}`));
      await show();
      for (const name of ["client_encoding", "search_path"]) await client.simple(`RESET ${name}`);
      await show();
      await client.simple("RESET ALL");
      await show();
      await client.simple("SET search_path = pg_catalog");
      await client.simple("DISCARD ALL");
      await show();
      shown.push([...client.parameters].toSorted());
      told.push(shown);
    }
    expect(told[1]).toEqual(expect.arrayContaining([["my.var", "it's\\here"]]));
    expect(told[0]).toEqual(told[1]);
  });

  test("reach nobody else", async () => {
    const one = await RawClient.login(pgsteer.login("write"), asked);
    const [routed, direct] = [await RawClient.login(both()[0]), await RawClient.login(both()[1])];
    opened.push(one, routed, direct);
    await one.simple("SELECT 1");
    for (const name of names.filter((each) => !each.includes("."))) {
      expect(await routed.value(`SHOW ${name}`), name).toBe(await direct.value(`SHOW ${name}`));
    }
  });

  test("that make PostgreSQL say something have it said, to the next client too", async () => {
    const long = "x".repeat(65);
    const notices = (seen: readonly (RawMessage | null)[]) =>
      seen.filter((each) => each?.type === "N").map((each) => each?.body.toString("latin1"));
    const { seen } = await enter(0, { application_name: long });
    const again = await enter(0, { application_name: long });
    const direct = await RawClient.open(cluster.member("node1").port);
    opened.push(direct);
    direct.send(startup({ user: APPLICATION.user, database: APPLICATION.database, application_name: long }));
    const truth = notices(await direct.authenticate(APPLICATION.user, APPLICATION.password));
    expect(truth).toEqual([expect.stringContaining("will be truncated")]);
    expect([notices(seen), notices(again.seen)]).toEqual([truth, truth]);
  });

  test("that are ignored are dropped; all others that PostgreSQL refuses are refused", async () => {
    const where = pgsteer.login("write");
    const client = await RawClient.login(where, { no_such_setting: "1", options: "-c no_such_setting=2" });
    opened.push(client);
    expect(await client.value("SELECT 1")).toBe("1");
    await expect(RawClient.login(where, { other_setting: "1" })).rejects.toThrow("E FATAL 42704");
  });
});

describe("a login that PostgreSQL refuses", () => {
  /** Every field of the error but where in its source it was raised. */
  async function refusal(login: Login, parameters: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const client = await RawClient.open(login.port, login.host);
    opened.push(client);
    client.send(startup({ user: login.user, database: login.database, ...parameters }));
    const seen = await client.authenticate(login.user, login.password);
    const { F: _file, L: _line, R: _routine, ...fields } = errorFields(seen.at(-1)?.body ?? Buffer.alloc(1));
    expect(await client.next()).toBe(null);
    return { type: seen.at(-1)?.type, ...fields };
  }

  test.each<[string, Omit<Login, "host" | "port">, Record<string, string>, string]>([
    ["a database that is not there", { ...APPLICATION, database: "nowhere" }, {}, "3D000"],
    ["a database that takes no connections", { ...APPLICATION, database: "closed" }, {}, "55000"],
    ["a database that is not for this role", { ...APPLICATION, database: "secret" }, {}, "42501"],
    ["a role that is not there", { user: "ghost", password: "boo", database: "app" }, {}, "28000"],
    ["a role that may not log in", { user: "sleeper", password: "zzz", database: "app" }, {}, "28000"],
    ["a wrong password", { ...APPLICATION, password: "wrong" }, {}, "28P01"],
    ["a role that nobody knows", { user: "nobody-here", password: "x", database: "app" }, {}, "28P01"],
    ["a setting that is not there", APPLICATION, { nonsense: "1" }, "42704"],
    ["a value that cannot be", APPLICATION, { work_mem: "lots" }, "22023"],
    ["a setting that is not for sessions", APPLICATION, { max_connections: "7" }, "55P02"],
    ["a setting that is not for this role", APPLICATION, { log_statement: "all" }, "42501"],
    ["a setting that is only read", APPLICATION, { server_version: "1" }, "55P02"],
  ])("for %s is refused in its very words", async (_name, as, parameters, sqlstate) => {
    const [routed, direct] = both(as);
    const expected = await refusal(direct, parameters);
    expect(expected).toMatchObject({ type: "E", C: sqlstate });
    expect(await refusal(routed, parameters)).toEqual(expected);
  });
});

test.each(Object.keys(passwords))(
  "the password of role %s is taken from libpq, and given to PostgreSQL",
  async (user) => {
    const as = { user, password: passwords[user] ?? "", database: "postgres" };
    const found = await psql(pgsteer.login("write", as), ["-c", "SELECT current_user"]);
    expect(found).toEqual({ code: 0, stdout: `${user}\n`, stderr: "" });
    const wrong = await psql(pgsteer.login("write", { ...as, password: `${as.password}x` }), ["-c", "SELECT 1"]);
    expect(wrong.stderr).toContain(`password authentication failed for user "${user}"`);
  },
);

describe("a role that is dropped and made again", () => {
  const as = { user: "phoenix", password: "ashes", database: "postgres" };
  const direct = (text: string) => cluster.sql("node1", text);

  async function rise(): Promise<void> {
    await direct("DROP TABLE IF EXISTS nest; DROP ROLE IF EXISTS phoenix");
    await direct(
      "CREATE ROLE phoenix LOGIN PASSWORD 'ashes'; CREATE TABLE nest (n int); GRANT SELECT ON nest TO phoenix",
    );
  }

  test.each([
    ["a statement that may not be executed", "SELECT count(*) FROM nest", "42501"],
    ["a statement that names the role", "SELECT length(current_user)", "42704"],
  ])("costs one error in %s, whatever the number of its servers", async (_name, statement, sqlstate) => {
    await rise();
    const where = pgsteer.login("write", as);
    const clients: RawClient[] = [];
    for (let count = 0; count < POOL_SIZE; count += 1) clients.push(await RawClient.login(where));
    opened.push(...clients);
    // Each on a server of its own.
    for (const client of clients) expect(await client.simple("BEGIN")).toEqual(["C BEGIN", "Z T"]);
    for (const client of clients.slice(1)) expect(await client.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
    await rise();
    const [holder, first, ...others] = clients;
    expect(await first?.simple(statement)).toContain(`E ERROR ${sqlstate}`);
    // The idle ones are closed at once, the one that is in a transaction when it comes back.
    const orphans = async (count: number) => {
      const all = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE usesysid NOT IN (SELECT oid FROM pg_roles)";
      const found = async () => (await direct(all)).rows[0]?.["n"] === count;
      await waitFor(found, { timeoutMs: 30_000, what: `${count} servers of a dropped role are left` });
    };
    await orphans(1);
    for (const client of [...others, ...others]) expect(await client.simple(statement)).toContain("C SELECT 1");
    await holder?.simple("COMMIT");
    await orphans(0);
    const rounds = await Promise.all(clients.map((client) => client.simple(statement)));
    for (const answer of rounds) expect(answer).toContain("C SELECT 1");
  });
});

describe("replication", () => {
  const login = (): Login => pgsteer.login("write", REPLICATOR);
  const environment = () => ({ env: libpqEnvironment(login()) });
  const replicating = (value: string, more = "") => [`dbname=app replication=${value} ${more}`];

  /** Walsenders of the role; none is left when nobody replicates. */
  async function walsenders(): Promise<number> {
    const statement =
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = 'copier' AND backend_type = 'walsender'";
    return Number((await cluster.sql("node1", statement)).rows[0]?.["n"]);
  }

  async function noneLeft(): Promise<void> {
    await waitFor(async () => (await walsenders()) === 0, { timeoutMs: 30_000, what: "no walsender is left" });
  }

  test.each(["database", "true"])("commands are answered by the leader (replication=%s)", async (value) => {
    const found = await psql(login(), [...replicating(value), "-c", "IDENTIFY_SYSTEM"]);
    expect(found.stderr).toBe("");
    const { rows } = await cluster.sql("node1", "SELECT system_identifier::text AS id FROM pg_control_system()");
    expect(found.stdout.trim().split("|")).toEqual([
      rows[0]?.["id"],
      "1",
      expect.any(String),
      value === "true" ? "" : "app",
    ]);
    await noneLeft();
  });

  test("startup parameters are the connection's own, and SQL works where there is a database", async () => {
    const found = await psql(login(), [
      ...replicating("database", "application_name=standby7 options='-c work_mem=7MB'"),
      ...["-c", "SHOW work_mem", "-c", "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"],
    ]);
    expect(found).toEqual({ code: 0, stdout: "7MB\nstandby7\n", stderr: "" });
  });

  test("connections get servers of their own, whatever the size of the pool, and give none to others", async () => {
    const clients: RawClient[] = [];
    const pids = new Set<string>();
    for (let count = 0; count <= POOL_SIZE; count += 1) {
      const client = await RawClient.login(login(), { replication: "database" });
      clients.push(client);
      pids.add(await client.value("SELECT pg_backend_pid()"));
    }
    opened.push(...clients);
    expect([await walsenders(), pids.size]).toEqual([POOL_SIZE + 1, POOL_SIZE + 1]);
    const plain = await psql(login(), ["-c", "SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()"]);
    expect(plain.stdout).toBe("client backend\n");
    for (const client of clients) client.destroy();
    await noneLeft();
  });

  test("pg_basebackup takes a backup from which PostgreSQL starts", { timeout: 120_000 }, async () => {
    const target = join(cluster.directory, "backup");
    const result = await runProgram(
      "pg_basebackup",
      ["-D", target, "-X", "stream", "-c", "fast", "--no-sync"],
      environment(),
    );
    expect([result.code, result.stderr]).toEqual([0, ""]);
    const verified = await runProgram("/usr/lib/postgresql/15/bin/pg_verifybackup", [target]);
    expect(verified.stdout + verified.stderr).toContain("backup successfully verified");
    await noneLeft();
  });

  test("pg_receivewal streams, stops when it is asked to, and is told when the router stops", {
    timeout: 120_000,
  }, async () => {
    const target = join(cluster.directory, "wal");
    mkdirSync(target);
    let pid = 0;
    const started = (child: number): void => {
      pid = child;
    };
    const receiving = runProgram("pg_receivewal", ["-D", target, "-v"], { ...environment(), started });
    const segments = () => readdirSync(target).filter((name) => !name.endsWith(".partial")).length;
    await waitFor(async () => (await walsenders()) > 0, { timeoutMs: 30_000, what: "it streams" });
    await cluster.sql("node1", "CREATE TABLE filler AS SELECT generate_series(1, 50000) AS n");
    await cluster.sql("node1", "SELECT pg_switch_wal()");
    await waitFor(() => segments() > 0, { timeoutMs: 30_000, what: "a segment has arrived" });
    process.kill(pid, "SIGINT");
    expect((await receiving).code).toBe(0);
    await noneLeft();
    const name = readdirSync(target).find((each) => !each.endsWith(".partial")) ?? "";
    const original = readFileSync(join(cluster.member("node1").dataDirectory, "pg_wal", name));
    expect(readFileSync(join(target, name)).equals(original)).toBe(true);

    const short = await startPgsteer(cluster, { name: "short", users: { [REPLICATOR.user]: REPLICATOR.password } });
    const env = libpqEnvironment(short.login("write", REPLICATOR));
    const cut = runProgram("pg_receivewal", ["-D", target, "-n"], { env });
    await waitFor(async () => (await walsenders()) > 0, { timeoutMs: 30_000, what: "it streams again" });
    await sleep(200);
    await short.stop(20_000);
    expect(short.process.exitCode()).toBe(0);
    expect((await cut).stderr).toContain("terminating connection due to administrator command");
    await noneLeft();
  });

  test("logical decoding passes both ways", async () => {
    const slot = "CREATE_REPLICATION_SLOT decoded TEMPORARY LOGICAL test_decoding";
    const client = await RawClient.login(login(), { replication: "database" });
    opened.push(client);
    const created = await client.simple(slot);
    if (created.some((each) => each.startsWith("E"))) throw new Error(created.join());
    client.send(frontend.query("START_REPLICATION SLOT decoded LOGICAL 0/0"));
    expect((await client.next())?.type).toBe("W");
    await cluster.sql("node1", "CREATE TABLE decoded (n int); INSERT INTO decoded VALUES (4711)", [], "app");
    for (;;) {
      const next = await client.next();
      if (next?.type !== "d") throw new Error(outline([next]).join());
      if (next.body.toString("latin1").includes("4711")) break;
      const position = Buffer.alloc(8);
      client.send(
        frontend.copyData(Buffer.concat([Buffer.from("r"), position, position, position, position, Buffer.of(1)])),
      );
    }
    client.send(frontend.copyDone());
    const rest = outline((await client.untilReady()).filter((each) => each?.type !== "d"));
    expect([rest[0], rest.at(-1)]).toEqual(["c", "Z I"]);
    expect(await client.value("SELECT 'well'")).toBe("well");
  });

  test("PostgreSQL's own refusals come as they are, and at once", async () => {
    const told = async (value: string, as: Omit<Login, "host" | "port">) =>
      (await psql(pgsteer.login("write", as), [...replicating(value), "-c", "IDENTIFY_SYSTEM"])).stderr;
    expect(await told("database", APPLICATION)).toContain("must be superuser or replication role to start walsender");
    expect(await told("maybe", REPLICATOR)).toContain('invalid value for parameter "replication": "maybe"');
  });

  test.each(["user=sleeper", "database=postgres", "replication=true", "options=-cwork_mem=7MB"])(
    "options say nothing that was judged before them: -c %s",
    async (smuggled) => {
      const told = await psql(login(), [
        ...replicating("database", `options='-c ${smuggled}'`),
        "-c",
        "IDENTIFY_SYSTEM",
      ]);
      const [name] = smuggled.split("=");
      expect([told.stdout, told.stderr]).toEqual([
        "",
        expect.stringContaining(`FATAL:  unrecognized configuration parameter "${name}"`),
      ]);
      await noneLeft();
    },
  );

  test("is refused on a port for reads, and where the setting says so", async () => {
    const told = async (where: Login) => (await psql(where, [...replicating("true"), "-c", "IDENTIFY_SYSTEM"])).stderr;
    expect(await told(pgsteer.login("read", REPLICATOR))).toContain("Connect to a port for writes");
    const refusing = { host: "127.0.0.1", port: refusingPort, ...REPLICATOR };
    expect(await told(refusing)).toContain("replication connections are not accepted here");
    const plain = await psql(refusing, [...replicating("off"), "-c", "SELECT 1"]);
    expect(plain.stdout).toBe("1\n");
  });

  test("ends with the leadership, and who comes next is led to the new leader", { timeout: 120_000 }, async () => {
    const timeline = async (client: RawClient): Promise<string> => {
      client.send(frontend.query("IDENTIFY_SYSTEM"));
      const row = (await client.untilReady()).find((each) => each?.type === "D")?.body ?? Buffer.alloc(0);
      const start = 6 + row.readInt32BE(2);
      return row.toString("latin1", start + 4, start + 4 + row.readInt32BE(start));
    };
    const client = await RawClient.login(login(), { replication: "true" });
    opened.push(client);
    expect(await timeline(client)).toBe("1");
    const switched = cluster.switchover();
    expect(outline(await client.untilEnd())).toEqual(["E FATAL 57P01", "EOF"]);
    const next = await RawClient.login(login(), { replication: "true" });
    opened.push(next);
    expect(await timeline(next)).toBe("2");
    await switched;
  });
});
