// How long a client may take, how long it keeps a server, and by which number it is known: time limits, statement mode, pids.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { errorFields, frontend, outline, RawClient, type RawMessage, startup } from "../support/raw-client.ts";
import { type Login, queryOnce } from "../support/sql.ts";
import { sleep, waitFor } from "../support/time.ts";

let cluster: Cluster;
/** In a hurry: every time limit is set. */
let hasty: Pgsteer;
/** With a listener for each mode, no time limits, and one server for each pool. */
let patient: Pgsteer;
const ports = { session: 0, statement: 0 };
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  const leader = await cluster.requireLeader();
  await queryOnce(cluster.login(leader, APPLICATION), "CREATE TABLE counted (n int); INSERT INTO counted VALUES (0)");
  ports.session = await freePort();
  ports.statement = await freePort();
  patient = await startPgsteer(cluster, {
    name: "patient",
    ready: "sql",
    configure: ({ listeners, pool }) => {
      pool["default_pool_size"] = 2;
      for (const mode of ["session", "statement"] as const) {
        listeners.push({ name: mode, address: "127.0.0.1", port: ports[mode], route: "write", pool_mode: mode });
      }
    },
  });
  hasty = await startPgsteer(cluster, {
    name: "hasty",
    ready: "sql",
    configure: ({ pool }) => {
      pool["default_pool_size"] = 1;
      pool["query_timeout"] = "2s";
      pool["idle_transaction_timeout"] = "2s";
      pool["transaction_timeout"] = "4s";
      pool["client_idle_timeout"] = "4s";
    },
  });
});

afterEach(() => {
  for (const client of opened.splice(0)) client.destroy();
});

afterAll(async () => {
  await cluster?.remove();
});

async function client(login: Login): Promise<RawClient> {
  const found = await RawClient.login(login);
  opened.push(found);
  return found;
}

/** Code and message of the error with which the stream ends. */
async function lastWords(of: RawClient): Promise<(string | undefined)[]> {
  const seen = await of.untilEnd();
  expect(seen.at(-1)).toBe(null);
  const { V, C, M } = errorFields(seen.at(-2)?.body ?? Buffer.alloc(0));
  return [V, C, M];
}

const count = async (text: string): Promise<number> => {
  const { rows } = await cluster.sql(await cluster.requireLeader(), `SELECT count(*)::int AS n FROM ${text}`);
  return Number(rows[0]?.["n"]);
};

describe("a client that takes longer than", () => {
  test("query_timeout is disconnected, and its query is stopped at once", async () => {
    const slow = await client(hasty.login("write"));
    slow.send(frontend.query("UPDATE counted SET n = n + 1 FROM pg_sleep(60) -- too slow"));
    expect(await lastWords(slow)).toEqual(["FATAL", "57014", "terminating connection due to query_timeout"]);
    const running = "pg_stat_activity WHERE state = 'active' AND query LIKE '%-- too slow' AND pid <> pg_backend_pid()";
    await waitFor(async () => (await count(running)) === 0, { timeoutMs: 30_000, what: "the query has stopped" });
    const next = await client(hasty.login("write"));
    expect(await next.simple("UPDATE counted SET n = n + 1")).toEqual(["C UPDATE 1", "Z I"]);
  });

  test("idle_transaction_timeout is disconnected, and its server is rolled back", async () => {
    const sleepy = await client(hasty.login("write"));
    await sleepy.simple("BEGIN");
    const pid = await sleepy.value("SELECT pg_backend_pid()");
    await sleepy.simple("UPDATE counted SET n = -1000");
    expect(await lastWords(sleepy)).toEqual([
      "FATAL",
      "25P03",
      "terminating connection due to idle_transaction_timeout",
    ]);
    const next = await client(hasty.login("write"));
    expect(await next.value("SELECT pg_backend_pid()")).toBe(pid);
    expect(Number(await next.value("SELECT n FROM counted"))).toBeGreaterThanOrEqual(0);
  });

  test("transaction_timeout is disconnected, however busy it is", async () => {
    const busy = await client(hasty.login("write"));
    await busy.simple("BEGIN");
    let seen: (RawMessage | null)[] = [];
    while (seen.at(-1) !== null) {
      busy.send(frontend.query("SELECT pg_sleep(0.05)"));
      seen = await busy.untilReady();
    }
    const { V, C, M } = errorFields(seen.at(-2)?.body ?? Buffer.alloc(0));
    expect([V, C, M]).toEqual(["FATAL", "25P04", "terminating connection due to transaction_timeout"]);
  });

  test("client_idle_timeout is disconnected, and one that works is not", async () => {
    const [idle, working] = [await client(hasty.login("write")), await client(hasty.login("write"))];
    const end = lastWords(idle);
    let over = false;
    const gone = end.finally(() => {
      over = true;
    });
    while (!over) {
      expect(await working.value("SELECT 1")).toBe("1");
      await sleep(50);
    }
    expect(await gone).toEqual(["FATAL", "57P01", "terminating connection due to client_idle_timeout"]);
    expect(await working.value("SELECT 2")).toBe("2");
  });
});

