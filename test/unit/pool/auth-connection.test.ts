// The connection that asks for secrets: what it makes of answers, and of their absence.

import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { ScramDerivations } from "../../../src/auth/scram.ts";
import { AuthConnection, type AuthReply } from "../../../src/pool/auth-connection.ts";
import { AskedPostgres, type Reply } from "../../support/asked-postgres.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { cstring, message } from "../../support/raw-client.ts";
import { waitFor } from "../../support/time.ts";

let server: AskedPostgres;
let clock: FakeClock;
let connection: AuthConnection;

async function start(reply: (user: string) => Reply): Promise<void> {
  server = await AskedPostgres.start(reply);
  clock = new FakeClock();
  connection = new AuthConnection(clock, {
    endpoint: { member: "m", host: "127.0.0.1", port: server.port },
    user: "asker",
    database: "app",
    secret: null,
    tls: { kind: "off" },
    random: randomBytes,
    derivations: new ScramDerivations(),
  });
}

afterEach(async () => {
  connection.close("the test is over");
  await server.stop();
});

const ask = (user: string): Promise<AuthReply> =>
  new Promise((resolve) => connection.ask("SELECT $1", user, 1_000, resolve));

describe("an answer", () => {
  test.each([
    ["is a name and a secret", ["app", "secret"], { name: "app", secret: "secret" }],
    ["may have more columns", ["app", "secret", "more"], { name: "app", secret: "secret" }],
    ["may have nulls", [null, null], { name: null, secret: null }],
    ["lacks what it lacks", ["app"], { name: "app", secret: null }],
    ["is read as UTF-8", ["änne", "pässwörd"], { name: "änne", secret: "pässwörd" }],
    ["may be none", null, null],
  ] as const)("%s", async (_what, reply, row) => {
    await start(() => reply);
    expect(await ask("änne")).toEqual({ ok: true, row });
    expect(server.asked).toEqual(["änne@app"]);
  });

  test("that is an error is no answer, and the connection goes on", async () => {
    await start((user) => (user === "one" ? { error: "42501" } : [user, "secret"]));
    expect(await ask("one")).toEqual({ ok: false, reason: "it is 42501", sqlstate: "42501" });
    expect(await ask("two")).toMatchObject({ ok: true });
    expect(server.logins).toHaveLength(1);
  });

  test("of any bytes, cut off, is none", async () => {
    await start(() => "hang");
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.boolean(), async (noise, framed) => {
        const asked = server.asked.length;
        const answered = ask("app");
        await waitFor(() => server.asked.length > asked, { timeoutMs: 5_000, intervalMs: 1, what: "the question" });
        server.blurt(framed ? message("D", Buffer.from(noise)) : Buffer.from(noise));
        server.breakAll();
        expect((await answered).ok).toBe(false);
        connection.close("the next one");
      }),
      { numRuns: 100 },
    );
  });

  test("that is no part of the protocol costs the connection", async () => {
    await start(() => "hang");
    const answered = ask("app");
    await waitFor(() => server.asked.length === 1, { timeoutMs: 5_000, what: "the question" });
    server.blurt(Buffer.from("D\0\0\0\x01"));
    expect(await answered).toMatchObject({ ok: false, reason: "server does not speak the PostgreSQL protocol" });
  });

  test("to what nobody has asked is not kept for who asks next", async () => {
    await start((user) => [user, "secret"]);
    await ask("app");
    server.blurt(message("D", Buffer.from([0, 2]), Buffer.from("00000003746865000000036f6e65", "hex")));
    await waitFor(() => server.connections === 0, { timeoutMs: 5_000, what: "the connection to be closed" });
    expect(await ask("app")).toMatchObject({ ok: true, row: { name: "app" } });
    server.blurt(message("S", cstring("a"), cstring("b")));
    expect(await ask("app")).toMatchObject({ ok: true, row: { name: "app" } });
    expect(server.logins).toHaveLength(2);
  });
});

describe("no answer", () => {
  test("within the time costs the connection; the next question makes a new one", async () => {
    await start((user) => (user === "one" ? "hang" : [user, "secret"]));
    const first = ask("one");
    await waitFor(() => server.asked.length === 1, { timeoutMs: 5_000, what: "the question" });
    await clock.advance(1_000);
    expect(await first).toEqual({ ok: false, reason: "timeout expired", sqlstate: null });
    expect(await ask("two")).toMatchObject({ ok: true });
  });

  test("over a connection that had died unheard is asked for again, once", async () => {
    let breaks = 0;
    await start((user) => {
      if (user === "one") return [user, "secret"];
      breaks += 1;
      return breaks === 1 || user === "hopeless" ? "break" : [user, "secret"];
    });
    await ask("one");
    expect(await ask("two")).toMatchObject({ ok: true, row: { name: "two" } });
    expect(server.asked).toEqual(["one@app", "two@app", "two@app"]);
    expect(await ask("hopeless")).toMatchObject({ ok: false, sqlstate: null });
    expect(server.asked.filter((each) => each === "hopeless@app")).toHaveLength(2);
  });

  test("comes from a server that does not let us in, in its own words", async () => {
    await start(() => null);
    server.refuses = "28P01";
    expect(await ask("app")).toEqual({ ok: false, reason: "it is 28P01", sqlstate: "28P01" });
  });

  test("comes of closing it", async () => {
    await start(() => "hang");
    const answered = ask("app");
    connection.close("enough");
    expect(await answered).toEqual({ ok: false, reason: "enough", sqlstate: null });
  });
});
