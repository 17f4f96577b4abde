// Signals: SIGHUP brings new settings to those who come and takes nothing from those who are there; SIGTERM lets work finish.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { untilRuns } from "../support/activity.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { Companion } from "../support/companion.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { errorFields, frontend, outline, RawClient } from "../support/raw-client.ts";
import { codeOf, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const fileSchema = z.looseObject({
  listeners: z.array(z.record(z.string(), z.unknown())),
  pool: z.record(z.string(), z.unknown()),
});
type File = z.output<typeof fileSchema>;

let cluster: Cluster;
let pgsteer: Pgsteer;

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  await cluster.sql("node1", "CREATE ROLE changing LOGIN PASSWORD 'before'");
  await queryOnce(cluster.login("node1", APPLICATION), "CREATE TABLE kept (n int)");
  pgsteer = await startPgsteer(cluster, { ready: "sql", users: { changing: "before" } });
});

afterAll(async () => {
  await cluster?.remove();
});

/** Lines of pgsteer's log that contain `text`. */
const logged = (text: string) =>
  readFileSync(pgsteer.log, "utf8")
    .split("\n")
    .filter((line) => line.includes(text)).length;

/** SIGHUP, and waits until the log has `text` once more. */
async function reload(text = "configuration reloaded"): Promise<void> {
  const before = logged(text);
  pgsteer.process.signal("SIGHUP");
  await waitFor(() => logged(text) > before, { timeoutMs: 30_000, what: `the log says ${text}` });
}

/** Writes the configuration anew, changed, and reloads. */
async function change(edit: (file: File) => void): Promise<void> {
  const file = fileSchema.parse(parse(readFileSync(pgsteer.configurationFile, "utf8")));
  edit(file);
  writeFileSync(pgsteer.configurationFile, stringify(file));
  await reload();
}

const opened: RawClient[] = [];

afterEach(() => {
  for (const each of opened.splice(0)) each.destroy();
});

async function client(port = pgsteer.ports.write, database: string = APPLICATION.database): Promise<RawClient> {
  const found = await RawClient.login({ host: "127.0.0.1", port, ...APPLICATION, database });
  opened.push(found);
  return found;
}

