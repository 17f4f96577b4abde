// Session settings: those of the startup packet and those that are SET follow their client from server to server, and reach no
// other client; a session's end takes everything away.

import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { plainSettings } from "../../src/pool/plain-settings.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, type PgsteerConfiguration, startPgsteer } from "../support/pgsteer.ts";
import { frontend, RawClient } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let cluster: Cluster;
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
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

/** A pgsteer for the tests of one `describe`. */
function steered(
  name: string,
  configure: (configuration: PgsteerConfiguration) => void | Promise<void>,
): () => Pgsteer {
  let pgsteer: Pgsteer | null = null;
  beforeAll(async () => {
    pgsteer = await startPgsteer(cluster, { name, ready: "sql", configure });
  });
  afterAll(async () => {
    await pgsteer?.stop();
  });
  return () => {
    if (pgsteer === null) throw new Error("not started");
    return pgsteer;
  };
}

describe("with one server for all, a session's", () => {
  const pgsteer = steered("one", ({ pool }) => {
    pool["default_pool_size"] = 1;
  });
  const login = () => pgsteer().login("write");

  test("half a message goes with it: the next one's statements do not become its other half", async () => {
    for (const half of [Buffer.from("d\0\0\x03\xe8half", "latin1"), Buffer.from("d\0\0\x03\xe8", "latin1")]) {
      const leaver = await client(login());
      leaver.send(frontend.query("SELECT 1"), half);
      await leaver.untilReady();
      leaver.destroy();
      const next = await client(login());
      expect(await next.value("SELECT 'heard'")).toBe("heard");
    }
  });

  test("settings reach nobody when it leaves inside a transaction that began right behind them", async () => {
    const leaver = await client(login());
    leaver.send(frontend.query("SET work_mem = '5MB'"), frontend.query("BEGIN"));
    await leaver.untilReady();
    await leaver.untilReady();
    leaver.send(frontend.terminate());
    await leaver.untilEnd();
    const next = await client(login());
    expect(await next.value("SHOW work_mem")).toBe("4MB");
  });

  test("settings of a startup packet follow their client and reach no other", async () => {
    const berlin = { TimeZone: "Europe/Berlin", application_name: "berlin", search_path: "pg_catalog" };
    const tokyo = { TimeZone: "Asia/Tokyo", application_name: "tokyo", search_path: "information_schema, public" };
    const [one, other] = [await client(login(), berlin), await client(login(), tokyo)];
    const plain = await client(login());
    const defaults = ["TimeZone", "application_name", "search_path"];
    const before = [];
    for (const name of defaults) before.push(await plain.value(`SHOW ${name}`));
    expect([one.parameters.get("TimeZone"), other.parameters.get("TimeZone")]).toEqual(["Europe/Berlin", "Asia/Tokyo"]);
    expect(one.parameters.get("application_name")).toBe("berlin");
    for (let round = 0; round < 3; round += 1) {
      for (const name of defaults) {
        expect(await one.value(`SHOW ${name}`)).toBe(berlin[name as keyof typeof berlin]);
        expect(await other.value(`SHOW ${name}`)).toBe(tokyo[name as keyof typeof tokyo]);
      }
    }
    const after = [];
    for (const name of defaults) after.push(await plain.value(`SHOW ${name}`));
    expect(after).toEqual(before);
  });

  test("a reported parameter that is SET follows its client, and is told to it alone", async () => {
    const [one, other] = [await client(login()), await client(login())];
    const before = await other.value("SHOW TimeZone");
    await one.simple("SET TimeZone = 'Asia/Tokyo'");
    await one.simple("SET application_name = 'one'");
    expect([one.parameters.get("TimeZone"), one.parameters.get("application_name")]).toEqual(["Asia/Tokyo", "one"]);
    expect(await other.value("SHOW TimeZone")).toBe(before);
    expect(await other.value("SHOW application_name")).not.toBe("one");
    expect(other.parameters.get("TimeZone")).toBe(before);
    expect(await one.value("SHOW TimeZone")).toBe("Asia/Tokyo");
    await one.simple("RESET TimeZone");
    await other.simple("SELECT 1");
    expect(await one.value("SHOW TimeZone")).toBe(before);
    expect(one.parameters.get("TimeZone")).toBe(before);
  });

  test("SET that is rolled back is undone for its client", async () => {
    const [one, other] = [await client(login(), { TimeZone: "UTC" }), await client(login())];
    await one.simple("BEGIN");
    await one.simple("SET TimeZone = 'Asia/Tokyo'");
    expect(await one.value("SHOW TimeZone")).toBe("Asia/Tokyo");
    await one.simple("ROLLBACK");
    await other.simple("SELECT 1");
    expect(await one.value("SHOW TimeZone")).toBe("UTC");
    await one.simple("BEGIN");
    await one.simple("SET LOCAL TimeZone = 'Asia/Tokyo'");
    await one.simple("COMMIT");
    await other.simple("SELECT 1");
    expect(await one.value("SHOW TimeZone")).toBe("UTC");
  });

  test("RESET goes back to what the startup packet said", async () => {
    const one = await client(login(), { TimeZone: "Europe/Berlin" });
    await one.simple("SET TimeZone = 'Asia/Tokyo'");
    await one.simple("RESET TimeZone");
    expect(await one.value("SHOW TimeZone")).toBe("Europe/Berlin");
  });

  test("RESET is told even where the next server has the value already, and does not report it", async () => {
    const startup = { TimeZone: "Europe/Berlin" };
    const [one, other] = [await client(login(), startup), await client(login(), startup)];
    await one.simple("SET TimeZone = 'Asia/Tokyo'");
    await one.simple("RESET TimeZone");
    expect(await other.value("SHOW TimeZone")).toBe("Europe/Berlin");
    expect(await one.value("SHOW TimeZone")).toBe("Europe/Berlin");
    expect(one.parameters.get("TimeZone")).toBe("Europe/Berlin");
  });

  test("a parameter that is not reported and SET by one client does not leak to another", async () => {
    const [one, other] = [await client(login()), await client(login())];
    const before = await other.value("SHOW statement_timeout");
    await one.simple("SET statement_timeout = '12345ms'");
    expect(await other.value("SHOW statement_timeout")).toBe(before);
  });

  test("what is SET beside something that fails, in one write, follows its client and reaches no other", async () => {
    const [one, other] = [await client(login()), await client(login())];
    const before = await other.value("SHOW work_mem");
    one.send(frontend.query("SET work_mem = '2031kB'"), frontend.parse("SELEC"), frontend.sync());
    await one.untilReady(5000);
    await one.untilReady(5000);
    expect(await other.value("SHOW work_mem")).toBe(before);
    expect(await one.value("SHOW work_mem")).toBe("2031kB");
  });

  test("an encoding is told in PostgreSQL's spelling", async () => {
    const one = await client(login(), { client_encoding: "utf-8" });
    expect(one.parameters.get("client_encoding")).toBe("UTF8");
    const latin = await client(login(), { client_encoding: "latin1" });
    expect(latin.parameters.get("client_encoding")).toBe("LATIN1");
    expect(await one.value("SHOW client_encoding")).toBe("UTF8");
  });
});

