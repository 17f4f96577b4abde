// Clients that leave, in good order or not, while they wait or work: what they asked for is not run later for nobody, and whoever
// gets their server finds it clean. And clients that cancel: what is hit is theirs, or nothing is.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { WAITING_BYTES_MAX } from "../../src/core/limits.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { frontend, int32, message, outline, RawClient, startup } from "../support/raw-client.ts";
import { queryOnce } from "../support/sql.ts";
import { sleep, waitFor } from "../support/time.ts";

let cluster: Cluster;
/** One server for everybody. */
let pgsteer: Pgsteer;
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  await queryOnce(
    cluster.login(await cluster.requireLeader(), APPLICATION),
    "CREATE TABLE counted (n int); INSERT INTO counted VALUES (0); CREATE TABLE copied (line text)",
  );
  await cluster.sql(await cluster.requireLeader(), "CREATE ROLE helper; GRANT helper TO app");
  pgsteer = await startPgsteer(cluster, {
    ready: "sql",
    configure: ({ pool, listeners }) => {
      for (const listener of listeners) if (listener["name"] === "auto") listener["pool_mode"] = "session";
      pool["default_pool_size"] = 1;
      pool["query_wait_timeout"] = "20s";
    },
  });
});

afterEach(() => {
  for (const client of opened.splice(0)) client.destroy();
});

afterAll(async () => {
  await cluster?.remove();
});

/** A client, and the key by which it can be cancelled. */
async function keyed(
  parameters: Readonly<Record<string, string>> = {},
  port = pgsteer.ports.write,
): Promise<{ client: RawClient; key: Buffer }> {
  const client = await RawClient.open(port);
  opened.push(client);
  client.send(startup({ user: APPLICATION.user, database: APPLICATION.database, ...parameters }));
  const seen = await client.authenticate(APPLICATION.user, APPLICATION.password);
  const key = seen.find((each) => each?.type === "K");
  if (key === undefined || key === null) throw new Error(`no key: ${outline(seen).join(", ")}`);
  return { client, key: key.body };
}

