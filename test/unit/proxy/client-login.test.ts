// A client's first bytes, over a real socket: in any pieces, and hostile. Whole logins are in test/integration.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { type ConnectionOptions, connect as connectTls, createSecureContext, type TLSSocket } from "node:tls";
import { serialize } from "pg-protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { OneMethod } from "../../../src/auth/access.ts";
import { ListedCredentials, type LookupSink } from "../../../src/auth/credentials.ts";
import { ScramDerivations } from "../../../src/auth/scram.ts";
import { usualPretence } from "../../../src/auth/secret-tally.ts";
import { ProxyError } from "../../../src/core/errors.ts";
import { AUTH_MESSAGE_BYTES_MAX, STARTUP_PACKET_BYTES_MAX } from "../../../src/core/limits.ts";
import { Transport, type TransportSink } from "../../../src/protocol/transport.ts";
import type { ClientFacts } from "../../../src/proxy/client-facts.ts";
import { ClientLogin, type ClientLoginOptions, type Peer } from "../../../src/proxy/client-login.ts";
import { makeCertificates } from "../../support/certificates.ts";
import { int32, message, startup } from "../../support/raw-client.ts";
import { sleep, waitFor } from "../../support/time.ts";

let server: Server;
let peer: Socket;
let transport: Transport;
let heard: string[];
let facts: ClientFacts | null;
let rest: Buffer;
let error: ProxyError | null;
/** TLS handshakes that were asked for, and whether they have to wait. */
let turns: (() => void)[];
let queued: boolean;

const until = (what: string, look: () => boolean): Promise<true> =>
  waitFor(look, { timeoutMs: 10_000, intervalMs: 2, what });

/** Nobody's certificate matters. */
const noTls = { certificates: "ignored", contextFor: null } as const;

const silent: TransportSink = { bytes() {}, drained() {}, ended() {}, closed() {} };

const elsewhere: Peer = { address: "10.0.0.1:5555", ip: "10.0.0.1", local: false };

function login(changes: Partial<ClientLoginOptions> = {}, from: Peer = elsewhere): ClientLogin {
  // Its own log: what comes late is not for the next one.
  const log = heard;
  const options: ClientLoginOptions = {
    rules: new OneMethod("trust", true),
    credentials: new ListedCredentials(new Map([["app", { kind: "plain", password: "right" }]])),
    tls: { kind: "off" },
    random: randomBytes,
    mockKey: Buffer.alloc(32),
    derivations: new ScramDerivations(),
    startup: { ignored: new Set(), addHost: false, replication: { hint: "elsewhere" } },
    admit: () => null,
    ...changes,
  };
  const sink = new ClientLogin(transport, from, options, {
    authenticated: (who, _final, bytes) => {
      log.push("authenticated");
      facts = who;
      rest = Buffer.from(bytes);
    },
    cancelRequested: (pid, key) => log.push(`cancel ${pid} ${key.toString("hex")}`),
    handshake: (begin) => {
      turns.push(begin);
      if (!queued) begin();
      return () => log.push("gave up its turn");
    },
    refused: (refusal) => {
      log.push(`refused ${refusal.sqlstate}`);
      error = refusal;
    },
    unsecured: (failure) => {
      log.push("unsecured");
      error = failure;
    },
    ended: () => log.push("ended"),
    closed: () => log.push("closed"),
  });
  transport.attach(sink);
  return sink;
}

beforeEach(async () => {
  [heard, facts, rest, error] = [[], null, Buffer.alloc(0), null];
  [turns, queued] = [[], false];
  server = createServer();
  const accepted = once(server, "connection");
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  peer = connect({ port: address.port, host: "127.0.0.1" });
  peer.on("error", () => {});
  const [socket] = (await accepted) as [Socket];
  transport = new Transport(socket, silent);
});

afterEach(async () => {
  peer.destroy();
  transport.destroy();
  await new Promise((resolve) => server.close(resolve));
});

const settled = (): Promise<true> => until("the login is over", () => heard.length > 0);

