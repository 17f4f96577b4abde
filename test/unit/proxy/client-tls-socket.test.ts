// Handshakes of clients, over real sockets: who the certificate says that they are, sessions that are resumed, and what ends them.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { PeerCertificateFacts } from "../../../src/auth/access.ts";
import {
  type ClientTls,
  type ClientTlsOptions,
  clientTlsContext,
  plainClientTls,
} from "../../../src/auth/client-tls.ts";
import { isAcceptable, peerCertificate, secureSocket } from "../../../src/proxy/client-tls-socket.ts";
import { Authority } from "../../support/authority.ts";
import { waitFor } from "../../support/time.ts";

const directory = mkdtempSync(join(tmpdir(), "pgsteer-client-tls-socket-"));
const pems = new Map<string, { readonly cert: string; readonly key: string }>();
let authority: Authority;
let server: Server;
let tls: ClientTls;
/** Of each connection, in the order of their handshakes. */
let facts: (PeerCertificateFacts | null)[];
let reused: boolean[];
let accepted: boolean[];
let closed: (Error | null)[];
const sockets = new Set<Socket>();

const pair = (name: string) => pems.get(name) ?? { cert: "", key: "" };
const text = (path: string): string => readFileSync(path, "utf8");

beforeAll(async () => {
  authority = await Authority.found(join(directory, "ours"));
  const stranger = await Authority.found(join(directory, "stranger"), "/CN=stranger");
  const issue = async (from: Authority, wish: Parameters<Authority["issue"]>[0], as = wish.name): Promise<void> => {
    const files = await from.issue(wish);
    pems.set(as, { cert: text(files.cert), key: text(files.key) });
  };
  await issue(authority, { name: "server" });
  await issue(authority, { name: "other", names: "DNS:other.test" });
  await issue(authority, { name: "ada", subject: "/C=DE/O=Corp, Inc./OU=R\\+D/CN=ada" });
  await issue(authority, { name: "nameless", subject: "/O=Corp" });
  await issue(authority, { name: "late", over: true });
  await issue(stranger, { name: "eve", subject: "/CN=ada" });
  await issue(authority, { name: "gone" });
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

const options = (changes: Partial<ClientTlsOptions> = {}): ClientTlsOptions => ({
  ...plainClientTls("require", pair("server")),
  ca: text(authority.ca),
  ...changes,
});

beforeEach(async () => {
  [facts, reused, accepted, closed] = [[], [], [], []];
  tls = clientTlsContext(options());
  // What comes late is not for the next test.
  const ends = closed;
  server = createServer((raw) => {
    if (tls.kind === "off") throw new Error("no TLS");
    const now = tls;
    const socket = secureSocket(raw, now, Buffer.alloc(0), () => {
      facts.push(peerCertificate(socket));
      accepted.push(isAcceptable(socket, now));
      reused.push(socket.isSessionReused());
    });
    sockets.add(raw);
    let failure: Error | null = null;
    socket.on("error", (error) => {
      failure = error;
    });
    socket.on("close", () => ends.push(failure));
    socket.on("data", (bytes) => socket.write(bytes));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

function port(): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** A client that has sent a byte and got it back; rejects with what ended it before. */
function client(changes: ConnectionOptions = {}): Promise<{ socket: TLSSocket; session: Buffer | undefined }> {
  return new Promise((resolve, reject) => {
    let session: Buffer | undefined;
    const socket = connect({ host: "127.0.0.1", port: port(), rejectUnauthorized: false, ...changes });
    socket.on("session", (ticket) => {
      session = ticket;
    });
    socket.on("error", reject);
    socket.once("secureConnect", () => socket.write("x"));
    socket.once("data", () => resolve({ socket, session }));
  });
}

const code = (error: unknown): string =>
  typeof error === "object" && error !== null && "code" in error ? String(error.code) : String(error);

describe("a client's certificate", () => {
  test("says who its owner is, in the forms that PostgreSQL compares", async () => {
    await client(pair("ada"));
    await client(pair("nameless"));
    expect(facts).toEqual([
      { commonName: "ada", distinguishedName: "CN=ada,OU=R\\+D,O=Corp\\, Inc.,C=DE" },
      { commonName: null, distinguishedName: "O=Corp" },
    ]);
  });

  test("counts as none when it is another authority's, over or revoked, and when there is none", async () => {
    await client(pair("gone"));
    await authority.revoke("gone");
    const sni = new Map([["other.test", pair("other")]]);
    tls = clientTlsContext(options({ crl: text(authority.crl), sni }));
    for (const name of ["gone", "eve", "late"]) await client(pair(name));
    await client({ ...pair("gone"), servername: "other.test" });
    await client();
    await client(pair("ada"));
    expect(facts.map((each) => each?.commonName)).toEqual([
      "gone",
      ...Array.from({ length: 5 }, () => undefined),
      "ada",
    ]);
    // No certificate is better than one that is not valid, unless one is demanded.
    expect(accepted).toEqual([true, false, false, false, false, true, true]);
    tls = clientTlsContext(options({ mode: "verify-ca" }));
    await client();
    await client(pair("eve"));
    await client(pair("ada"));
    expect(accepted.slice(7)).toEqual([false, false, true]);
  });
});

describe.each(["TLSv1.2", "TLSv1.3"] as const)("a session of %s", (maxVersion) => {
  test("is resumed, and its certificate counts on", async () => {
    const { session } = await client({ maxVersion, ...pair("ada") });
    await client({ maxVersion, session, ...pair("ada") });
    expect(reused).toEqual([false, true]);
    expect(facts.map((each) => each?.commonName)).toEqual(["ada", "ada"]);
  });

  test("whose certificate was not valid is refused again when it is resumed", async () => {
    for (const credentials of [pair("eve"), {}]) {
      const { session } = await client({ maxVersion, ...credentials });
      await client({ maxVersion, session, ...credentials });
    }
    expect(reused).toEqual([false, true, false, true]);
    expect(facts).toEqual([null, null, null, null]);
    expect(accepted).toEqual([false, false, true, true]);
  });

  test("is not resumed after a reload: what was revoked by then is looked at anew", async () => {
    const { session } = await client({ maxVersion, ...pair("ada") });
    tls = clientTlsContext(options());
    await client({ maxVersion, session, ...pair("ada") });
    expect(reused).toEqual([false, false]);
  });
});

describe("a handshake", () => {
  test("with a version before TLS 1.2 is refused by an alert", async () => {
    const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT:@SECLEVEL=0" } as const;
    expect(await client(old).catch(code)).toBe("ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION");
    await waitFor(() => closed.length > 0, { timeoutMs: 5000, what: "our side is closed" });
    expect(code(closed[0])).toBe("ERR_SSL_UNSUPPORTED_PROTOCOL");
  });

  test("keeps to the versions and ciphers of the settings", async () => {
    tls = clientTlsContext(options({ minVersion: "TLSv1.3" }));
    expect(await client({ maxVersion: "TLSv1.2" }).catch(code)).toBe("ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION");
    tls = clientTlsContext(options({ maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES256-GCM-SHA384" }));
    const { socket } = await client();
    expect([socket.getProtocol(), socket.getCipher().name]).toEqual(["TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"]);
    expect(await client({ ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" }).catch(code)).toMatch(/HANDSHAKE_FAILURE/);
    tls = clientTlsContext(options({ tls13Ciphers: "TLS_CHACHA20_POLY1305_SHA256", ecdhCurve: "prime256v1" }));
    const other = await client();
    expect(other.socket.getCipher().name).toBe("TLS_CHACHA20_POLY1305_SHA256");
    expect(other.socket.getEphemeralKeyInfo()).toMatchObject({ name: "prime256v1" });
    const older = await client({ maxVersion: "TLSv1.2" });
    expect(older.socket.getProtocol()).toBe("TLSv1.2");
  });

  test("shows the certificate of the name that is asked for", async () => {
    tls = clientTlsContext(options({ sni: new Map([["other.test", pair("other")]]) }));
    const shown = async (servername?: string) => {
      const { socket } = await client(servername === undefined ? {} : { servername });
      return socket.getPeerX509Certificate()?.subject;
    };
    expect(await shown("other.test")).toBe("CN=other");
    expect(await shown("elsewhere.test")).toBe("CN=server");
    expect(await shown()).toBe("CN=server");
  });
});

describe("an encrypted connection", () => {
  test("is not agreed on anew", async () => {
    const { socket } = await client({ maxVersion: "TLSv1.2" });
    const failure = new Promise<Error>((resolve) => socket.once("error", resolve));
    socket.renegotiate({}, () => {});
    expect(code(await failure)).toBe("ERR_SSL_NO_RENEGOTIATION");
    expect(facts).toHaveLength(1);
  });

  test("ends when something breaks into it", async () => {
    const raw = connectTcp({ host: "127.0.0.1", port: port() });
    const middle = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        raw.write(chunk, () => done());
      },
    });
    raw.on("data", (chunk: Buffer) => middle.push(chunk));
    raw.on("error", () => {});
    const secured = connect({ socket: middle, rejectUnauthorized: false });
    secured.on("error", () => {});
    await new Promise<void>((resolve) => secured.once("secureConnect", resolve));
    await waitFor(() => facts.length > 0, { timeoutMs: 5000, what: "the handshake is over" });
    expect(closed).toEqual([]);
    // A record of application data that nobody has encrypted.
    raw.write(Buffer.concat([Buffer.from([0x17, 3, 3, 0, 32]), Buffer.alloc(32, 0x55)]));
    await waitFor(() => closed.length > 0, { timeoutMs: 5000, what: "our side is closed" });
    expect(code(closed[0])).toBe("ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC");
    raw.destroy();
  });
});