describe("in statement mode", () => {
  const login = () => ({ ...patient.login("write"), port: ports.statement });

  test("clients share servers between statements, by either protocol, prepared ones included", async () => {
    const clients = await Promise.all(Array.from({ length: 6 }, () => client(login())));
    for (const each of clients) await each.simple("SELECT 1");
    for (const [index, each] of clients.entries()) {
      each.send(frontend.parse(`SELECT ${index}`, "own"), frontend.sync());
      expect(outline(await each.untilReady())).toEqual(["1", "Z I"]);
    }
    for (const [index, each] of clients.entries()) {
      each.send(frontend.bind("own"), frontend.execute(), frontend.sync());
      expect(outline(await each.untilReady())).toEqual(["2", `D ${index}`, "C SELECT 1", "Z I"]);
    }
    const pids = await Promise.all(clients.map((each) => each.value("SELECT pg_backend_pid() FROM pg_sleep(0.01)")));
    expect(new Set(pids).size).toBeLessThanOrEqual(2);
  });

  test.each([
    ["simple", frontend.query("BEGIN"), []],
    ["extended", frontend.extended("BEGIN"), ["1", "2", "n"]],
  ])("a transaction block is refused, and the connection closed (%s protocol)", async (_name, begin, before) => {
    const opener = await client(login());
    opener.send(begin);
    const seen = await opener.untilEnd();
    expect(outline(seen)).toEqual([...before, "C BEGIN", "E FATAL 08P01", "EOF"]);
    const { M } = errorFields(seen.at(-2)?.body ?? Buffer.alloc(0));
    expect(M).toBe("transaction blocks not allowed in statement pooling mode");
    const next = await client(login());
    expect(await next.simple("SELECT pg_current_xact_id_if_assigned()")).toEqual(["T", "D null", "C SELECT 1", "Z I"]);
  });

  test("several statements in one query are one, even where they open and close a transaction", async () => {
    const one = await client(login());
    const sql = "BEGIN; UPDATE counted SET n = n + 1; COMMIT";
    expect(await one.simple(sql)).toEqual(["C BEGIN", "C UPDATE 1", "C COMMIT", "Z I"]);
  });
});

describe("the pid that a client is told", () => {
  async function told(login: Login): Promise<{ pid: number; client: RawClient }> {
    const found = await RawClient.open(login.port);
    opened.push(found);
    found.send(startup({ user: login.user, database: login.database }));
    const seen = await found.authenticate(login.user, login.password);
    const key = seen.find((each) => each?.type === "K");
    return { pid: key?.body.readInt32BE(0) ?? 0, client: found };
  }

  test("is its server's in session mode, from the login on", async () => {
    const login = { ...patient.login("write"), port: ports.session };
    const { pid, client: session } = await told(login);
    expect(await count(`pg_stat_activity WHERE pid = ${pid} AND usename = 'app'`)).toBe(1);
    expect(await session.value("SELECT pg_backend_pid()")).toBe(`${pid}`);
    await session.simple("LISTEN news");
    session.send(frontend.query("NOTIFY news"));
    const heard = (await session.untilReady()).find((each) => each?.type === "A");
    expect(heard?.body.readInt32BE(0)).toBe(pid);
    const leader = await cluster.requireLeader();
    await cluster.sql(leader, "SELECT pg_terminate_backend($1)", [pid]);
    expect(await lastWords(session)).toEqual(["FATAL", "57P01", "terminating connection due to administrator command"]);
  });

  test("is nobody's otherwise, and SQL takes it", async () => {
    const { pid, client: one } = await told(patient.login("write"));
    expect(await one.value(`SELECT ${pid}::int4 > 4194304`)).toBe("t");
    expect(await one.value(`SELECT pg_terminate_backend(${pid})`)).toBe("f");
  });

  test("in session mode goes to the next client with the server, not with the secret", async () => {
    const login = { ...patient.login("write"), port: ports.session };
    const first = await told(login);
    expect(await first.client.simple("SET work_mem = '77kB'")).toEqual(["C SET", "Z I"]);
    first.client.send(frontend.terminate());
    expect(outline(await first.client.untilEnd())).toEqual(["EOF"]);
    const later = await waitFor(
      async () => {
        const next = await told(login);
        return next.pid === first.pid ? next.client : null;
      },
      { timeoutMs: 30_000, what: "the server is lent again" },
    );
    expect(await later.value("SHOW work_mem")).not.toBe("77kB");
  });

  test("in session mode is a server's that has nothing of those who shared it before", async () => {
    const sharer = await client(patient.login("write"));
    sharer.send(frontend.parse("SELECT 'shared'", "shared"), frontend.sync());
    expect(outline(await sharer.untilReady())).toEqual(["1", "Z I"]);
    const login = { ...patient.login("write"), port: ports.session };
    for (const session of [await told(login), await told(login)]) {
      expect(await session.client.value("SELECT count(*) FROM pg_prepared_statements")).toBe("0");
    }
  });

  test("counts as a place in the pool: a session beyond it waits at its login", async () => {
    const login = { ...patient.login("write"), port: ports.session };
    const held = [await told(login), await told(login)];
    let there = false;
    const third = told(login).finally(() => {
      there = true;
    });
    await sleep(100);
    expect(there).toBe(false);
    held[0]?.client.destroy();
    expect(await (await third).client.value("SELECT 3")).toBe("3");
  });
});

