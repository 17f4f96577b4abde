// Clients that lie, babble, fall silent or leave, and surroundings that are not there: each gets PostgreSQL's own answer in
// bounded time, and a well-behaved client beside them notices nothing.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Forged, ForgedServer } from "../fuzz/forged-server.ts";
import { mark } from "../fuzz/marker.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { Companion } from "../support/companion.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { cstring, errorFields, frontend, int32, message, outline, RawClient, startup } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { sleep, waitFor } from "../support/time.ts";

let cluster: Cluster;
let pgsteer: Pgsteer;
let companion: Companion;

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  pgsteer = await startPgsteer(cluster, {
    ready: "sql",
    users: { stranger: "known-here-only" },
    configure: ({ pool }) => {
      pool["client_login_timeout"] = "4s";
      pool["query_wait_timeout"] = "2s";
    },
  });
  companion = new Companion(pgsteer.login("write"));
});

afterAll(async () => {
  await companion?.stop();
  await cluster?.remove();
});

/** The error with which a login ends. */
async function refusal(login: Login, parameters: Readonly<Record<string, string>> = {}) {
  const client = await RawClient.open(login.port, login.host);
  try {
    client.send(startup({ user: login.user, database: login.database, ...parameters }));
    const seen = await client.authenticate(login.user, login.password);
    const last = seen.at(-1);
    if (last?.type !== "E") throw new Error(`no error: ${outline(seen).join(", ")}`);
    expect(await client.next()).toBe(null);
    const { V, C, M, D, H } = errorFields(last.body);
    return { severity: V, code: C, text: M, detail: D, hint: H };
  } finally {
    client.destroy();
  }
}

/** Sends bytes and reads to the end of the connection. */
async function babble(...bytes: readonly Buffer[]) {
  const client = await RawClient.open(pgsteer.ports.write);
  client.send(...bytes);
  const seen = await client.untilEnd(10_000);
  client.destroy();
  const error = seen.find((each) => each?.type === "E");
  return { outline: outline(seen), fields: error === null || error === undefined ? {} : errorFields(error.body) };
}

const violation = (text: string) => ({
  outline: ["E FATAL 08P01", "EOF"],
  fields: expect.objectContaining({ M: text }),
});

describe("a login", () => {
  afterEach(() => companion.goesOn());

  test("with a wrong password, and one of a user whom nobody knows, look the same", async () => {
    const wrong = await refusal({ ...pgsteer.login("write"), password: "wrong" });
    expect(wrong).toMatchObject({
      severity: "FATAL",
      code: "28P01",
      text: 'password authentication failed for user "app"',
    });
    const unknown = await refusal({ ...pgsteer.login("write"), user: "nobody-here" });
    expect(unknown).toEqual({ ...wrong, text: 'password authentication failed for user "nobody-here"' });
  });

  test("of a user whom only the router knows is refused with PostgreSQL's words", async () => {
    const answer = await refusal({ ...pgsteer.login("write"), user: "stranger", password: "known-here-only" });
    expect(answer).toMatchObject({ severity: "FATAL", code: "28P01" });
    expect(answer.text).toBe('password authentication failed for user "stranger"');
  });

  test("to a database that does not exist", async () => {
    const answer = await refusal({ ...pgsteer.login("write"), database: "nowhere" });
    expect(answer).toMatchObject({ severity: "FATAL", code: "3D000", text: 'database "nowhere" does not exist' });
  });

  test("with a setting that does not exist", async () => {
    const text = 'unrecognized configuration parameter "foo"';
    const first = { severity: "FATAL", code: "42704", text };
    expect(await refusal(pgsteer.login("write"), { options: "-c foo=bar" })).toMatchObject(first);
    expect(await refusal(pgsteer.login("write"), { foo: "bar" })).toMatchObject(first);
  });

  test("with a value that a setting cannot have", async () => {
    const answer = await refusal(pgsteer.login("write"), { TimeZone: "Nowhere/Else" });
    const text = 'invalid value for parameter "TimeZone": "Nowhere/Else"';
    expect(answer).toMatchObject({ severity: "FATAL", code: "22023", text });
  });

  test("with switches that are no settings", async () => {
    expect(await refusal(pgsteer.login("write"), { options: "-x" })).toMatchObject({
      severity: "FATAL",
      code: "42601",
    });
  });

  test("without a user", async () => {
    const answer = await babble(startup({ database: "app" }));
    expect(answer.outline).toEqual(["E FATAL 28000", "EOF"]);
    expect(answer.fields["M"]).toBe("no PostgreSQL user name specified in startup packet");
  });

  test("that speaks another version of the protocol", async () => {
    const answer = await babble(message("", int32(2 << 16), cstring("user"), cstring("app"), Buffer.alloc(1)));
    expect(answer.outline).toEqual(["E FATAL 0A000", "EOF"]);
    expect(answer.fields["M"]).toMatch(/^unsupported frontend protocol 2\.0/);
  });

  test("byte by byte is let in", async () => {
    const client = await RawClient.open(pgsteer.ports.write);
    for (const byte of startup({ user: APPLICATION.user, database: APPLICATION.database })) {
      client.send(Buffer.from([byte]));
      await sleep(1);
    }
    expect((await client.authenticate(APPLICATION.user, APPLICATION.password)).at(-1)?.type).toBe("Z");
    for (const byte of frontend.query("SELECT 1")) {
      client.send(Buffer.from([byte]));
      await sleep(1);
    }
    expect(outline(await client.untilReady())).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
    client.destroy();
  });
});

