// What clients see when their server is gone, byte for byte: one client in each situation, all at once, then a switchover or
// kill -9 of the leader's PostgreSQL. Reads in flight lose their replica. Nothing may be repeated, nothing guessed.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventsSchema } from "../../src/admin/events-document.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { errorFields, frontend, outline, RawClient, type RawMessage } from "../support/raw-client.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const ABORTED = ["E ERROR 25P02", "Z E"];
const LOST = ["E ERROR 40001", "Z E"];

let cluster: Cluster;
let pgsteer: Pgsteer;
let sessionPort = 0;
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster();
  sessionPort = await freePort();
  pgsteer = await startPgsteer(cluster, {
    ready: "sql",
    configure: ({ listeners }) => {
      const session = { name: "session", address: "127.0.0.1", port: sessionPort };
      listeners.push({ ...session, route: "write", pool_mode: "session" });
    },
  });
  // A row of `slow` makes its COMMIT take a minute.
  await queryOnce(
    cluster.login(await cluster.requireLeader(), APPLICATION),
    `CREATE TABLE seen (who text);
     CREATE TABLE slow (who text);
     CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
     CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW EXECUTE FUNCTION dawdle();`,
  );
  await cluster.waitHealthy();
});

afterAll(async () => {
  for (const client of opened) client.destroy();
  await cluster?.remove();
});

async function client(port = pgsteer.ports.write): Promise<RawClient> {
  const found = await RawClient.login({ host: "127.0.0.1", port, ...APPLICATION });
  opened.push(found);
  return found;
}

/** The error among `messages`. */
function errorIn(messages: readonly (RawMessage | null)[]): ReturnType<typeof errorFields> {
  const found = messages.find((each) => each?.type === "E");
  if (found === undefined || found === null) throw new Error(`no error in ${outline(messages).join(", ")}`);
  return errorFields(found.body);
}

/** Outline without what an orderly shutdown of PostgreSQL still flushes: answers that came before the work. */
function withoutHeralds(messages: readonly (RawMessage | null)[]): string[] {
  return outline(messages).filter((each) => !["1", "2", "n", "T", "C BEGIN", "C INSERT 0 1"].includes(each));
}