describe("SIGHUP", () => {
  test("adds a listener, and takes it away again, with every client staying", async () => {
    const companion = new Companion(pgsteer.login("write"));
    const busy = await client();
    await busy.simple("BEGIN");
    const idle = await client(pgsteer.ports.auto);
    const port = await freePort();
    await change(({ listeners }) => listeners.push({ name: "late", address: "127.0.0.1", port, route: "write" }));
    const late = await client(port);
    expect(await late.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
    await change((file) => {
      file.listeners = file.listeners.filter(({ name }) => name !== "late");
    });
    await expect(client(port)).rejects.toThrow("ECONNREFUSED");
    expect(await late.simple("SELECT 2")).toEqual(["T", "D 2", "C SELECT 1", "Z I"]);
    expect(await idle.simple("SELECT 3")).toEqual(["T", "D 3", "C SELECT 1", "Z I"]);
    expect(await busy.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
    await companion.goesOn();
    await companion.stop();
  });

  test("brings a user's new password, to clients and to servers", async () => {
    const login = (password: string) => ({ ...pgsteer.login("write"), user: "changing", password });
    const staying = await RawClient.login(login("before"));
    opened.push(staying);
    expect(await staying.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
    await cluster.sql("node1", "ALTER ROLE changing PASSWORD 'after'");
    const userlist = join(cluster.directory, "pgsteer-userlist.txt");
    const lines = readFileSync(userlist, "utf8");
    writeFileSync(userlist, lines.replace('"changing" "before"', '"changing" "after"'));
    await reload();
    expect(await staying.simple("BEGIN")).toEqual(["C BEGIN", "Z T"]);
    expect(await queryOnce(login("before"), "SELECT 1").catch(codeOf)).toBe("28P01");
    // The one server is taken: this needs a new login there, with the new password.
    expect((await queryOnce(login("after"), "SELECT 2 AS n")).rows).toEqual([{ n: 2 }]);
    expect(await staying.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
  });

  test("changes the size of pools that there are", async () => {
    await change(({ pool }) => {
      pool["default_pool_size"] = 1;
      pool["query_wait_timeout"] = "1s";
    });
    // A pool that nobody has used yet.
    const one = await client(pgsteer.ports.write, "postgres");
    const other = await client(pgsteer.ports.write, "postgres");
    await one.simple("BEGIN");
    other.send(frontend.query("BEGIN"));
    expect(outline(await other.untilEnd(5000))).toEqual(["E FATAL 57P03", "EOF"]);
    await change(({ pool }) => {
      pool["default_pool_size"] = 3;
    });
    const third = await client(pgsteer.ports.write, "postgres");
    expect(await third.simple("BEGIN")).toEqual(["C BEGIN", "Z T"]);
  });

  test("with a wrong file changes nothing, and says why", async () => {
    const right = readFileSync(pgsteer.configurationFile, "utf8");
    writeFileSync(pgsteer.configurationFile, right.replace("default_pool_size", "defualt_pool_size"));
    await reload("not reloaded");
    expect(logged("defualt_pool_size")).toBeGreaterThan(0);
    writeFileSync(pgsteer.configurationFile, right);
    const one = await client();
    expect(await one.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
    await reload();
  });
});

describe("SIGTERM", { timeout: 120_000 }, () => {
  async function another(name: string, drainTimeout: string): Promise<Pgsteer> {
    return startPgsteer(cluster, {
      name,
      ready: "sql",
      configure: ({ pool }) => {
        pool["drain_timeout"] = drainTimeout;
        pool["default_pool_size"] = 3;
      },
    });
  }

  const ended = (which: Pgsteer) =>
    waitFor(() => which.process.exitCode() !== null, { timeoutMs: 30_000, intervalMs: 10, what: "pgsteer has ended" });

  test("lets transactions finish, sends the others away with 57P01, and ends with exit code 0", async () => {
    const leaving = await another("leaving", "30s");
    const [idle, busy, working, failed] = await Promise.all(
      ["idle", "busy", "working", "failed"].map(() => client(leaving.ports.write)),
    );
    if (!idle || !busy || !working || !failed) throw new Error("four clients");
    await busy.simple("BEGIN");
    await busy.simple("INSERT INTO kept VALUES (1)");
    await failed.simple("BEGIN");
    await failed.simple("SELECT 1/0");
    working.send(frontend.query("INSERT INTO kept SELECT 2 FROM pg_sleep(2)"));
    await untilRuns(cluster, "SELECT 2 FROM pg_sleep(2)");
    leaving.process.signal("SIGTERM");
    const seen = await idle.untilEnd();
    expect(outline(seen)).toEqual(["E FATAL 57P01", "EOF"]);
    expect(errorFields(seen[0]?.body ?? Buffer.alloc(0))["M"]).toBe(
      "terminating connection due to administrator command",
    );
    const refused = await queryOnce(leaving.login("write"), "SELECT 1").catch(codeOf);
    expect(["ECONNREFUSED", "57P01"]).toContain(refused);
    expect(await busy.simple("INSERT INTO kept VALUES (3)")).toEqual(["C INSERT 0 1", "Z T"]);
    busy.send(frontend.query("COMMIT"));
    expect(outline(await busy.untilEnd())).toEqual(["C COMMIT", "Z I", "E FATAL 57P01", "EOF"]);
    expect(outline(await working.untilEnd())).toEqual(["C INSERT 0 1", "Z I", "E FATAL 57P01", "EOF"]);
    expect(leaving.process.alive()).toBe(true);
    failed.send(frontend.query("ROLLBACK"));
    expect(outline(await failed.untilEnd())).toEqual(["C ROLLBACK", "Z I", "E FATAL 57P01", "EOF"]);
    await ended(leaving);
    expect(leaving.process.exitCode()).toBe(0);
    const { rows } = await queryOnce(pgsteer.login("write"), "SELECT n FROM kept ORDER BY n");
    expect(rows).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
  });

  test("waits no longer than drain_timeout; what is open then is rolled back", async () => {
    const leaving = await another("impatient", "1s");
    const busy = await client(leaving.ports.write);
    await busy.simple("BEGIN");
    await busy.simple("INSERT INTO kept VALUES (4)");
    leaving.process.signal("SIGTERM");
    expect(outline(await busy.untilEnd()).at(-1)).toBe("EOF");
    await ended(leaving);
    expect(leaving.process.exitCode()).toBe(0);
    const none = async () => {
      const statement = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
      return (await cluster.sql("node1", statement)).rows[0]?.["n"] === 0;
    };
    await waitFor(none, { timeoutMs: 30_000, what: "no transaction is open" });
    const { rows } = await queryOnce(pgsteer.login("write"), "SELECT n FROM kept WHERE n = 4");
    expect(rows).toEqual([]);
  });

  test("given twice ends it at once", async () => {
    const leaving = await another("hurried", "60s");
    const busy = await client(leaving.ports.write);
    await busy.simple("BEGIN");
    leaving.process.signal("SIGTERM");
    await waitFor(() => readFileSync(leaving.log, "utf8").includes("draining"), {
      timeoutMs: 30_000,
      what: "it drains",
    });
    expect(leaving.process.alive()).toBe(true);
    leaving.process.signal("SIGTERM");
    await ended(leaving);
    expect(leaving.process.exitCode()).toBe(0);
  });

  test("while a client waits for a leader waits no longer than drain_timeout", async () => {
    const leaving = await another("leaderless", "1s");
    const waiting = await client(leaving.ports.write);
    await cluster.stopMember("node1");
    waiting.send(frontend.query("SELECT 1"));
    await waitFor(async () => (await cluster.leader()) === null, { timeoutMs: 30_000, what: "there is no leader" });
    leaving.process.signal("SIGTERM");
    expect(outline(await waiting.untilEnd()).at(-1)).toEqual("EOF");
    await ended(leaving);
    expect(leaving.process.exitCode()).toBe(0);
  });
});