describe("RESET goes back to what the startup packet said", () => {
  const pgsteer = steered("reset", ({ listeners, pool }) => {
    pool["default_pool_size"] = 2;
    Object.assign(listeners[0] ?? {}, { pool_mode: "session" });
  });
  const startup = { TimeZone: "Asia/Kolkata", application_name: "mine", options: "-c work_mem=7MB -c own.kind=own" };
  const mine = ["Asia/Kolkata", "mine", "7MB", "own"];

  test.each([
    ["in session mode", "auto", null],
    ["for a client that is bound", "write", "LISTEN news"],
    ["for any other", "write", null],
  ] as const)("%s", async (_what, listener, bind) => {
    const one = await client(pgsteer().login(listener), startup);
    if (bind !== null) await one.simple(bind);
    const found = async () => [
      await one.value("SHOW TimeZone"),
      await one.value("SHOW application_name"),
      await one.value("SHOW work_mem"),
      await one.value("SHOW own.kind"),
    ];
    for (const reset of [
      ["RESET TimeZone", "RESET application_name", "RESET work_mem", "RESET own.kind"],
      [
        "SET TimeZone TO DEFAULT",
        "SET application_name TO DEFAULT",
        "SET work_mem TO DEFAULT",
        "SET own.kind TO DEFAULT",
      ],
      ["BEGIN; RESET TimeZone; RESET application_name; RESET work_mem; RESET own.kind; COMMIT"],
      ["RESET ALL"],
      ["DISCARD ALL"],
    ]) {
      await one.simple("SET TimeZone = 'UTC'; SET application_name = 'x'; SET work_mem = '1MB'; SET own.kind = ''");
      expect(await found()).toEqual(["UTC", "x", "1MB", ""]);
      for (const sql of reset) await one.simple(sql);
      expect([reset, ...(await found())]).toEqual([reset, ...mine]);
      expect([one.parameters.get("TimeZone"), one.parameters.get("application_name")]).toEqual(mine.slice(0, 2));
    }
  });
});

test("No setting that is taken at its word is a text, of which PostgreSQL could make another one", async () => {
  const list = [...plainSettings].map((name) => `'${name}'`).join(", ");
  const { rows } = await cluster.sql("node1", `SELECT name, vartype FROM pg_settings WHERE name IN (${list})`);
  expect(rows.length).toBeGreaterThan(50);
  expect(rows.filter(({ vartype }) => vartype === "string")).toEqual([]);
});

