// A login whose other end is forged: what comes behind its end, and bytes of any kind, cost the connection and nothing more. Logins
// to PostgreSQL itself are in test/integration/pool-login.test.ts.

import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ScramDerivations } from "../../../src/auth/scram.ts";
import { ALPN_POSTGRESQL, type ServerTls, type ServerTlsOptions, serverTls } from "../../../src/auth/tls-options.ts";
import { ServerLogin } from "../../../src/pool/server-login.ts";
import { Authority } from "../../support/authority.ts";
import { makeCertificates } from "../../support/certificates.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { int32, message } from "../../support/raw-client.ts";
import { waitFor } from "../../support/time.ts";

const listener = createServer();
let port: number;
let peers: Socket[] = [];

beforeEach(async () => {
  peers = [];
  listener.on("connection", (peer) => {
    peers.push(peer);
    peer.on("error", () => {});
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  port = address.port;
});

afterEach(async () => {
  for (const peer of peers) peer.destroy();
  listener.removeAllListeners("connection");
  listener.close();
  await once(listener, "close");
});

const welcome = Buffer.concat([
  message("R", int32(0)),
  message("S", Buffer.from("in_hot_standby\0off\0")),
  message("K", int32(1), int32(2)),
  message("Z", Buffer.from("I")),
]);

/** Logs in to a peer that says `bytes`, then nothing more. What became of it. */
async function loginTo(bytes: Buffer, tls: ServerTls = { kind: "off" }): Promise<string> {
  let outcome: string | null = null;
  const login = new ServerLogin(
    new FakeClock(),
    {
      endpoint: { member: "m", host: "127.0.0.1", port },
      user: "u",
      database: "d",
      secret: { kind: "plain", password: "p" },
      tls,
      random: (count) => Buffer.alloc(count, 7),
      derivations: new ScramDerivations(),
      timeoutMs: 1000,
    },
    {
      loggedIn: (transport) => {
        outcome = "logged in";
        transport.attach({ bytes: () => {}, drained: () => {}, ended: () => {}, closed: () => {} });
        transport.destroy();
      },
      failed: (failure) => {
        outcome = failure.reason;
      },
    },
  );
  const before = peers.length;
  const peer = await waitFor(() => peers[before], { timeoutMs: 5000, intervalMs: 1, what: "a connection" });
  peer.end(bytes);
  const found = await waitFor(() => outcome, { timeoutMs: 5000, intervalMs: 1, what: "the login ends" });
  login.abort();
  return found;
}

describe("a server's login", () => {
  test("is over with the first ReadyForQuery", async () => {
    expect(await loginTo(welcome)).toBe("logged in");
  });

  test("is none where more came with it: that would be taken for an answer to whoever asks first", async () => {
    const answer = Buffer.concat([message("C", Buffer.from("SELECT 1\0")), message("Z", Buffer.from("I"))]);
    expect(await loginTo(Buffer.concat([welcome, answer]))).toBe("server said more than it was asked during login");
    expect(await loginTo(Buffer.concat([welcome, answer.subarray(0, 3)]))).toBe(
      "server said more than it was asked during login",
    );
  });

  test("is tried in another way, as sslmode allows, only while the server has not let us in", async () => {
    const allow = serverTls({ sslmode: "allow", ca: null, cert: null, key: null });
    const refusal = message("E", Buffer.from("SFATAL\0VFATAL\0C28000\0Mno such role\0\0"));
    expect(await loginTo(Buffer.concat([message("R", int32(0)), refusal]), allow)).toBe("no such role");
    expect(peers).toHaveLength(1);
    listener.on("connection", (peer) => {
      if (peers.length > 2) peer.end("N");
    });
    expect(await loginTo(refusal, allow)).not.toBe("");
    expect(peers).toHaveLength(3);
  });

  test("ends in one way or another, whatever bytes come", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 40 }),
        fc.nat(welcome.length),
        fc.nat(welcome.length),
        async (noise, at, skipped) => {
          const bytes = Buffer.concat([
            welcome.subarray(0, at),
            noise,
            welcome.subarray(Math.min(at + skipped, welcome.length)),
          ]);
          expect(await loginTo(bytes)).not.toBe("");
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("direct TLS", () => {
  let directory = "";
  let pems: Awaited<ReturnType<typeof makeCertificates>>["server"];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "pgsteer-direct-"));
    pems = (await makeCertificates(directory)).server;
  });

  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  /** Logs in to a server that speaks these protocols inside TLS: what it heard first, and what became of the login. */
  async function direct(
    protocols: string[],
    own: { readonly cert: string; readonly key: string } = pems,
    trusted: Partial<ServerTlsOptions> = { ca: pems.ca },
  ): Promise<{ readonly heard: string; readonly outcome: string }> {
    let heard = "";
    const server = createTlsServer({ cert: own.cert, key: own.key, ALPNProtocols: protocols }, (socket) => {
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        heard += bytes.toString("latin1");
        if (heard.endsWith("\0\0")) socket.write(welcome);
      });
    });
    server.on("tlsClientError", () => {});
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const mine = { sslmode: "verify-full", ca: null, cert: null, key: null, negotiation: "direct" } as const;
    const tls = serverTls({ ...mine, ...trusted });
    const outcome = await new Promise<string>((resolve) => {
      new ServerLogin(
        new FakeClock(),
        {
          endpoint: { member: "m", host: "127.0.0.1", port: typeof address === "object" ? (address?.port ?? 0) : 0 },
          user: "u",
          database: "d",
          secret: null,
          tls,
          random: (count) => Buffer.alloc(count, 7),
          derivations: new ScramDerivations(),
          timeoutMs: 1000,
        },
        {
          loggedIn: (transport) => {
            transport.attach({ bytes: () => {}, drained: () => {}, ended: () => {}, closed: () => {} });
            transport.destroy();
            resolve("logged in");
          },
          failed: (failure) => resolve(failure.reason),
        },
      );
    });
    server.close();
    return { heard, outcome };
  }

  test("begins with the handshake, and goes on with the startup message", async () => {
    const { heard, outcome } = await direct([ALPN_POSTGRESQL]);
    expect(outcome).toBe("logged in");
    expect(heard.slice(4)).toBe("\0\x03\0\0user\0u\0database\0d\0\0");
  });

  test("is none with a server that does not say that it speaks PostgreSQL's protocol", async () => {
    const { heard, outcome } = await direct([]);
    expect(outcome).toContain("without ALPN");
    expect(heard).toBe("");
  });

  test("is none with a server whose certificate is on the list of revoked ones", async () => {
    const authority = await Authority.found(join(directory, "authority"));
    const { cert, key } = await authority.issue({ name: "server", names: "IP:127.0.0.1" });
    const read = (name: string): string => readFileSync(name, "utf8");
    const login = async (): Promise<string> => {
      const trusted = { ca: read(authority.ca), crl: read(authority.crl) };
      return (await direct([ALPN_POSTGRESQL], { cert: read(cert), key: read(key) }, trusted)).outcome;
    };
    expect(await login()).toBe("logged in");
    await authority.revoke("server");
    expect(await login()).toBe("certificate revoked");
  });
});
