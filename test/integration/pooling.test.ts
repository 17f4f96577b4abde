// Many clients on few servers: who waits, for how long, what follows a client from server to server, what a client leaves
// behind that is gone, and which member a read goes to.

import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { untilClients } from "../support/activity.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { Companion } from "../support/companion.ts";
import { type Pgsteer, type PgsteerConfiguration, startPgsteer } from "../support/pgsteer.ts";
import { signal } from "../support/procfs.ts";
import { errorFields, frontend, outline, RawClient } from "../support/raw-client.ts";
import { type Login, queryOnce } from "../support/sql.ts";
import { now, sleep, waitFor } from "../support/time.ts";

const MEGABYTE = 1024 * 1024;

let cluster: Cluster;
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster();
  await queryOnce(
    cluster.login(await cluster.requireLeader(), APPLICATION),
    "CREATE TABLE counted (id int PRIMARY KEY, n int NOT NULL); INSERT INTO counted VALUES (1, 0); CREATE TABLE copied (line text)",
  );
  await cluster.waitHealthy();
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

/** Connections of the application on the leader. */
async function serversOnLeader(): Promise<number> {
  const statement =
    "SELECT count(*)::int AS n FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'";
  const { rows } = await cluster.sql(await cluster.requireLeader(), statement);
  return Number(rows[0]?.["n"]);
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

describe("with two servers", () => {
  const pgsteer = steered("two", ({ pool }) => {
    pool["default_pool_size"] = 2;
    pool["query_wait_timeout"] = "5s";
  });

  test("twenty clients are all served, by never more than two", async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => client(pgsteer().login("write"))));
    let most = 0;
    let watching = true;
    const watch = (async () => {
      while (watching) most = Math.max(most, await serversOnLeader());
    })();
    const work = clients.map(async (each, index) => {
      for (let round = 0; round < 10; round += 1) {
        expect(await each.simple("BEGIN")).toEqual(["C BEGIN", "Z T"]);
        expect(await each.value(`SELECT ${index * 100 + round} FROM pg_sleep(0.002)`)).toBe(`${index * 100 + round}`);
        expect(await each.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
      }
    });
    await Promise.all(work);
    watching = false;
    await watch;
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(2);
  });

  test("a client that waits too long is told so, and the others go on", async () => {
    const [first, second, third] = await Promise.all([1, 2, 3].map(() => client(pgsteer().login("write"))));
    if (first === undefined || second === undefined || third === undefined) throw new Error("three clients");
    await first.simple("BEGIN");
    await second.simple("BEGIN");
    third.send(frontend.query("SELECT 1"));
    const seen = await third.untilEnd();
    expect(outline(seen)).toEqual(["E FATAL 57P03", "EOF"]);
    const { M, D, H } = errorFields(seen[0]?.body ?? Buffer.alloc(0));
    expect([M, D, H]).toEqual([
      "query_wait_timeout",
      "All servers of the pool are in use.",
      "The statement was not executed.",
    ]);
    expect(await first.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
    expect(await second.simple("COMMIT")).toEqual(["C COMMIT", "Z I"]);
  });
});