/** Waits until `count` statements like `pattern` run on `member`. */
async function running(member: string, pattern: string, count: number): Promise<void> {
  const statement = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE $1`;
  await waitFor(async () => (await cluster.sql(member, statement, [pattern])).rows[0]?.["n"] === count, {
    timeoutMs: 30_000,
    what: `${count} × ${pattern} on ${member}`,
  });
}

async function rowsOf(who: string): Promise<number> {
  const { rows } = await queryOnce(
    pgsteer.login("write"),
    `SELECT (SELECT count(*) FROM seen WHERE who = '${who}') + (SELECT count(*) FROM slow WHERE who = '${who}') AS n`,
  );
  return Number(rows[0]?.["n"]);
}

/** A message of which the half is sent before the loss, and the rest after it. */
const half = frontend.query("INSERT INTO seen VALUES ('half a message')");

/** One client in each situation, with what it was told at once. */
async function situations(tag: string) {
  const inTransaction = async (): Promise<RawClient> => {
    const found = await client();
    expect(await found.simple("BEGIN")).toEqual(["C BEGIN", "Z T"]);
    expect(await found.simple(`INSERT INTO seen VALUES ('${tag} lost')`)).toEqual(["C INSERT 0 1", "Z T"]);
    return found;
  };
  const committing = async (port?: number): Promise<RawClient> => {
    const found = await client(port);
    await found.simple("BEGIN");
    expect(await found.simple(`INSERT INTO slow VALUES ('${tag} commit')`)).toEqual(["C INSERT 0 1", "Z T"]);
    return found;
  };
  const all = {
    idle: await client(),
    waiting: await client(),
    simple: await inTransaction(),
    unaware: await inTransaction(),
    working: await inTransaction(),
    extended: await client(),
    savepoint: await inTransaction(),
    copying: await inTransaction(),
    copyingAlone: await client(),
    halfway: await inTransaction(),
    pipelining: await inTransaction(),
    committingAtOnce: await client(),
    auto: await client(pgsteer.ports.auto),
    committing: await committing(),
    committingExtended: await committing(),
    batch: await client(),
    autocommit: await client(),
    multiple: await client(),
    pinned: await client(),
    session: await client(sessionPort),
    sessionInTransaction: await client(sessionPort),
    sessionCommitting: await committing(sessionPort),
  };
  await all.idle.simple("SELECT 1");
  expect(await all.extended.extended("BEGIN")).toEqual(["1", "2", "n", "C BEGIN", "Z T"]);
  await all.extended.extended(`INSERT INTO seen VALUES ('${tag} lost')`);
  await all.savepoint.simple("SAVEPOINT s");
  // LISTEN binds it to its server; a named statement would follow it.
  await all.pinned.simple("LISTEN news");
  for (const each of [all.copying, all.copyingAlone]) {
    each.send(frontend.query("COPY seen FROM STDIN"));
    expect((await each.next())?.type).toBe("G");
    each.send(frontend.copyData(Buffer.from(`${tag} copied\n`)));
  }
  all.halfway.send(half.subarray(0, 20));
  await all.auto.simple("BEGIN");
  await all.auto.simple(`INSERT INTO seen VALUES ('${tag} lost')`);
  await all.session.simple("SELECT 1");
  await all.sessionInTransaction.simple("BEGIN");
  await all.sessionInTransaction.simple(`INSERT INTO seen VALUES ('${tag} lost')`);
  all.working.send(frontend.query("SELECT pg_sleep(60) -- working"));
  all.committing.send(frontend.query("COMMIT"));
  all.committingExtended.send(frontend.extended("COMMIT"));
  all.sessionCommitting.send(frontend.query("COMMIT"));
  all.batch.send(frontend.extended(`INSERT INTO seen SELECT '${tag} batch' FROM pg_sleep(60)`));
  all.autocommit.send(frontend.query(`INSERT INTO seen SELECT '${tag} autocommit' FROM pg_sleep(60)`));
  all.multiple.send(frontend.query(`INSERT INTO seen SELECT '${tag} multiple' FROM pg_sleep(60); SELECT 1`));
  // Three statements in flight, each with its own Sync; the first of them sleeps.
  all.pipelining.send(
    frontend.extended("SELECT pg_sleep(60) -- pipelining"),
    frontend.extended("SELECT 2"),
    frontend.extended("SELECT 3"),
  );
  const together = `BEGIN; INSERT INTO seen VALUES ('${tag} together'); SELECT pg_sleep(60); COMMIT`;
  all.committingAtOnce.send(frontend.query(together));
  const leader = await cluster.requireLeader();
  await running(leader, "%pg_sleep(60)%", 6);
  await running(leader, "COMMIT", 3);
  return all;
}

const disturbances: Readonly<Record<string, () => Promise<unknown>>> = {
  "a switchover": () => cluster.switchover(),
  "kill -9 of the leader's PostgreSQL": async () => cluster.killPostgres(await cluster.requireLeader()),
};

describe.each(Object.keys(disturbances))("in %s a client that was", (name) => {
  let all: Awaited<ReturnType<typeof situations>>;
  let waited: string[];
  let late: string[];
  const tag = name.split(" ")[1] ?? "";

  beforeAll(async () => {
    all = await situations(tag);
    const disturbed = disturbances[name]?.();
    // The first word of the loss is the moment at which another client asks for a server that is not there.
    await waitFor(() => all.autocommit.heard, { timeoutMs: 60_000, intervalMs: 1, what: "the loss is known" });
    const login = RawClient.login(pgsteer.login("write"), { application_name: `${tag} late` });
    waited = await all.waiting.simple(`INSERT INTO seen VALUES ('${tag} waiting')`, 60_000);
    opened.push(await login);
    late = (await opened.at(-1)?.simple("SHOW application_name")) ?? [];
    await disturbed;
    await cluster.waitHealthy();
  });

  test("idle sees nothing, and works on", async () => {
    expect(all.idle.heard).toBe(false);
    expect(await all.idle.simple("SELECT 2")).toEqual(["T", "D 2", "C SELECT 1", "Z I"]);
  });

  test("waiting for a server is served, once", async () => {
    expect(waited).toEqual(["C INSERT 0 1", "Z I"]);
    expect(await rowsOf(`${tag} waiting`)).toBe(1);
  });

  test("not there yet is let in when there is a leader", () => {
    expect(late).toEqual(["T", `D ${tag} late`, "C SHOW", "Z I"]);
  });

  test("in a transaction gets 40001 once, then 25P02 until it rolls back, and works on", async () => {
    expect(all.simple.heard).toBe(false);
    all.simple.send(frontend.query("SELECT 1"));
    const first = await all.simple.untilReady();
    expect(outline(first)).toEqual(LOST);
    expect(errorIn(first)["M"]).toBe("the transaction was rolled back because its server is gone");
    expect(errorIn(first)["D"]).toContain("node");
    expect(await all.simple.simple("SELECT 1")).toEqual(ABORTED);
    expect(await all.simple.simple("INSERT INTO seen VALUES ('never')")).toEqual(ABORTED);
    expect(await all.simple.extended("SELECT 1")).toEqual(ABORTED);
    expect(await all.simple.simple("ROLLBACK")).toEqual(["C ROLLBACK", "Z I"]);
    expect(await all.simple.simple("BEGIN")).toEqual(["C BEGIN", "Z T"]);
    expect(await all.simple.simple(`INSERT INTO seen VALUES ('${tag} again')`)).toEqual(["C INSERT 0 1", "Z T"]);
    expect(await all.simple.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
    expect(await rowsOf(`${tag} again`)).toBe(1);
  });

  test("in a transaction, and told nothing yet, cannot commit it", async () => {
    expect(await all.unaware.simple("COMMIT")).toEqual(["E ERROR 40001", "Z I"]);
    expect(await all.unaware.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
    expect(await rowsOf(`${tag} lost`)).toBe(0);
  });

  test("at work in a transaction gets 40001 at once; COMMIT is then a ROLLBACK", async () => {
    expect(withoutHeralds(await all.working.untilReady())).toEqual(LOST);
    expect(await all.working.simple("SELECT 1")).toEqual(ABORTED);
    expect(await all.working.simple("COMMIT")).toEqual(["C ROLLBACK", "Z I"]);
    expect(await all.working.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
  });

  test("in a transaction by the extended protocol sees the same", async () => {
    expect(await all.extended.extended("SELECT 1")).toEqual(LOST);
    expect(await all.extended.extended("SELECT 1")).toEqual(ABORTED);
    expect(await all.extended.extended("ROLLBACK")).toEqual(["1", "2", "n", "C ROLLBACK", "Z I"]);
    expect(await all.extended.extended("SELECT 1")).toEqual(["1", "2", "T", "D 1", "C SELECT 1", "Z I"]);
  });

  test("inside a savepoint cannot go back to it", async () => {
    expect(await all.savepoint.simple("ROLLBACK TO SAVEPOINT s")).toEqual(LOST);
    expect(await all.savepoint.simple("ROLLBACK TO SAVEPOINT s")).toEqual(ABORTED);
    expect(await all.savepoint.simple("ROLLBACK;")).toEqual(["C ROLLBACK", "Z I"]);
  });

  test("in a transaction in the middle of COPY gets 40001, and the rest of the copy is ignored", async () => {
    expect(outline(await all.copying.untilReady())).toEqual(LOST);
    all.copying.send(frontend.copyData(Buffer.from("more\n")), frontend.copyDone());
    expect(await all.copying.simple("SELECT 1")).toEqual(ABORTED);
    expect(await all.copying.simple("ROLLBACK")).toEqual(["C ROLLBACK", "Z I"]);
    expect(await all.copying.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
  });

  test("in a transaction in the middle of a message gets 40001 for it, once", async () => {
    all.halfway.send(half.subarray(20));
    expect(outline(await all.halfway.untilReady())).toEqual(LOST);
    expect(await all.halfway.simple("SELECT 1")).toEqual(ABORTED);
    expect(await all.halfway.simple("ROLLBACK")).toEqual(["C ROLLBACK", "Z I"]);
    expect(await rowsOf("half a message")).toBe(0);
  });

  test("in a transaction with a pipeline in flight gets one answer per Sync", async () => {
    expect(withoutHeralds(await all.pipelining.untilReady())).toEqual(LOST);
    expect(outline(await all.pipelining.untilReady())).toEqual(ABORTED);
    expect(outline(await all.pipelining.untilReady())).toEqual(ABORTED);
    expect(await all.pipelining.extended("ROLLBACK")).toEqual(["1", "2", "n", "C ROLLBACK", "Z I"]);
  });

  test("in a transaction on the auto port sees the same, and may begin again", async () => {
    expect(await all.auto.simple("SELECT 1")).toEqual(LOST);
    expect(await all.auto.simple("ABORT")).toEqual(["C ROLLBACK", "Z I"]);
    expect(await all.auto.simple("BEGIN READ ONLY")).toEqual(["C BEGIN", "Z T"]);
    expect(await all.auto.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
  });

  test.each([
    "committing",
    "committingExtended",
    "committingAtOnce",
    "batch",
    "autocommit",
    "multiple",
    "copyingAlone",
    "sessionCommitting",
  ] as const)("%s gets FATAL 08007, and its connection ends", async (which) => {
    const seen = await all[which].untilEnd();
    expect(withoutHeralds(seen)).toEqual(["E FATAL 08007", "EOF"]);
    expect(errorIn(seen)["D"]).toContain("Whether the statement took effect is unknown.");
  });

  test("told of an unknown outcome finds nothing repeated", async () => {
    for (const who of ["commit", "batch", "autocommit", "multiple", "together", "copied"])
      expect(await rowsOf(`${tag} ${who}`)).toBe(0);
  });

  test.each(["pinned", "session", "sessionInTransaction"] as const)(
    "%s gets FATAL 57P01, and its connection ends",
    async (which) => {
      expect(outline(await all[which].untilEnd())).toEqual(["E FATAL 57P01", "EOF"]);
    },
  );

  test("told an error is counted once in the record of it, and who waited is not", async () => {
    const { events } = eventsSchema.parse(await (await fetch(`${pgsteer.httpUrl}/events`)).json());
    const record = events.find(({ error_count }) => error_count > 0);
    const given = record?.errors.map(({ sqlstate, count }) => [sqlstate, count]) ?? [];
    expect(Object.fromEntries(given)).toEqual({ "08007": 8, "40001": 9, "57P01": 3 });
    expect(record).toMatchObject({ kind: tag === "switchover" ? "switchover" : "away", avoided: { waited: 2 } });
  });
});

describe("a read in flight on a replica that is killed", { timeout: 120_000 }, () => {
  /** Starts `messages`, kills the replica on which they run, and says what the client saw. */
  async function killUnder(messages: Buffer, port: number, mark: string): Promise<{ seen: string[]; at: number }> {
    await cluster.waitHealthy();
    const reader = await client(port);
    reader.send(messages);
    const at = await waitFor(
      async () => {
        for (const name of await cluster.replicas()) {
          const statement =
            "SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()";
          if ((await cluster.sql(name, statement, [`%${mark}%`])).rows[0]?.["n"] === 1) return name;
        }
        return null;
      },
      { timeoutMs: 30_000, what: "the read runs on a replica" },
    );
    const seen = reader.untilReady();
    await cluster.killPostgres(at);
    return { seen: outline(await seen), at: cluster.member(at).port };
  }

  test("is answered by another member, unseen (simple protocol)", async () => {
    const { seen, at } = await killUnder(
      frontend.query("SELECT inet_server_port() FROM pg_sleep(3) -- simple read"),
      pgsteer.ports.read,
      "simple read",
    );
    expect(seen).toEqual(["T", expect.stringMatching(/^D \d+$/), "C SELECT 1", "Z I"]);
    expect(seen[1]).not.toBe(`D ${at}`);
  });

  test("is answered by another member, unseen (extended protocol)", async () => {
    const { seen, at } = await killUnder(
      frontend.extended("SELECT inet_server_port() FROM pg_sleep(3) -- extended read"),
      pgsteer.ports.read,
      "extended read",
    );
    expect(seen).toEqual(["1", "2", "T", expect.stringMatching(/^D \d+$/), "C SELECT 1", "Z I"]);
    expect(seen[3]).not.toBe(`D ${at}`);
  });

  const slowFrom = (first: number, mark: string) =>
    `SELECT n, repeat('x', 1000) FROM generate_series(1, 200) n, LATERAL pg_sleep(CASE WHEN n >= ${first} THEN 60 ELSE 0 END) -- ${mark}`;

  test("is an ERROR 40001, with the session alive, once a part of the answer was sent", async () => {
    const { seen } = await killUnder(
      Buffer.concat([
        frontend.parse(slowFrom(3, "part")),
        frontend.bind(),
        frontend.execute(2),
        frontend.flush(),
        frontend.execute(),
        frontend.sync(),
      ]),
      pgsteer.ports.read,
      "part",
    );
    expect(seen).toEqual(["1", "2", "D 1", "D 2", "s", "E ERROR 40001", "Z I"]);
    expect(await opened.at(-1)?.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
  });

  test("ends without a word when it broke off in the middle of a message", async () => {
    const { seen } = await killUnder(frontend.query(slowFrom(100, "half")), pgsteer.ports.read, "half");
    expect(seen.filter((each) => !each.startsWith("D "))).toEqual(["T", "EOF"]);
  });

  test("inside BEGIN READ ONLY is an ERROR 40001, once, and the session lives on", async () => {
    await cluster.waitHealthy();
    const reader = await client(pgsteer.ports.auto);
    expect(await reader.simple("BEGIN READ ONLY")).toEqual(["C BEGIN", "Z T"]);
    const [, port = ""] = await reader.simple("SELECT inet_server_port()");
    const replica = cluster.members.find((member) => `D ${member.port}` === port);
    expect(await cluster.replicas()).toContain(replica?.name);
    await cluster.killPostgres(replica?.name ?? "", true);
    expect(await reader.simple("SELECT 1")).toEqual(LOST);
    expect(await reader.simple("SELECT 1")).toEqual(ABORTED);
    expect(await reader.simple("ROLLBACK")).toEqual(["C ROLLBACK", "Z I"]);
    expect(await reader.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
  });
});