const newClient = async (parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> =>
  (await keyed(parameters)).client;

/** Resolves when the request has been dealt with. */
async function cancel(key: Buffer): Promise<void> {
  const request = await RawClient.open(pgsteer.ports.write);
  request.send(message("", int32(80_877_102), key));
  expect(await request.untilEnd()).toEqual([null]);
  request.destroy();
}

async function onLeader(text: string): Promise<unknown> {
  return (await cluster.sql(await cluster.requireLeader(), text, [], APPLICATION.database)).rows[0]?.["n"];
}

const running = (mark: string): Promise<unknown> =>
  onLeader(
    `SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%${mark}%' AND pid <> pg_backend_pid()`,
  );
const runs = (mark: string): Promise<true> =>
  waitFor(async () => (await running(mark)) === 1, { timeoutMs: 30_000, intervalMs: 10, what: `${mark} runs` });

/** Clients in this state, by pgsteer's own account. */
async function inState(state: string): Promise<number> {
  const metrics = await (await fetch(`${pgsteer.httpUrl}/metrics`)).text();
  return Number(new RegExp(`pgsteer_clients\\{[^}]*listener="write",state="${state}"\\} (\\d+)`).exec(metrics)?.[1]);
}
const waiting = (count: number): Promise<true> =>
  waitFor(async () => (await inState("waiting")) === count, {
    timeoutMs: 30_000,
    intervalMs: 10,
    what: `${count} wait`,
  });

const ways: Readonly<Record<string, (leaver: RawClient) => void>> = {
  "closing its socket": (leaver) => leaver.socket.destroy(),
  "resetting its connection": (leaver) => leaver.socket.resetAndDestroy(),
  "saying goodbye": (leaver) => {
    leaver.send(frontend.terminate());
    leaver.socket.end();
    leaver.socket.destroySoon();
  },
};

describe("a client that waits for a server", () => {
  test.each(Object.keys(ways))(
    "and leaves by %s is dropped from the queue; its statement is never run",
    async (way) => {
      const holder = await newClient();
      await holder.simple("BEGIN");
      const before = Number(await holder.value("SELECT n FROM counted"));
      const leaver = await newClient();
      const stayer = await newClient();
      leaver.send(frontend.query("UPDATE counted SET n = n + 100 -- for nobody"));
      await waiting(1);
      const answer = stayer.value("SELECT n FROM counted");
      await waiting(2);
      ways[way]?.(leaver);
      await waiting(1);
      await holder.simple("COMMIT");
      expect(Number(await answer)).toBe(before);
    },
  );

  test("and only shuts down its sending side is served, and then let go", async () => {
    const holder = await newClient();
    await holder.simple("BEGIN");
    const half = await newClient();
    half.send(frontend.query("SELECT 'served' FROM pg_sleep(0.5)"));
    await waiting(1);
    half.socket.end();
    await sleep(800);
    expect(await inState("waiting")).toBe(1);
    await holder.simple("COMMIT");
    expect(outline(await half.untilEnd())).toEqual(["T", "D served", "C SELECT 1", "Z I", "EOF"]);
  });

  test("may send ahead no more than WAITING_BYTES_MAX and what one read brings; all of it is answered in the end", async () => {
    const holder = await newClient();
    await holder.simple("BEGIN");
    const eager = await newClient();
    const one = frontend.query(`SELECT '${"x".repeat(1000)}'`);
    const count = 20_000;
    for (let index = 0; index < count; index += 100) eager.send(...Array.from({ length: 100 }, () => one));
    await waiting(1);
    await sleep(300);
    // The kernel's buffers take a few megabytes; pgsteer takes nothing like it.
    expect(eager.socket.writableLength).toBeGreaterThan(one.length * count - 16 * 1024 * 1024 - WAITING_BYTES_MAX);
    expect(eager.socket.writableLength).toBeGreaterThan(0);
    await holder.simple("COMMIT");
    let answers = 0;
    while (answers < count) if ((await eager.next())?.type === "Z") answers += 1;
    expect(await eager.value("SELECT 'done'")).toBe("done");
  });
});

/** What it does before it leaves, all of it on the one server. */
const departures: Readonly<Record<string, (leaver: RawClient) => Promise<void>>> = {
  "in a transaction with locks, temporary tables, settings and cursors": async (leaver) => {
    await leaver.simple("BEGIN");
    await leaver.simple("UPDATE counted SET n = -1000");
    await leaver.simple("CREATE TEMP TABLE mine (n int)");
    await leaver.simple("SET work_mem = '77kB'");
    await leaver.simple("DECLARE c CURSOR FOR SELECT 1");
    await leaver.simple("SELECT pg_advisory_lock(1), pg_advisory_xact_lock(2)");
  },
  "pinned, between transactions, with all that a session can have": async (leaver) => {
    await leaver.simple("CREATE TEMP TABLE mine (n int)");
    await leaver.simple("SET work_mem = '77kB'");
    await leaver.simple("SELECT pg_advisory_lock(1)");
    await leaver.simple("BEGIN");
    await leaver.simple("DECLARE c CURSOR WITH HOLD FOR SELECT 1");
    await leaver.simple("COMMIT");
    await leaver.simple("PREPARE mine AS SELECT 1");
    await leaver.simple("LISTEN news");
  },
  "in a transaction behind a setting that nobody has learnt": async (leaver) => {
    leaver.send(frontend.query("SET work_mem = '77kB'"), frontend.query("BEGIN"));
    expect(outline(await leaver.untilReady())).toEqual(["C SET", "Z I"]);
    expect(outline(await leaver.untilReady())).toEqual(["C BEGIN", "Z T"]);
  },
  "in COPY IN": async (leaver) => {
    leaver.send(frontend.query("COPY copied FROM STDIN"));
    expect((await leaver.next())?.type).toBe("G");
    leaver.send(frontend.copyData(Buffer.from("never\n")));
  },
  "in COPY OUT, of which it has read nothing": async (leaver) => {
    leaver.socket.pause();
    leaver.send(frontend.query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"));
    await sleep(100);
  },
  "in a pipeline without its Sync": async (leaver) => {
    const one = "UPDATE counted SET n = -1000";
    leaver.send(frontend.parse(one), frontend.bind(), frontend.execute(), frontend.flush());
    expect((await leaver.next())?.type).toBe("1");
  },
  "with an open portal": async (leaver) => {
    await leaver.simple("BEGIN");
    const rows = "SELECT generate_series(1, 100)";
    leaver.send(frontend.parse(rows, "s"), frontend.bind("s", "p"), frontend.execute(1, "p"), frontend.sync());
    expect(outline(await leaver.untilReady())).toEqual(["1", "2", "D 1", "s", "Z T"]);
  },
  "in half a message": async (leaver) => {
    await leaver.simple("BEGIN");
    await leaver.simple("UPDATE counted SET n = -1000");
    leaver.send(frontend.query("UPDATE counted SET n = -1000").subarray(0, 20));
  },
  "in half a header": async (leaver) => {
    leaver.send(frontend.query("UPDATE counted SET n = -1000").subarray(0, 3));
  },
};

/** What a server that is lent may have of nobody: one word where it has nothing. */
const traces = `SELECT concat_ws(' ',
  CASE WHEN pg_current_xact_id_if_assigned() IS NOT NULL THEN 'transaction' END,
  CASE WHEN current_setting('work_mem') = '77kB' THEN 'setting' END,
  (SELECT 'temporary table' FROM pg_class WHERE relname = 'mine' AND pg_table_is_visible(oid)),
  (SELECT 'cursor' FROM pg_cursors WHERE name <> '' LIMIT 1),
  (SELECT 'statement' FROM pg_prepared_statements WHERE name = 'mine'),
  (SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() LIMIT 1),
  (SELECT 'listens' FROM pg_listening_channels() LIMIT 1),
  'clean')`;

describe("the next client finds a server clean whose last one left", () => {
  const cases = Object.keys(departures).flatMap((what) =>
    ["closing its socket", "resetting its connection"].map((way) => [what, way] as const),
  );

  test.each(cases)("%s, by %s", async (what, way) => {
    const leaver = await newClient();
    await departures[what]?.(leaver);
    ways[way]?.(leaver);
    const next = await newClient();
    expect(await next.value(traces)).toBe("clean");
    expect(await next.simple("UPDATE counted SET n = n + 1")).toEqual(["C UPDATE 1", "Z I"]);
    expect(Number(await next.value("SELECT n FROM counted"))).toBeGreaterThan(0);
    expect(await next.value("SELECT count(*) FROM copied")).toBe("0");
  });

  test("with a statement at work in a transaction: it is stopped after RESET_TIMEOUT_MS, and its locks are gone", async () => {
    const leaver = await newClient();
    await leaver.simple("BEGIN");
    await leaver.simple("UPDATE counted SET n = -1000");
    leaver.send(frontend.query("SELECT pg_sleep(600) -- left"));
    await runs("-- left");
    leaver.destroy();
    const next = await newClient();
    expect(await next.simple("UPDATE counted SET n = n + 1")).toEqual(["C UPDATE 1", "Z I"]);
    expect(await running("-- left")).toBe(0);
  });

  test("and what it asked for before it said goodbye is carried out", async () => {
    const before = Number(await onLeader("SELECT n FROM counted"));
    const leaver = await newClient();
    leaver.send(frontend.query("UPDATE counted SET n = n + 1 FROM pg_sleep(0.5)"), frontend.terminate());
    leaver.socket.end();
    await waitFor(async () => (await onLeader("SELECT n FROM counted")) === before + 1, {
      timeoutMs: 30_000,
      what: "it is carried out",
    });
  });
});

describe("a cancel", () => {
  const CANCELED = ["E ERROR 57014", "Z I"];

  test("of a statement that waits ends it unexecuted, and the session lives on", async () => {
    const holder = await newClient();
    await holder.simple("BEGIN");
    const { client, key } = await keyed();
    const answer = client.simple("UPDATE counted SET n = n + 100");
    await waiting(1);
    await cancel(key);
    expect(await answer).toEqual(CANCELED);
    const before = await holder.value("SELECT n FROM counted");
    await holder.simple("COMMIT");
    expect(await client.value("SELECT n FROM counted")).toBe(before);
  });

  test("while nothing runs hits nothing, neither then nor later", async () => {
    const { client, key } = await keyed();
    await client.simple("SELECT 1");
    await cancel(key);
    expect(await client.simple("SELECT 2 FROM pg_sleep(0.1)")).toEqual(["T", "D 2", "C SELECT 1", "Z I"]);
    await client.simple("BEGIN");
    await cancel(key);
    expect(await client.simple("SELECT 3 FROM pg_sleep(0.1)")).toEqual(["T", "D 3", "C SELECT 1", "Z T"]);
    await client.simple("COMMIT");
  });

  // PostgreSQL signals a backend twice for each request, the process and its group: of what it has been sent already, the
  // second signal may hit the next statement. What is sent afterwards is pgsteer's to protect.
  test("in a pipeline ends the statement at work; what was sent before is untouched, what is sent afterwards is whole", async () => {
    const answered = (name: string) => ["1", "2", "T", `D ${name}`, "C SELECT 1", "Z I"];
    const { client, key } = await keyed();
    client.send(
      frontend.extended("SELECT 'one'"),
      frontend.extended("SELECT 'two' FROM pg_sleep(600)"),
      frontend.extended("SELECT 'three' FROM pg_sleep(0.1)"),
    );
    expect(outline(await client.untilReady())).toEqual(answered("one"));
    await runs("two");
    const taken = cancel(key);
    expect(outline(await client.untilReady()).slice(-2)).toEqual(CANCELED);
    const third = outline(await client.untilReady());
    if (third.includes("D three")) expect(third).toEqual(answered("three"));
    else expect(third.slice(-2)).toEqual(CANCELED);
    expect(await client.extended("SELECT 'four' FROM pg_sleep(0.1)")).toEqual(answered("four"));
    await taken;
  });

  test.each([
    ["in transaction mode", "write", false],
    ["in transaction mode, inside a transaction", "write", true],
    ["in session mode", "auto", false],
    ["in session mode, inside a transaction", "auto", true],
  ] as const)(
    "leaves alone what is sent upon the answer to the canceled statement, %s",
    async (_mode, route, inside) => {
      const { client, key } = await keyed({}, pgsteer.ports[route]);
      for (let round = 0; round < 20; round += 1) {
        const protocol = round % 2 === 0 ? "simple" : "extended";
        if (inside) await client.simple("BEGIN; SAVEPOINT before");
        const canceled = client[protocol](`SELECT pg_sleep(600) -- round ${round}.`);
        await runs(`-- round ${round}.`);
        const taken = cancel(key);
        expect((await canceled).slice(-2)).toEqual(["E ERROR 57014", inside ? "Z E" : "Z I"]);
        if (inside) expect(await client.simple("ROLLBACK TO before")).toEqual(["C ROLLBACK", "Z T"]);
        const next = await client[protocol](`SELECT ${round} FROM pg_sleep(0.01)`);
        expect(next.slice(-4)).toEqual(["T", `D ${round}`, "C SELECT 1", inside ? "Z T" : "Z I"]);
        if (inside) expect(await client.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
        await taken;
      }
    },
  );

  test("in COPY IN ends the copy", async () => {
    const { client, key } = await keyed();
    client.send(frontend.query("COPY copied FROM STDIN"));
    expect((await client.next())?.type).toBe("G");
    client.send(frontend.copyData(Buffer.from("never\n")));
    await cancel(key);
    client.send(frontend.copyData(Buffer.from("never\n")), frontend.copyDone());
    expect(outline(await client.untilReady())).toEqual(CANCELED);
    expect(await client.value("SELECT count(*) FROM copied")).toBe("0");
  });

  test("in COPY OUT ends the copy", async () => {
    const { client, key } = await keyed();
    client.send(frontend.query("COPY (SELECT n, pg_sleep(0.05) FROM generate_series(1, 1000) n) TO STDOUT"));
    await runs("COPY");
    await cancel(key);
    expect(outline(await client.untilReady()).slice(-2)).toEqual(CANCELED);
    expect(await client.value("SELECT 1")).toBe("1");
  });

  test("by the key of a client that has left hits nobody, the one that has its server now included", async () => {
    const { client, key } = await keyed();
    await client.simple("SELECT 1");
    client.destroy();
    await waitFor(async () => (await inState("idle")) === 0, { timeoutMs: 30_000, what: "it has left" });
    const next = await newClient();
    const answer = next.simple("SELECT 'undisturbed' FROM pg_sleep(0.5)");
    await runs("undisturbed");
    await cancel(key);
    expect(await answer).toEqual(["T", "D undisturbed", "C SELECT 1", "Z I"]);
  });
});

describe("cancels at any moment, of clients that share a server", () => {
  /** A span of real time, for what overlaps what. */
  interface Span {
    readonly from: number;
    to: number;
  }

  const statements = [
    (mark: string) => `SELECT '${mark}' FROM pg_sleep(0.003)`,
    (mark: string) => `SELECT '${mark}'`,
    // Each has settings of its own, and makes more: those that are brought about, and asked for, are never hit.
    (mark: string) => `SET application_name = '${mark}'`,
    (mark: string) => `SELECT '${mark}', set_config('work_mem', '70kB', false)`,
  ];

  /** A generator of numbers below 1 that is the same each time. */
  function random(seed: number): () => number {
    let state = seed;
    return () => {
      state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
      return state / 4_294_967_296;
    };
  }

  test.each([1, 2, 3])("hit their own client's statement, or nothing (%i)", async (seed) => {
    const clients = await Promise.all(
      Array.from({ length: 5 }, (_each, index) =>
        // With another role, settings are brought about before the statement is sent at all.
        keyed({ work_mem: `${100 + index}kB`, search_path: `s${index}`, ...(index === 0 ? { role: "helper" } : {}) }),
      ),
    );
    const spans: Span[][] = clients.map(() => []);
    let hits = 0;
    let over = false;
    const work = clients.map(async ({ client }, index) => {
      const next = random(seed * 100 + index);
      for (let round = 0; round < 60; round += 1) {
        const mark = `c${index} r${round}`;
        const from = performance.now();
        const seen = await client.simple(statements[Math.floor(next() * statements.length)]?.(mark) ?? "");
        const to = performance.now();
        expect(seen.at(-1), `${mark}: ${seen.join(", ")}`).toBe("Z I");
        if (!seen.includes("E ERROR 57014")) {
          expect(seen.filter((each) => each.startsWith("E "))).toEqual([]);
          expect(seen.some((each) => each === `D ${mark}` || each === "C SET")).toBe(true);
          continue;
        }
        hits += 1;
        // Whoever was hit had asked for it, and the request was not over before the statement began.
        const asked = spans[index]?.some((span) => span.from <= to && span.to >= from);
        expect(asked, `${mark} was cancelled by somebody else`).toBe(true);
      }
    });
    const cancelling = (async () => {
      const next = random(seed);
      while (!over) {
        const index = Math.floor(next() * clients.length);
        const span: Span = { from: performance.now(), to: Number.POSITIVE_INFINITY };
        spans[index]?.push(span);
        const done = cancel(clients[index]?.key ?? Buffer.alloc(0)).then(() => {
          span.to = performance.now();
        });
        if (next() < 0.5) await done;
        else await Promise.race([done, sleep(next() * 5)]);
      }
    })();
    await Promise.all(work).finally(() => {
      over = true;
    });
    await cancelling;
    expect(hits).toBeGreaterThan(0);
  });
});