describe("a session that waits at its login", () => {
  const login = () => ({ ...patient.login("write"), port: ports.session });

  /** Two sessions that have all servers, and a third that has proved who it is. */
  async function full(): Promise<{ holders: RawClient[]; third: RawClient; answer: Promise<(RawMessage | null)[]> }> {
    const holders = [await client(login()), await client(login())];
    const third = await RawClient.open(ports.session);
    opened.push(third);
    third.send(startup({ user: APPLICATION.user, database: APPLICATION.database }));
    const answer = third.authenticate(APPLICATION.user, APPLICATION.password);
    await waitFor(async () => (await waiting()) === 1, { timeoutMs: 30_000, intervalMs: 10, what: "it waits" });
    return { holders, third, answer };
  }

  /** Clients in the queues of patient's pools. */
  async function waiting(): Promise<number> {
    const metrics = await (await fetch(`${patient.httpUrl}/metrics`)).text();
    const counts = [...metrics.matchAll(/^pgsteer_waiting_clients\{.*\} (\d+)$/gm)];
    return counts.reduce((sum, match) => sum + Number(match[1]), 0);
  }

  test.each(["destroy", "resetAndDestroy"] as const)("and gives up is forgotten (%s)", async (how) => {
    const { third, answer } = await full();
    third.socket[how]();
    await waitFor(async () => (await waiting()) === 0, { timeoutMs: 30_000, what: "nobody waits" });
    expect((await answer).at(-1)).toBe(null);
  });

  test("and has sent all that it wants to say is answered when its turn comes", async () => {
    const { holders, third, answer } = await full();
    third.send(frontend.query("SELECT 'early'"));
    third.socket.end();
    await sleep(500);
    expect(await waiting()).toBe(1);
    holders[0]?.destroy();
    expect(outline(await answer).at(-1)).toBe("Z I");
    expect(outline(await third.untilEnd())).toEqual(["T", "D early", "C SELECT 1", "Z I", "EOF"]);
  });
});

describe("a session that an administrator ends", () => {
  const login = () => patient.login("write");
  const words = ["FATAL", "57P01", "terminating connection due to administrator command"];

  async function terminate(pid: string): Promise<void> {
    await cluster.sql(await cluster.requireLeader(), "SELECT pg_terminate_backend($1)", [Number(pid)]);
  }

  test.each([
    ["inside a transaction", "SELECT 1"],
    ["inside a failed transaction", "SELECT 1/0"],
  ])("%s hears it word for word", async (_where, statement) => {
    const one = await client(login());
    await one.simple("BEGIN");
    const pid = await one.value("SELECT pg_backend_pid()");
    await one.simple(statement);
    await terminate(pid);
    expect(await lastWords(one)).toEqual(words);
  });

  test("while a statement runs hears it word for word", async () => {
    const one = await client(login());
    await one.simple("BEGIN");
    const pid = await one.value("SELECT pg_backend_pid()");
    one.send(frontend.query("SELECT pg_sleep(60) -- to be ended"));
    const active = `pg_stat_activity WHERE pid = ${pid} AND state = 'active' AND query LIKE '%-- to be ended'`;
    await waitFor(async () => (await count(active)) === 1, { timeoutMs: 30_000, what: "it runs" });
    await terminate(pid);
    expect(await lastWords(one)).toEqual(words);
    expect(await (await client(login())).value("SELECT 1")).toBe("1");
  });
});
