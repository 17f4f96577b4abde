// PostgreSQL's own programs through pgsteer: psql, pgbench, pg_dump, pg_restore, copies of 100 MB, large objects, LISTEN and
// cancel. What they bring back is compared with what is there.

import { createHash } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { untilRuns } from "../support/activity.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { signal } from "../support/procfs.ts";
import { libpqEnvironment, psql, runProgram } from "../support/programs.ts";
import { int32, message, RawClient, startup } from "../support/raw-client.ts";
import { connect, type Login, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let cluster: Cluster;
let pgsteer: Pgsteer;
let session: Login;
let directory = "";

beforeAll(async () => {
  cluster = await startCluster({ members: 2 });
  directory = cluster.directory;
  const port = await freePort();
  session = { host: "127.0.0.1", port, ...APPLICATION };
  pgsteer = await startPgsteer(cluster, {
    ready: "sql",
    configure: ({ listeners }) => {
      listeners.push({ name: "session", address: "127.0.0.1", port, route: "write", pool_mode: "session" });
    },
  });
});

afterAll(async () => {
  await cluster?.remove();
});

const write = () => pgsteer.login("write");
const direct = async () => cluster.login(await cluster.requireLeader(), APPLICATION);

/** Output of a program that must succeed. */
async function output(running: ReturnType<typeof runProgram>): Promise<string> {
  const { code, stdout, stderr } = await running;
  if (code !== 0) throw new Error(`ended with ${code}: ${stderr}${stdout}`);
  return stdout;
}

const digest = (file: string): string => createHash("sha256").update(readFileSync(file)).digest("hex");

describe("psql", () => {
  test.each(["auto", "write", "read"] as const)("works on the %s port", async (route) => {
    const script =
      "SELECT 1;\n\\conninfo\n\\dt pg_catalog.pg_class\nSELECT 'two' AS a \\gset\n\\echo :a\nSELECT 3 \\; SELECT 4;\n";
    const text = await output(psql(pgsteer.login(route), ["-f", "-"], { input: script }));
    expect(text.split("\n")[0]).toBe("1");
    expect(text).toContain(`at port "${pgsteer.ports[route]}"`);
    expect(text).toContain("pg_catalog|pg_class|table|postgres");
    expect(text.trimEnd().split("\n").slice(-3)).toEqual(["two", "3", "4"]);
  });

  test("runs a script as one transaction, and none of it when it fails", async () => {
    const good =
      "CREATE TABLE one_by_one (n int); INSERT INTO one_by_one SELECT generate_series(1, 10); SELECT sum(n) FROM one_by_one;";
    expect(await output(psql(write(), ["-1", "-f", "-"], { input: good }))).toBe("55\n");
    const bad = "INSERT INTO one_by_one VALUES (11);\nSELECT 1/0;\nINSERT INTO one_by_one VALUES (12);\n";
    const failed = await psql(write(), ["-1", "-f", "-"], { input: bad });
    expect(failed.code).toBe(3);
    expect(failed.stderr).toContain("division by zero");
    expect(await output(psql(write(), ["-c", "SELECT count(*) FROM one_by_one"]))).toBe("10\n");
  });

  test("takes the text of an error apart as PostgreSQL gave it", async () => {
    const args = ["-v", "VERBOSITY=verbose", "-c", "SELECT nothing FROM nowhere"];
    const [through, straight] = [await psql(write(), args), await psql(await direct(), args)];
    expect(through.stderr).toBe(straight.stderr);
    expect(through.stderr).toContain("42P01");
  });
});

describe("pgbench", () => {
  beforeAll(async () => {
    const args = ["-i", "-s", "1", "-q"];
    const { code, stderr } = await runProgram("pgbench", args, { env: libpqEnvironment(write()) });
    expect(`${code} ${stderr}`).toMatch(/^0 /);
    const count = async () => {
      const [replica = ""] = await cluster.replicas();
      const { rows } = await cluster.sql(replica, "SELECT count(*)::int AS n FROM pgbench_accounts", [], "app");
      return rows[0]?.["n"] === 100_000;
    };
    await waitFor(count, { timeoutMs: 30_000, what: "the replica has the accounts" });
  });

  async function bench(login: Login, args: readonly string[]): Promise<string> {
    const all = ["-n", "-c", "8", "-j", "2", "-t", "100", ...args];
    return output(runProgram("pgbench", all, { env: libpqEnvironment(login) }));
  }

  describe.each(["simple", "extended", "prepared"])("with the %s protocol", (protocol) => {
    test.each(["auto", "write", "read"] as const)("reads on the %s port", async (route) => {
      const text = await bench(pgsteer.login(route), ["-S", "-M", protocol]);
      expect(text).toContain("number of transactions actually processed: 800/800");
      expect(text).toContain("number of failed transactions: 0");
    });

    test.each(["auto", "write"] as const)("writes on the %s port, and every row is there", async (route) => {
      const sums = async () => {
        const statement = `SELECT (SELECT count(*) FROM pgbench_history)::int AS rows,
          (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS accounts,
          (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS branches`;
        return (await queryOnce(await direct(), statement)).rows[0];
      };
      const before = Number((await sums())?.["rows"]);
      const text = await bench(pgsteer.login(route), ["-M", protocol]);
      expect(text).toContain("number of transactions actually processed: 800/800");
      expect(await sums()).toEqual({ rows: before + 800, accounts: true, branches: true });
    });
  });
});

describe("copies", () => {
  test("by \\copy go both ways", async () => {
    const [out, back] = [join(directory, "small.csv"), join(directory, "back.csv")];
    writeFileSync(out, '1,"a ""quoted"" text"\n2,\n3,"ä€, and\nanother line"\n');
    await output(psql(write(), ["-c", "CREATE TABLE small (n int, t text)"]));
    await output(psql(write(), ["-c", `\\copy small from '${out}' csv`]));
    await output(psql(write(), ["-c", `\\copy (select * from small order by n) to '${back}' csv`]));
    expect(readFileSync(back, "utf8")).toBe(readFileSync(out, "utf8"));
    const args = ["-c", "\\copy small from stdin"];
    const bad = await psql(write(), args, { input: "not a number\n\\.\n" });
    expect(bad.stderr).toContain("invalid input syntax for type integer");
    expect(await output(psql(write(), ["-c", "SELECT count(*) FROM small"]))).toBe("3\n");
  });

  test("of 100 MB arrive as they are, out and in", { timeout: 240_000 }, async () => {
    const sum = (table: string) => `SELECT count(*), sum(length(line)), sum(hashtext(line)::bigint) FROM ${table}`;
    await queryOnce(
      await direct(),
      "CREATE UNLOGGED TABLE big AS SELECT n || ' ' || repeat(md5(n::text), 32) AS line FROM generate_series(1, 100000) n; CREATE UNLOGGED TABLE big2 (LIKE big)",
      [],
      60_000,
    );
    const [through, straight] = [join(directory, "through.txt"), join(directory, "straight.txt")];
    await output(psql(write(), ["-c", `\\copy big to '${through}'`]));
    await output(psql(await direct(), ["-c", `\\copy big to '${straight}'`]));
    expect(readFileSync(through).length).toBeGreaterThan(100_000_000);
    expect(digest(through)).toBe(digest(straight));
    await output(psql(write(), ["-c", `\\copy big2 from '${through}'`]));
    expect(await output(psql(write(), ["-c", sum("big2")]))).toBe(await output(psql(write(), ["-c", sum("big")])));
    for (const file of [through, straight]) rmSync(file);
    await queryOnce(await direct(), "DROP TABLE big, big2");
  });
});

describe("large objects", () => {
  test("come back as they went in", async () => {
    const [there, back] = [join(directory, "there.bin"), join(directory, "back.bin")];
    writeFileSync(
      there,
      Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 7 + (index >> 8)) & 0xff)),
    );
    const script = `\\lo_import '${there}' 'a comment'\n\\echo :LASTOID\n`;
    const oid = (await output(psql(write(), ["-f", "-"], { input: script }))).trim().split(/\s+/).at(-1);
    await output(psql(write(), ["-c", `\\lo_export ${oid} '${back}'`]));
    expect(digest(back)).toBe(digest(there));
    expect(await output(psql(write(), ["-c", `SELECT length(lo_get(${oid}))`]))).toBe("3000000\n");
    await output(psql(write(), ["-c", `\\lo_unlink ${oid}`]));
    expect(await output(psql(write(), ["-c", "SELECT count(*) FROM pg_largeobject_metadata"]))).toBe("0\n");
  });
});