describe("a client's login", () => {
  test("takes its packet byte by byte, and keeps what comes early for the client", async () => {
    login();
    const early = serialize.query("SELECT 1");
    for (const byte of Buffer.concat([startup({ user: "app", database: "db", DateStyle: "ISO" })])) {
      peer.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await settled();
    expect(facts).toEqual({
      user: "app",
      database: "db",
      settings: new Map([["DateStyle", "ISO"]]),
      replication: null,
      tls: false,
      minor: 0,
    });
    expect(rest.length).toBe(0);
    heard = [];
    login();
    peer.write(Buffer.concat([startup({ user: "app" }), early]));
    await settled();
    expect([facts?.database, rest]).toEqual(["app", early]);
  });

  test.each<[number, Record<string, string>, string]>([
    [0, {}, ""],
    [2, {}, ""],
    [1, {}, "3.0"],
    [3, {}, "3.2"],
    [9999, {}, "3.2"],
    [0, { "_pq_.one": "on" }, "3.0 _pq_.one"],
    [2, { "_pq_.one": "on", "_pq_.two": "x" }, "3.2 _pq_.one _pq_.two"],
    [99, { "_pq_.two": "x" }, "3.2 _pq_.two"],
  ])("of version 3.%i with the options %o is offered %j", async (minor, options, offered) => {
    login();
    const answers: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => answers.push(chunk));
    peer.write(startup({ user: "app", ...options }, minor));
    await settled();
    expect([heard, facts?.settings.size]).toEqual([["authenticated"], 0]);
    expect(facts?.minor).toBe(minor >= 2 ? 2 : 0);
    transport.end();
    await until("everything is there", () => peer.readableEnded);
    const answer = Buffer.concat(answers);
    if (offered === "") return expect(answer.length).toBe(0);
    const names = answer.toString("latin1", 13).split("\0").slice(0, -1);
    expect([answer.toString("latin1", 0, 1), answer.readInt32BE(9)]).toEqual(["v", names.length]);
    expect([`${answer.readInt16BE(5)}.${answer.readInt16BE(7)}`, ...names].join(" ")).toBe(offered);
  });

  test("takes settings out of options, and lets those that are parameters of their own win, in either order", async () => {
    for (const parameters of [
      { user: "app", options: "-c a=b -c c=d", a: "own" },
      { user: "app", a: "own", options: "-c a=b -c c=d" },
    ]) {
      heard = [];
      login();
      peer.write(startup(parameters));
      await settled();
      expect(new Map(facts?.settings)).toEqual(
        new Map([
          ["a", "own"],
          ["c", "d"],
        ]),
      );
    }
  });

  test("answers N to SSLRequest and GSSENCRequest where there is no TLS, and goes on in clear", async () => {
    login();
    const answers: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => answers.push(chunk));
    for (const code of [80_877_103, 80_877_104]) {
      const request = Buffer.alloc(8);
      request.writeInt32BE(8);
      request.writeInt32BE(code, 4);
      const before = answers.length;
      peer.write(request);
      await until("an answer", () => answers.length > before);
    }
    expect(Buffer.concat(answers).toString()).toBe("NN");
    peer.write(startup({ user: "app" }));
    await settled();
    expect(heard).toEqual(["authenticated"]);
  });

  test("over a Unix-domain socket neither offers TLS nor demands it, and a password may come as it is", async () => {
    const tls = { ...noTls, kind: "on", required: true, context: createSecureContext() } as const;
    login({ tls, rules: new OneMethod("password", false) }, { address: "unix", ip: null, local: true });
    const answers: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => answers.push(chunk));
    peer.write(serialize.requestSsl());
    await until("an answer", () => answers.length > 0);
    expect(answers[0]?.toString()).toBe("N");
    peer.write(Buffer.concat([startup({ user: "app" }), serialize.password("right")]));
    await settled();
    expect(heard).toEqual(["authenticated"]);
    heard = [];
    login({ tls, rules: new OneMethod("trust", true) });
    peer.write(startup({ user: "app" }));
    await settled();
    expect(heard).toEqual(["refused 28000"]);
  });

  test("never reads on in clear behind an SSLRequest", async () => {
    login();
    peer.write(Buffer.concat([serialize.requestSsl(), startup({ user: "app" })]));
    await settled();
    expect(heard).toEqual(["refused 08P01"]);
    expect(error?.message).toBe("received unencrypted data after SSLRequest");
  });

  describe("that begins with TLS at once", () => {
    let directory = "";
    let tls: ClientLoginOptions["tls"];

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), "pgsteer-direct-"));
      await makeCertificates(directory);
      const [cert, key] = ["server.crt", "server.key"].map((name) => readFileSync(join(directory, name)));
      tls = { ...noTls, kind: "on", required: true, context: createSecureContext({ cert, key }) };
    });

    afterAll(() => rmSync(directory, { recursive: true, force: true }));

    /** A TLS client whose bytes come in pieces of `size`. */
    function direct(options: ConnectionOptions, size = 65_536): TLSSocket {
      const pieces = new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          for (let at = 0; at < chunk.length; at += size) peer.write(chunk.subarray(at, at + size));
          done();
        },
      });
      peer.on("data", (chunk: Buffer) => pieces.push(chunk));
      const secure = connectTls({ socket: pieces, rejectUnauthorized: false, ...options });
      secure.on("error", () => heard.push("TLS failed"));
      return secure;
    }

    test.each([1, 100, 65_536])("is let in when it names the protocol (in pieces of %i bytes)", async (size) => {
      login({ tls });
      const secure = direct({ ALPNProtocols: ["postgresql"] }, size);
      secure.write(startup({ user: "app", DateStyle: "ISO" }));
      await settled();
      expect([heard, facts?.tls]).toEqual([["authenticated"], true]);
      expect(secure.alpnProtocol).toBe("postgresql");
    });

    test("waits for its turn, and loses nothing of what it says meanwhile", async () => {
      queued = true;
      login({ tls });
      const secure = direct({ ALPNProtocols: ["postgresql"] }, 10);
      secure.write(startup({ user: "app" }));
      await until("it asks", () => turns.length > 0);
      await sleep(20);
      expect([turns.length, heard]).toEqual([1, []]);
      turns[0]?.();
      await settled();
      expect([heard, facts?.tls]).toEqual([["authenticated"], true]);
    });

    test("gives up its turn when it is gone", async () => {
      queued = true;
      const waiting = login({ tls });
      direct({ ALPNProtocols: ["postgresql"] });
      await until("it asks", () => turns.length > 0);
      waiting.stop();
      expect(heard).toEqual(["gave up its turn"]);
    });

    test("is never read in clear behind an SSLRequest that waits for its turn", async () => {
      queued = true;
      login({ tls });
      peer.write(serialize.requestSsl());
      await until("it asks", () => turns.length > 0);
      peer.write(startup({ user: "app" }));
      await sleep(20);
      turns[0]?.();
      await settled();
      expect([heard, error?.message]).toEqual([["refused 08P01"], "received unencrypted data after SSLRequest"]);
    });

    test("and shows no certificate is refused where one is demanded, before it has said a word", async () => {
      if (tls.kind === "off") throw new Error("no TLS");
      login({ tls: { ...tls, certificates: "demanded" } });
      direct({ ALPNProtocols: ["postgresql"] });
      await settled();
      expect([heard, error?.message]).toEqual([["refused 28000"], "connection requires a valid client certificate"]);
    });

    test.each([
      ["garbage", () => peer.write(Buffer.from("\x16 this is no handshake")), /^TLS handshake failed: \w/],
      ["half of a handshake", () => peer.end(Buffer.from([0x16, 3, 1, 0, 200, 1])), /broken it off$/],
      ["an SSLRequest and nonsense", () => peer.write(serialize.requestSsl()), /^TLS handshake failed: \w/],
    ] as const)("by %s fails, and is told from other failures", async (what, send, words) => {
      login({ tls });
      send();
      if (what.includes("SSLRequest")) {
        await new Promise((resolve) => peer.once("data", resolve));
        peer.write("nonsense, and more of it");
      }
      await until("it has failed", () => heard.includes("unsecured"));
      expect(error?.message).toMatch(words);
      expect(heard.filter((each) => each === "unsecured")).toHaveLength(1);
    });

    test("is refused when it names no protocol", async () => {
      login({ tls });
      direct({}).write(startup({ user: "app" }));
      await settled();
      expect(heard).toEqual(["refused 08P01"]);
      expect(error?.message).toContain("without ALPN");
    });

    test("is refused when it names another protocol", async () => {
      login({ tls });
      direct({ ALPNProtocols: ["http/1.1"] });
      await settled();
      expect(heard).not.toContain("authenticated");
    });

    test("is a packet of a wrong length where there is no TLS", async () => {
      login();
      direct({ ALPNProtocols: ["postgresql"] });
      await settled();
      expect(heard).toEqual(["refused 08P01"]);
    });
  });

  test.each([80_877_103, 80_877_104])("answers no request for encryption twice in a row (%i)", async (code) => {
    login();
    const answers: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => answers.push(chunk));
    const request = message("", int32(code));
    peer.write(request);
    await until("an answer", () => answers.length > 0);
    peer.write(request);
    await settled();
    expect([heard, Buffer.concat(answers).toString()]).toEqual([["refused 0A000"], "N"]);
    expect(error?.message).toMatch(/^unsupported frontend protocol 1234\.56(79|80): /);
  });

  test("hands a cancel request on, and reads nothing behind it", async () => {
    login();
    peer.write(Buffer.concat([serialize.cancel(7, 255), startup({ user: "app" })]));
    await settled();
    expect(heard).toEqual(["cancel 7 000000ff"]);
  });

  test.each<[string, Buffer, string]>([
    ["no user", startup({ database: "x" }), "28000"],
    ["an empty user", startup({ user: "" }), "28000"],
    ["a replication connection", startup({ user: "app", replication: "database" }), "0A000"],
    ["switches that are no settings", startup({ user: "app", options: "-e" }), "42601"],
    ["a packet that is too long", startup({ user: "app", a: "x".repeat(STARTUP_PACKET_BYTES_MAX) }), "08P01"],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n"), "08P01"],
  ])("refuses %s as PostgreSQL does", async (_name, bytes, sqlstate) => {
    login();
    peer.write(bytes);
    await settled();
    expect(heard).toEqual([`refused ${sqlstate}`]);
  });

  test("does not wait for the rest of a packet whose length is refused", async () => {
    login();
    peer.write(Buffer.from([0x7f, 0xff, 0xff, 0xff]));
    await settled();
    expect(heard).toEqual(["refused 08P01"]);
  });

  test("asks whether there is room only for clients, not for cancel requests", async () => {
    let asked = 0;
    const admit = () => {
      asked += 1;
      return null;
    };
    login({ admit });
    peer.write(serialize.cancel(7, 255));
    await settled();
    expect(asked).toBe(0);
    heard = [];
    login({ admit });
    peer.write(startup({ user: "app" }));
    await settled();
    expect(asked).toBe(1);
  });

  test("reads a password as long as PostgreSQL does, and nothing longer before it is there", async () => {
    const password = (bytes: number): Buffer => message("p", Buffer.alloc(bytes - 5, "x"), Buffer.alloc(1));
    expect(password(AUTH_MESSAGE_BYTES_MAX).readInt32BE(1)).toBe(AUTH_MESSAGE_BYTES_MAX);
    login({ rules: new OneMethod("password", true) });
    peer.write(Buffer.concat([startup({ user: "app" }), password(AUTH_MESSAGE_BYTES_MAX)]));
    await settled();
    expect(heard).toEqual(["refused 28P01"]);
    heard = [];
    login({ rules: new OneMethod("password", true) });
    peer.write(Buffer.concat([startup({ user: "app" }), password(AUTH_MESSAGE_BYTES_MAX + 1).subarray(0, 5)]));
    await settled();
    expect([heard, error?.message]).toEqual([["refused 08P01"], "invalid message length"]);
  });

  test("is refused once it has proved its password where its certificate is another's, with the words for that", async () => {
    const afterwards = new ProxyError("password_failed", 'password authentication failed for user "app"');
    login({ rules: { decide: () => ({ kind: "method", method: "password", afterwards }) } });
    peer.write(Buffer.concat([startup({ user: "app" }), serialize.password("right")]));
    await settled();
    expect([heard, error]).toEqual([["refused 28P01"], afterwards]);
  });

  test("takes a password in pieces, with what comes early behind it", async () => {
    login({ rules: new OneMethod("password", true) });
    const bytes = Buffer.concat([startup({ user: "app" }), serialize.password("right"), serialize.sync()]);
    for (const byte of bytes.subarray(0, -5)) {
      peer.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await settled();
    expect(heard).toEqual(["authenticated"]);
  });

  test("calls any other message in the place of a password a violation", async () => {
    login({ rules: new OneMethod("scram-sha-256", true) });
    peer.write(Buffer.concat([startup({ user: "app" }), serialize.query("SELECT 1")]));
    await settled();
    expect(heard).toEqual(["refused 08P01"]);
    expect(error?.message).toBe("expected password response, got message type 81");
  });

  test("tells of an end before its time", async () => {
    login();
    peer.end(startup({ user: "app" }).subarray(0, 9));
    await settled();
    expect(heard[0]).toBe("ended");
  });

  describe("whose user has to be looked up elsewhere", () => {
    let asked: LookupSink[];
    let givenUp: number;
    let waiting: ClientLogin;
    const nobodys = {
      forServer: () => null,
      proven: () => {},
      refused: () => {},
      failed: () => {},
      pretence: () => usualPretence,
    };

    beforeEach(() => {
      [asked, givenUp] = [[], 0];
      const lookup = (_user: string, _database: string, sink: LookupSink) => {
        asked.push(sink);
        return () => {
          givenUp += 1;
        };
      };
      waiting = login({ rules: new OneMethod("password", true), credentials: { ...nobodys, lookup } });
    });

    test("waits for the answer, and takes then what came meanwhile", async () => {
      const early = serialize.query("SELECT 1");
      peer.write(Buffer.concat([startup({ user: "app" }), serialize.password("right")]));
      peer.write(early);
      await until("it asks", () => asked.length === 1);
      asked[0]?.found({ kind: "plain", password: "right" });
      await settled();
      await until("all has come", () => rest.length === early.length || heard.length > 1);
      expect([heard, givenUp]).toEqual([["authenticated"], 0]);
    });

    test("reads no more than it can keep", async () => {
      peer.write(Buffer.concat([startup({ user: "app" }), Buffer.alloc(1_000_000)]));
      await until("it asks", () => asked.length === 1);
      await until("it has stopped reading", () => transport.socket.isPaused());
      asked[0]?.found(null);
      await settled();
      expect(heard).toEqual(["refused 08P01"]);
    });

    test("is refused where it cannot be known", async () => {
      peer.write(startup({ user: "app" }));
      await until("it asks", () => asked.length === 1);
      asked[0]?.unknown(new ProxyError("server_login_failed", "nobody can be asked"));
      await settled();
      expect(heard).toEqual(["refused 08001"]);
    });

    test.each(["has one", "cannot be asked about"])(
      "and need not prove anything waits all the same; who %s is let in",
      async (what) => {
        waiting.stop();
        const rules = new OneMethod("trust", true);
        const lookup = (_user: string, _database: string, sink: LookupSink) => {
          asked.push(sink);
          return () => {};
        };
        login({ rules, credentials: { ...nobodys, lookup } });
        peer.write(startup({ user: "app" }));
        await until("it asks", () => asked.length === 1);
        expect(heard).toEqual([]);
        if (what === "has one") asked[0]?.found({ kind: "plain", password: "a server's to see" });
        else asked[0]?.unknown(new ProxyError("server_login_failed", "nobody can be asked"));
        await settled();
        expect(heard).toEqual(["authenticated"]);
      },
    );

    test("gives up when it is stopped", async () => {
      peer.write(startup({ user: "app" }));
      await until("it asks", () => asked.length === 1);
      waiting.stop();
      expect(givenUp).toBe(1);
    });
  });
});