describe("a connection before its login", () => {
  afterEach(() => companion.goesOn());

  const wrongLength = violation("invalid length of startup packet");

  test.each([
    ["more than 10,000 bytes", startup({ user: "app", padding: "x".repeat(10_000) })],
    ["2 GB", int32(2_147_483_647)],
    ["a negative length", int32(-1)],
    ["no bytes", int32(0)],
    ["4 bytes", int32(4)],
    ["garbage", Buffer.from("\xff\xfe\xfd\xfc garbage \x00\x01", "latin1")],
  ])("with a packet of %s", async (_name, bytes) => {
    expect(await babble(bytes)).toEqual(wrongLength);
  });

  test("that speaks HTTP is told so", async () => {
    const answer = await babble(Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    expect(answer).toEqual(wrongLength);
    expect(answer.fields["D"]).toContain("HTTP");
  });

  test("whose parameters have no end", async () => {
    const answer = await babble(message("", int32(196_608), Buffer.from("user\0app")));
    expect(answer).toEqual(violation("invalid startup packet layout: expected terminator as last byte"));
  });

  test("that sends bytes in clear behind an SSLRequest", async () => {
    const request = message("", int32(80_877_103));
    const answer = await babble(request, startup({ user: "app", database: "app" }));
    expect(answer).toEqual(violation("received unencrypted data after SSLRequest"));
  });

  test("that answers with something other than a password", async () => {
    const client = await RawClient.open(pgsteer.ports.write);
    client.send(startup({ user: "app", database: "app" }));
    expect((await client.next())?.type).toBe("R");
    client.send(frontend.query("SELECT 1"));
    expect(outline(await client.untilEnd())).toEqual(["E FATAL 08P01", "EOF"]);
  });

  test.concurrent.each([
    ["nothing at all", Buffer.alloc(0)],
    ["half a length", Buffer.from([0, 0])],
    ["half a packet", startup({ user: "app", database: "app" }).subarray(0, 12)],
    ["a startup packet and no password", startup({ user: "app", database: "app" })],
  ])("that says %s is ended by client_login_timeout", async (_name, bytes) => {
    const answer = await babble(bytes);
    expect(answer.outline.slice(-2)).toEqual(["E FATAL 57014", "EOF"]);
    expect(answer.fields["M"]).toBe("canceling authentication due to timeout");
  });

  test("that leaves in the middle of a packet costs nothing", async () => {
    for (const length of [0, 1, 3, 7, 12]) {
      const client = await RawClient.open(pgsteer.ports.write);
      client.send(startup({ user: "app", database: "app" }).subarray(0, length));
      client.destroy();
    }
    const half = await RawClient.open(pgsteer.ports.write);
    half.send(startup({ user: "app", database: "app" }).subarray(0, 12));
    half.socket.end();
    expect(outline(await half.untilEnd())).toEqual(["EOF"]);
  });

  test("that names a stranger's cancel key is closed without a word", async () => {
    const answer = await babble(message("", int32(80_877_102), int32(12_345), int32(67_890)));
    expect(answer.outline).toEqual(["EOF"]);
  });
});

describe("a client that is logged in", () => {
  afterEach(() => companion.goesOn());

  const header = (type: string, length: number) => Buffer.concat([Buffer.from(type), int32(length)]);
  const cases: readonly (readonly [string, Buffer, string])[] = [
    ["a message of negative length", header("Q", -5), "invalid message length"],
    ["a message of length 3", header("Q", 3), "invalid message length"],
    ["a message of 2 GB", header("Q", 2_147_483_647), "invalid message length"],
    ["a Sync of 20,000 bytes", header("S", 20_000), "invalid message length"],
    ["a message of an unknown type", header("!", 4), "invalid frontend message type 33"],
    ["a password that nobody asked for", message("p", cstring("secret")), "invalid frontend message type 112"],
  ];

  test.each(cases)("and sends %s is ended", async (_name, bytes, text) => {
    for (const route of ["write", "auto", "read"] as const) {
      const client = await RawClient.login(pgsteer.login(route));
      client.send(bytes);
      const seen = await client.untilEnd();
      expect(outline(seen)).toEqual(["E FATAL 08P01", "EOF"]);
      expect(errorFields(seen[0]?.body ?? Buffer.alloc(0))["M"]).toBe(text);
    }
  });

  test.each(cases)("inside a transaction and sends %s is ended, its transaction rolled back", async (_name, bytes) => {
    const client = await RawClient.login(pgsteer.login("write"));
    await client.simple("BEGIN");
    const [, pid = ""] = await client.simple("SELECT pg_backend_pid()");
    client.send(bytes);
    expect(outline(await client.untilEnd())).toEqual(["E FATAL 08P01", "EOF"]);
    await notInTransaction(pid.slice(2));
  });

  test("and says Terminate inside a transaction leaves nothing open", async () => {
    const client = await RawClient.login(pgsteer.login("write"));
    await client.simple("BEGIN");
    const [, pid = ""] = await client.simple("SELECT pg_backend_pid()");
    client.send(frontend.terminate());
    expect(outline(await client.untilEnd())).toEqual(["EOF"]);
    await notInTransaction(pid.slice(2));
  });

  test("and says Terminate while a statement runs leaves nothing running for the next", async () => {
    const client = await RawClient.login(pgsteer.login("write"));
    client.send(frontend.query("SELECT pg_sleep(0.2)"), frontend.terminate());
    expect(outline(await client.untilEnd()).at(-1)).toEqual("EOF");
  });

  test("and sends a query without its end gets PostgreSQL's answer", async () => {
    for (const route of ["write", "auto"] as const) {
      const client = await RawClient.login(pgsteer.login(route));
      client.send(message("Q", Buffer.from("SELECT 1")));
      const seen = outline([await client.next()]);
      expect(seen[0]).toMatch(/^E (ERROR|FATAL) 08P01$/);
      client.destroy();
    }
  });

  test("and shuts down its sending side gets its answer first", async () => {
    const client = await RawClient.login(pgsteer.login("write"));
    client.send(frontend.query("SELECT 7 FROM pg_sleep(0.1)"));
    client.socket.end();
    expect(outline(await client.untilEnd())).toEqual(["T", "D 7", "C SELECT 1", "Z I", "EOF"]);
  });

  test("and shuts down its sending side in the middle of a message is gone, and its server free", async () => {
    for (const text of ["SELECT 7", `SELECT 7 -- ${"x".repeat(5000)}`]) {
      const client = await RawClient.login(pgsteer.login("write"));
      client.send(frontend.query(text).subarray(0, -3));
      client.socket.end();
      expect(outline(await client.untilEnd())).toEqual(["EOF"]);
    }
  });

  test("and shuts down its sending side in the middle of a COPY is gone, and its server free", async () => {
    const client = await RawClient.login(pgsteer.login("write"));
    await client.simple("CREATE TABLE IF NOT EXISTS cut_short (line text)");
    client.send(frontend.query("COPY cut_short FROM STDIN"), frontend.copyData(Buffer.from("one\n")));
    client.socket.end();
    expect(outline(await client.untilEnd()).at(-1)).toBe("EOF");
  });

  async function notInTransaction(pid: string): Promise<void> {
    const statement = "SELECT state FROM pg_stat_activity WHERE pid = $1";
    const idle = async () => {
      const { rows } = await cluster.sql("node1", statement, [Number(pid)]);
      return rows.length === 0 || rows[0]?.["state"] === "idle";
    };
    await waitFor(idle, { timeoutMs: 30_000, what: "the transaction is over" });
  }
});

describe("a server that answers twice in one breath", () => {
  let server: ForgedServer;
  let steered: Pgsteer;
  let held: (() => void)[] = [];

  beforeAll(async () => {
    // Says nothing before it is told to, and then everything twice.
    const twice = ({ socket }: Forged, messages: readonly Buffer[]) =>
      void held.push(() => socket.write(Buffer.concat([...messages, ...messages])));
    server = new ForgedServer({
      welcome: ({ socket }, messages) => socket.write(Buffer.concat([...messages])),
      answer: twice,
    });
    const port = await freePort();
    await server.listen(port);
    steered = await startPgsteer(cluster, {
      name: "forged",
      configure: ({ clusters, pool }) => {
        pool["default_pool_size"] = 1;
        const probe = clusters["demo"]?.["probe"];
        clusters["demo"] = { source: "static", static: { hosts: [`127.0.0.1:${port}`] }, probe };
      },
    });
  });

  afterAll(async () => {
    await steered?.stop();
    server?.close();
  });

  const next = (): Promise<() => void> =>
    waitFor(() => held.shift(), { timeoutMs: 30_000, intervalMs: 2, what: "a statement reaches the server" });

  test("is heard once, and the next client gets its own answer from another connection", async () => {
    const [one, other] = await Promise.all([
      RawClient.login(steered.login("write")),
      RawClient.login(steered.login("write")),
    ]);
    one.send(frontend.query(`SELECT '${mark(1, 1)}'`));
    const answerOne = await next();
    other.send(frontend.query(`SELECT '${mark(2, 1)}'`));
    await waitFor(
      async () => (await (await fetch(`${steered.httpUrl}/metrics`)).text()).includes('state="waiting"} 1'),
      {
        timeoutMs: 30_000,
        what: "the other one waits",
      },
    );
    answerOne();
    expect(outline(await one.untilReady())).toEqual(["T", `D ${mark(1, 1)}`, "C SELECT 1", "Z I"]);
    (await next())();
    expect(outline(await other.untilReady())).toEqual(["T", `D ${mark(2, 1)}`, "C SELECT 1", "Z I"]);
    held = [];
    one.destroy();
    other.destroy();
  });
});