describe("LISTEN in session mode", () => {
  test("hears what others notify, from the process that says so", async () => {
    const listener = await connect(session);
    const heard: string[] = [];
    listener.client.on("notification", ({ channel, payload }) => heard.push(`${channel} ${payload}`));
    await listener.client.query("LISTEN news");
    await queryOnce(write(), "NOTIFY news, 'from the write port'");
    await queryOnce(await direct(), "NOTIFY news, 'from elsewhere'");
    await waitFor(() => heard.length === 2, { timeoutMs: 30_000, what: "two notifications without a query" });
    expect(heard).toEqual(["news from the write port", "news from elsewhere"]);
    await listener.client.query("UNLISTEN news");
    await queryOnce(write(), "NOTIFY news, 'too late'");
    await listener.client.query("SELECT 1");
    expect(heard).toHaveLength(2);
    await listener.client.end();
  });
});

describe("a cancel", () => {
  /** psql at a sleep; `pid` is psql's own. */
  function sleeper(login: Login, seconds: number, name: string) {
    let pid = 0;
    const script = `SELECT 'done' FROM pg_sleep(${seconds}) -- ${name}`;
    const result = psql(login, ["-c", script], {
      started: (started) => {
        pid = started;
      },
    });
    return { result, pid: () => pid };
  }

  test.each(["transaction", "session"])(
    "by Ctrl-C in psql ends that statement and no other (%s mode)",
    async (mode) => {
      const login = mode === "session" ? session : write();
      const [one, other] = [sleeper(login, 30, `${mode} one`), sleeper(login, 3, `${mode} other`)];
      await Promise.all(["one", "other"].map((name) => untilRuns(cluster, `${mode} ${name}`)));
      signal(one.pid(), "SIGINT");
      const { code, stderr } = await one.result;
      expect(code).not.toBe(0);
      expect(stderr).toContain("canceling statement due to user request");
      expect(await other.result).toMatchObject({ code: 0, stdout: "done\n" });
    },
  );

  test("by the protocol reaches the statement that runs, and nobody when none does", async () => {
    const key = Buffer.alloc(8);
    const client = await RawClient.open(pgsteer.ports.write);
    client.send(startup({ user: APPLICATION.user, database: APPLICATION.database }));
    for (const each of await client.authenticate(APPLICATION.user, APPLICATION.password)) {
      if (each?.type === "K") each.body.copy(key);
    }
    expect(key.readInt32BE(0)).toBeGreaterThan(0);
    const cancel = async () => {
      const request = await RawClient.open(pgsteer.ports.write);
      request.send(message("", int32(80_877_102), key));
      expect(await request.untilEnd()).toEqual([null]);
    };
    const other = await connect(write());
    const others = other.client.query("SELECT 'undisturbed' AS a FROM pg_sleep(1)");
    await untilRuns(cluster, "'undisturbed'");
    await cancel();
    expect(await client.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
    const cancelled = client.simple("SELECT pg_sleep(30)");
    await untilRuns(cluster, "pg_sleep(30)");
    await cancel();
    expect(await cancelled).toEqual(["T", "E ERROR 57014", "Z I"]);
    expect(await client.simple("SELECT 2")).toEqual(["T", "D 2", "C SELECT 1", "Z I"]);
    expect((await others).rows).toEqual([{ a: "undisturbed" }]);
    await other.client.end();
    client.destroy();
    // Its key is worth nothing once it has left.
    await cancel();
  });

  test("in a rush never hits another client's statement", async () => {
    const victim = await connect(write());
    let rushing = true;
    const rush = (async () => {
      while (rushing) {
        const { client, destroy } = await connect(write());
        const running = client.query("SELECT pg_sleep(0.02)").catch(() => null);
        const pid = "processID" in client ? Number(client.processID) : 0;
        const secret = "secretKey" in client ? Number(client.secretKey) : 0;
        const request = await RawClient.open(pgsteer.ports.write);
        request.send(message("", int32(80_877_102), int32(pid), int32(secret)));
        await request.untilEnd();
        await running;
        request.destroy();
        destroy();
      }
    })();
    for (let count = 0; count < 300; count += 1) {
      expect((await victim.client.query("SELECT $1::int AS n, pg_sleep(0.001)", [count])).rows[0]?.n).toBe(count);
    }
    rushing = false;
    await rush;
    await victim.client.end();
  });
});

describe("pg_dump and pg_restore", () => {
  test("carry a database over through the write port, the same to the last row", async () => {
    await queryOnce(
      await direct(),
      `CREATE SCHEMA shop;
       CREATE TABLE shop.item (id serial PRIMARY KEY, name text NOT NULL, price numeric(10, 2), at timestamptz DEFAULT now(), tags text[]);
       INSERT INTO shop.item (name, price, tags) SELECT 'item ' || n || E' \\\\ "quoted" ä€', n / 7.0, ARRAY['a', NULL, n::text] FROM generate_series(1, 20000) n;
       CREATE INDEX ON shop.item (name);
       CREATE VIEW shop.dear AS SELECT * FROM shop.item WHERE price > 1000;
       CREATE FUNCTION shop.twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';`,
    );
    await cluster.sql(await cluster.requireLeader(), "CREATE DATABASE copy OWNER app");
    const file = join(directory, "shop.dump");
    const dump = ["-Fc", "-n", "shop", "-f", file];
    await output(runProgram("pg_dump", dump, { env: libpqEnvironment(write()) }));
    const copy = { ...write(), database: "copy" };
    await output(runProgram("pg_restore", ["-d", "copy", "-e", file], { env: libpqEnvironment(copy) }));
    const sum = "SELECT count(*), md5(string_agg(i::text, E'\\n' ORDER BY id)) FROM shop.item i";
    const original = await output(psql(await direct(), ["-c", sum]));
    expect(original).toMatch(/^20000\|/);
    expect(await output(psql({ ...(await direct()), database: "copy" }, ["-c", sum]))).toBe(original);
    const uses = "SELECT shop.twice(21), (SELECT count(*) > 0 FROM shop.dear), nextval('shop.item_id_seq')";
    expect(await output(psql(copy, ["-c", uses]))).toBe("42|t|20001\n");
  });

  test("write the same text whether they come directly or through pgsteer, one time after the other", async () => {
    // Newer pg_dumps frame their text with a token that is another one each time.
    const plain = async (login: Login) =>
      (await output(runProgram("pg_dump", ["-n", "shop"], { env: libpqEnvironment(login) }))).replaceAll(
        /^\\(un)?restrict .*$/gm,
        "",
      );
    const straight = await plain(await direct());
    expect(await plain(session)).toBe(straight);
    expect(await plain(write())).toBe(straight);
    expect(await plain(write())).toBe(straight);
  });

  test("leave nothing of their sessions behind for other clients", async () => {
    await output(runProgram("pg_dump", ["-n", "shop"], { env: libpqEnvironment(write()) }));
    const settings =
      "SELECT current_setting('search_path'), current_setting('lock_timeout'), (SELECT count(*) FROM pg_prepared_statements)";
    expect(await output(psql(write(), ["-c", settings]))).toBe(await output(psql(await direct(), ["-c", settings])));
  });

  test("dump from the read port too", async () => {
    const login = { ...pgsteer.login("read") };
    const count = async () => (await output(psql(login, ["-c", "SELECT count(*) FROM shop.item"]))) === "20000\n";
    await waitFor(count, { timeoutMs: 30_000, what: "the replica has the rows" });
    const dump = await output(
      runProgram("pg_dump", ["-n", "shop", "-t", "shop.item"], { env: libpqEnvironment(login) }),
    );
    expect(dump.split("\n").filter((line) => /^\d+\titem /.test(line))).toHaveLength(20_000);
  });
});

test("a login through psql is refused with the text that psql's users know", async () => {
  const { code, stderr } = await psql({ ...write(), password: "wrong" }, ["-c", "SELECT 1"]);
  expect(code).toBe(2);
  expect(stderr).toContain('FATAL:  password authentication failed for user "app"');
});