describe("with one server", () => {
  const pgsteer = steered("one", ({ pool }) => {
    pool["default_pool_size"] = 1;
    pool["wait_queue_max"] = 3;
    pool["query_wait_timeout"] = "5s";
  });
  const login = () => pgsteer().login("write");

  /** The next client that gets the server finds it clean, and it is the table's row that shows what was committed. */
  async function nextFindsItClean(): Promise<void> {
    const next = await client(login());
    expect(await next.simple("SELECT pg_current_xact_id_if_assigned()")).toEqual(["T", "D null", "C SELECT 1", "Z I"]);
    expect(await next.simple("UPDATE counted SET n = n + 1 WHERE id = 1")).toEqual(["C UPDATE 1", "Z I"]);
    next.destroy();
  }

  test("those who wait are served in the order in which they came", async () => {
    const holder = await client(login());
    const waiters = await Promise.all([0, 1, 2].map(() => client(login())));
    await holder.simple("BEGIN");
    const order: number[] = [];
    const served: Promise<unknown>[] = [];
    for (const [index, waiter] of waiters.entries()) {
      served.push(waiter.simple("SELECT pg_sleep(0.01)").then(() => order.push(index)));
      await untilClients(pgsteer(), "write", "waiting", index + 1);
    }
    await holder.simple("COMMIT");
    await Promise.all(served);
    expect(order).toEqual([0, 1, 2]);
  });

  test("no more than wait_queue_max may wait", async () => {
    const holder = await client(login());
    const waiters = await Promise.all([0, 1, 2].map(() => client(login())));
    const toomany = await client(login());
    await holder.simple("BEGIN");
    const answers = waiters.map((waiter) => waiter.simple("SELECT 1"));
    await untilClients(pgsteer(), "write", "waiting", 3);
    toomany.send(frontend.query("SELECT 1"));
    const seen = await toomany.untilEnd();
    expect(outline(seen)).toEqual(["E FATAL 53300", "EOF"]);
    expect(errorFields(seen[0]?.body ?? Buffer.alloc(0))["M"]).toBe("sorry, too many clients are waiting already");
    await holder.simple("COMMIT");
    expect(await Promise.all(answers)).toEqual(waiters.map(() => ["T", "D 1", "C SELECT 1", "Z I"]));
  });

  test("a waiter that leaves is in nobody's way", async () => {
    const holder = await client(login());
    const leaver = await client(login());
    const stayer = await client(login());
    await holder.simple("BEGIN");
    leaver.send(frontend.query("SELECT 1"));
    await untilClients(pgsteer(), "write", "waiting", 1);
    const answer = stayer.simple("SELECT 2");
    leaver.socket.resetAndDestroy();
    await sleep(20);
    await holder.simple("COMMIT");
    expect(await answer).toEqual(["T", "D 2", "C SELECT 1", "Z I"]);
  });

  const departures: Readonly<Record<string, (leaver: RawClient) => Promise<void>>> = {
    "inside a transaction": async (leaver) => {
      await leaver.simple("BEGIN");
      expect(await leaver.simple("UPDATE counted SET n = -1000 WHERE id = 1")).toEqual(["C UPDATE 1", "Z T"]);
    },
    "inside a failed transaction": async (leaver) => {
      await leaver.simple("BEGIN");
      await leaver.simple("UPDATE counted SET n = -1000 WHERE id = 1");
      expect(await leaver.simple("SELECT 1/0")).toEqual(["E ERROR 22012", "Z E"]);
    },
    "while a statement runs": async (leaver) => {
      await leaver.simple("BEGIN");
      await leaver.simple("UPDATE counted SET n = -1000 WHERE id = 1");
      // PostgreSQL notices that nobody is there when the statement ends.
      leaver.send(frontend.query("SELECT pg_sleep(1)"));
      await sleep(50);
    },
    "in the middle of COPY FROM": async (leaver) => {
      leaver.send(frontend.query("COPY copied FROM STDIN"));
      expect((await leaver.next())?.type).toBe("G");
      leaver.send(frontend.copyData(Buffer.from("never\nnever\nnev")));
      await sleep(20);
    },
    "in the middle of a message of COPY FROM": async (leaver) => {
      leaver.send(frontend.query("COPY copied FROM STDIN"));
      expect((await leaver.next())?.type).toBe("G");
      leaver.send(frontend.copyData(Buffer.from("never\nnever\n")).subarray(0, 9));
      await sleep(20);
    },
    "in the middle of COPY TO": async (leaver) => {
      leaver.send(frontend.query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"));
      expect((await leaver.next())?.type).toBe("H");
    },
    "in the middle of a pipeline": async (leaver) => {
      const one = "UPDATE counted SET n = -1000 WHERE id = 1";
      leaver.send(frontend.parse(one), frontend.bind(), frontend.execute(), frontend.flush());
      await leaver.next();
    },
    "with a pipeline unanswered": async (leaver) => {
      const many = Array.from({ length: 50 }, () => frontend.extended("SELECT pg_sleep(0.01)"));
      leaver.send(...many);
    },
    "in the middle of a Query": async (leaver) => {
      leaver.send(frontend.query("UPDATE counted SET n = -1000 WHERE id = 1").subarray(0, 20));
      await sleep(20);
    },
    "in the middle of a header": async (leaver) => {
      leaver.send(frontend.query("UPDATE counted SET n = -1000 WHERE id = 1").subarray(0, 3));
      await sleep(20);
    },
    "in the middle of a Parse inside a transaction": async (leaver) => {
      await leaver.simple("BEGIN");
      await leaver.simple("UPDATE counted SET n = -1000 WHERE id = 1");
      leaver.send(frontend.parse("UPDATE counted SET n = -1000 WHERE id = 1").subarray(0, 20));
      await sleep(20);
    },
  };

  test.each(Object.keys(departures))("a client that vanishes %s leaves nothing behind", async (name) => {
    const leaver = await client(login());
    await departures[name]?.(leaver);
    leaver.socket.resetAndDestroy();
    await nextFindsItClean();
    const after = await client(login());
    expect(Number(await after.value("SELECT n FROM counted WHERE id = 1"))).toBeGreaterThan(0);
    expect(await after.value("SELECT count(*) FROM copied")).toBe("0");
  });
});

describe("servers grow old", () => {
  const pgsteer = steered("aging", ({ pool }) => {
    pool["server_idle_timeout"] = "1s";
    pool["server_lifetime"] = "2s";
  });

  test("and are closed by server_idle_timeout when nobody needs them", async () => {
    const one = await client(pgsteer().login("write"));
    await one.simple("SELECT 1");
    await waitFor(async () => (await serversOnLeader()) === 0, { timeoutMs: 30_000, what: "the server is closed" });
    expect(await one.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
  });

  test("and by server_lifetime while they are in use, between two transactions", async () => {
    const one = await client(pgsteer().login("write"));
    const pid = await one.value("SELECT pg_backend_pid()");
    await one.simple("BEGIN");
    const began = await one.value("SELECT pg_backend_pid()");
    const until = now() + 2500;
    while (now() < until) {
      expect(await one.value("SELECT pg_backend_pid()")).toBe(began);
      await sleep(20);
    }
    await one.simple("COMMIT");
    const renewed = async () => (await one.value("SELECT pg_backend_pid()")) !== pid;
    await waitFor(renewed, { timeoutMs: 30_000, intervalMs: 20, what: "another server serves" });
  });
});

describe("a server that ends a session", () => {
  const pgsteer = steered("ending", ({ listeners }) => {
    for (const listener of listeners) if (listener["name"] === "auto") listener["pool_mode"] = "session";
  });

  test("has its last words passed on as they are", async () => {
    const fatal = async (setup: string) => {
      const one = await client(pgsteer().login("auto"));
      await one.simple(setup);
      const seen = await one.untilEnd();
      const { V, C, M } = errorFields(seen[0]?.body ?? Buffer.alloc(0));
      return [outline(seen).at(-1), V, C, M];
    };
    expect(await fatal("SET idle_session_timeout = '100ms'")).toEqual([
      "EOF",
      "FATAL",
      "57P05",
      "terminating connection due to idle-session timeout",
    ]);
    expect(await fatal("SET idle_in_transaction_session_timeout = '100ms'; BEGIN")).toEqual([
      "EOF",
      "FATAL",
      "25P03",
      "terminating connection due to idle-in-transaction timeout",
    ]);
  });

  test("by an administrator's hand disturbs nobody but the client that had it", async () => {
    const companion = new Companion(pgsteer().login("write"));
    const leader = await cluster.requireLeader();
    for (let count = 0; count < 5; count += 1) {
      const inSession = await client(pgsteer().login("auto"));
      const inTransaction = await client(pgsteer().login("write"));
      await inTransaction.simple("BEGIN");
      for (const each of [inSession, inTransaction]) {
        const pid = await each.value("SELECT pg_backend_pid()");
        await cluster.sql(leader, "SELECT pg_terminate_backend($1)", [Number(pid)]);
      }
      expect(outline(await inSession.untilEnd())).toEqual(["E FATAL 57P01", "EOF"]);
      expect(outline(await inTransaction.untilEnd())).toEqual(["E FATAL 57P01", "EOF"]);
      await companion.goesOn();
    }
    await companion.stop();
  });
});

describe("a slow", () => {
  const pgsteer = steered("slow", () => {});

  function residentBytes(): number {
    const status = readFileSync(`/proc/${pgsteer().pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
  }

  /** Most memory beyond `before`, while `meanwhile` has not ended. */
  async function growth(before: number, ms: number): Promise<number> {
    let most = 0;
    const until = now() + ms;
    while (now() < until) {
      most = Math.max(most, residentBytes() - before);
      await sleep(20);
    }
    return most;
  }

  test("reader of 200 MB pauses its server, and gets every byte in the end", async () => {
    const reader = await client(pgsteer().login("write"));
    const before = residentBytes();
    reader.socket.removeAllListeners("data");
    reader.socket.pause();
    reader.send(frontend.query("SELECT repeat('x', 1000000) FROM generate_series(1, 200)"));
    expect(await growth(before, 3000)).toBeLessThan(64 * MEGABYTE);
    let received = 0;
    reader.socket.on("data", (chunk: Buffer) => {
      received += chunk.length;
    });
    reader.socket.resume();
    const all = 200 * (1_000_000 + 11) + 35;
    await waitFor(() => received >= all, { timeoutMs: 30_000, what: `${all} bytes, ${received} have come` });
    await sleep(100);
    expect(received).toBeLessThan(all + 200);
  });

  test("reader gets its own answers, whatever its server has said to others meanwhile", async () => {
    const [reader, other] = [await client(pgsteer().login("write")), await client(pgsteer().login("write"))];
    reader.socket.pause();
    // More than the kernel keeps, one answer at a time: what is not sent yet waits in the router while its server serves on.
    for (let count = 0; count < 1500; count += 1) {
      reader.send(frontend.query(`SELECT ${count}, repeat('${count}.', 2000)`));
      expect(await other.value(`SELECT repeat('y${count}', 1000)`)).toBe(`y${count}`.repeat(1000));
    }
    reader.socket.resume();
    for (let count = 0; count < 1500; count += 1) {
      const row = (await reader.untilReady()).find((each) => each?.type === "D");
      expect(row?.body.toString("latin1").endsWith(`${count}.`.repeat(2000)), `answer ${count}`).toBe(true);
    }
  });

  test("server makes a writer of 200 MB wait", async () => {
    const writer = await client(pgsteer().login("write"));
    const pid = Number(await writer.value("SELECT pg_backend_pid()"));
    await writer.simple("BEGIN");
    expect(Number(await writer.value("SELECT pg_backend_pid()"))).toBe(pid);
    writer.send(frontend.query("COPY copied FROM STDIN"));
    expect((await writer.next())?.type).toBe("G");
    const before = residentBytes();
    signal(pid, "SIGSTOP");
    try {
      const line = frontend.copyData(Buffer.from(`${"y".repeat(99_999)}\n`));
      for (let count = 0; count < 2000; count += 1) writer.socket.write(line);
      expect(await growth(before, 2000)).toBeLessThan(64 * MEGABYTE);
      expect(writer.socket.writableLength).toBeGreaterThan(100 * MEGABYTE);
    } finally {
      signal(pid, "SIGCONT");
    }
    writer.send(frontend.copyDone());
    expect(outline(await writer.untilReady())).toEqual(["C COPY 2000", "Z T"]);
    await writer.simple("ROLLBACK");
  });
});
