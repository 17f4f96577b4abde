// Session settings: those of the startup packet and those that are SET follow their client from server to server, and reach no
// other client; a session's end takes everything away.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, type PgsteerConfiguration, startPgsteer } from "../support/pgsteer.ts";
import { frontend, RawClient } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";

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

  test("an encoding is told in PostgreSQL's spelling", async () => {
    const one = await client(login(), { client_encoding: "utf-8" });
    expect(one.parameters.get("client_encoding")).toBe("UTF8");
    const latin = await client(login(), { client_encoding: "latin1" });
    expect(latin.parameters.get("client_encoding")).toBe("LATIN1");
    expect(await one.value("SHOW client_encoding")).toBe("UTF8");
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