test("A setting of the user's own that is empty stays so while others are reset", async () => {
  const pgsteer = await startPgsteer(cluster, {
    name: "empty",
    configure: ({ listeners }) => Object.assign(listeners[0] ?? {}, { pool_mode: "session" }),
  });
  try {
    for (const listener of ["auto", "write"] as const) {
      const one = await client(pgsteer.login(listener), { "own.kind": "startup" });
      await one.simple("SET own.kind = ''");
      await one.simple("BEGIN; RESET TimeZone; COMMIT");
      expect(await one.value("SHOW own.kind")).toBe("");
      await one.simple("BEGIN; RESET own.kind; COMMIT");
      expect(await one.value("SHOW own.kind")).toBe("startup");
    }
  } finally {
    await pgsteer.stop();
  }
});

describe("what its settings are, a server", () => {
  const pgsteer = steered("asked", ({ pool }) => {
    pool["default_pool_size"] = 1;
  });
  beforeAll(async () => {
    // The servers that are opened from now on write down what they are asked.
    await cluster.sql("node1", `ALTER ROLE ${APPLICATION.user} SET log_statement = 'all'`);
    await cluster.sql(
      "node1",
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${APPLICATION.user}'`,
    );
  });
  afterAll(async () => {
    await cluster.sql("node1", `ALTER ROLE ${APPLICATION.user} RESET log_statement`);
  });

  /** How often a server was asked on account of these statements. */
  async function questions(statements: readonly string[]): Promise<number> {
    const one = await client(pgsteer().login("write"));
    const mark = `mark ${randomUUID()}`;
    await one.simple(`SELECT '${mark}'`);
    for (const sql of statements) await (sql.startsWith("!") ? one.extended(sql.slice(1)) : one.simple(sql));
    await one.simple(`SELECT 'end of ${mark}'`);
    const log = () => cluster.members[0]?.tail(400) ?? "";
    await waitFor(() => log().includes(`end of ${mark}`), {
      timeoutMs: 30_000,
      what: "the log has the last statement",
    });
    const said = log().slice(log().indexOf(mark), log().indexOf(`end of ${mark}`));
    return said.split("json_object_agg").length - 1;
  }

  test.each([
    [["SET statement_timeout = '1min'", "SELECT 1"]],
    [["!SET statement_timeout = '1min'", "!SELECT 1"]],
    [["SET statement_timeout = '1min'; SET app.tenant = 7; RESET jit"]],
    [["SET statement_timeout = 'nonsense'"]],
    [["RESET search_path"]],
    [["BEGIN", "SET TimeZone = 'Asia/Tokyo'", "SAVEPOINT s", "SET DateStyle = 'German'", "ROLLBACK TO s", "COMMIT"]],
    [["BEGIN", "SET LOCAL work_mem = '8MB'", "COMMIT"]],
    [["SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"]],
    [["SELECT set_config('work_mem', '8MB', true)"]],
    [["UPDATE pg_description SET description = 'x' WHERE false"]],
    [["SELECT 'SET work_mem = 1'", "SELECT 1 AS temp"]],
  ])("is not asked where it can be known: %j", async (statements) => {
    expect(await questions(statements)).toBe(0);
  });

  test.each([
    [["SET search_path = a, b"]],
    [["BEGIN", "SET work_mem = '8MB'", "COMMIT"]],
    [["BEGIN", "SET app.tenant = 7", "ROLLBACK"]],
    [["SET work_mem = '8MB'; COMMIT; SELECT 1/0"]],
    [["RESET ALL"]],
    [["SELECT set_config('work_mem', '8MB', false)"]],
    [["DO $$ BEGIN NULL; END $$"]],
  ])("is asked once where it cannot: %j", async (statements) => {
    expect(await questions(statements)).toBe(1);
  });
});

describe("in session mode", () => {
  const pgsteer = steered("session", ({ listeners, pool }) => {
    for (const listener of listeners) listener["pool_mode"] = "session";
    pool["default_pool_size"] = 1;
  });

  test("server_reset_query takes everything away that a session had", async () => {
    const first = await client(pgsteer().login("write"));
    const pid = await first.value("SELECT pg_backend_pid()");
    await first.simple("SET work_mem = '7MB'");
    await first.simple("SET TimeZone = 'Asia/Tokyo'");
    await first.simple("CREATE TEMP TABLE mine (n int)");
    await first.simple("LISTEN channel");
    await first.simple("PREPARE statement AS SELECT 1");
    await first.simple("SELECT pg_advisory_lock(4711)");
    expect(await first.value("SHOW work_mem")).toBe("7MB");
    first.send(frontend.terminate());
    await first.untilEnd();
    const second = await client(pgsteer().login("write"));
    expect(await second.value("SELECT pg_backend_pid()")).toBe(pid);
    expect(await second.value("SHOW work_mem")).not.toBe("7MB");
    expect(await second.value("SHOW TimeZone")).not.toBe("Asia/Tokyo");
    expect(await second.value("SELECT to_regclass('mine')")).toBe("null");
    expect(await second.value("SELECT count(*) FROM pg_listening_channels()")).toBe("0");
    expect(await second.value("SELECT count(*) FROM pg_prepared_statements")).toBe("0");
    expect(await second.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).toBe("0");
  });
});
