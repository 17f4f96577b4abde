// Who may do what over HTTP; first the judgement alone, then as the server gives it, in clear and over TLS.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type SecureVersion } from "node:tls";
import { Agent, request } from "undici";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type AdminAddress, AdminServer } from "../../../src/admin/http.ts";
import { HttpAccess, type HttpAccessOptions } from "../../../src/admin/http-access.ts";
import type { ReloadReport } from "../../../src/admin/reload-report.ts";
import { md5Secret } from "../../../src/auth/password.ts";
import { deriveScramKeys } from "../../../src/auth/scram.ts";
import type { Secret } from "../../../src/auth/secret.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { Metrics } from "../../../src/metrics/registry.ts";
import { makeCertificates } from "../../support/certificates.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { snapshot } from "../metrics/fixture.ts";

const token = "0123456789abcdef0123456789abcdef";
const salt = Buffer.alloc(16, 7);
const users = new Map<string, Secret>([
  ["plain", { kind: "plain", password: "pä:ss" }],
  ["hashed", { kind: "md5", hash: md5Secret("secret", "hashed") }],
  ["scram", { kind: "scram", iterations: 4096, salt, ...deriveScramKeys("secret", salt, 4096) }],
  ["looker", { kind: "plain", password: "looks" }],
  ["nobody", { kind: "plain", password: "no rights" }],
]);
const full: HttpAccessOptions = {
  token,
  adminUsers: ["plain", "hashed", "scram", "absent"],
  statsUsers: ["looker"],
  users,
  failures: { authFailuresPerMinute: 0, unlimitedNetworks: [] },
};
const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
const here = "10.0.0.1";

describe("access over HTTP", () => {
  const access = new HttpAccess(new FakeClock(), full);
  const kind = (right: "read" | "administer", authorization?: string) => access.judge(right, authorization, here).kind;

  test.each([
    ["the token", `Bearer ${token}`],
    ["a password that is kept in clear", basic("plain", "pä:ss")],
    ["a password of which an md5 hash is kept", basic("hashed", "secret")],
    ["a password of which a SCRAM verifier is kept", basic("scram", "secret")],
  ])("is an administrator's with %s", (_how, authorization) => {
    expect([kind("read", authorization), kind("administer", authorization)]).toEqual(["granted", "granted"]);
  });

  test("lets users of stats_users look, and change nothing", () => {
    const authorization = basic("looker", "looks");
    expect([kind("read", authorization), kind("administer", authorization)]).toEqual(["granted", "forbidden"]);
  });

  test.each([
    ["nothing", undefined],
    ["another token", `Bearer ${token.replace("0", "1")}`],
    ["no token", "Bearer"],
    ["a wrong password", basic("plain", "pass")],
    ["a user who is in no list", basic("nobody", "no rights")],
    ["a user who has no secret", basic("absent", "")],
    ["a user who does not exist", basic("stranger", "secret")],
    ["the hash in place of the password", basic("hashed", md5Secret("secret", "hashed"))],
    ["a password with a zero byte", basic("plain", "pä:ss\0")],
    ["a scheme that is none", `Digest ${token}`],
    ["what is not base64", "Basic ???"],
    ["what has no colon", `Basic ${Buffer.from("plain").toString("base64")}`],
  ])("is unknown with %s", (_how, authorization) => {
    expect([kind("read", authorization), kind("administer", authorization)]).toEqual(["unknown", "unknown"]);
  });

  test("is everybody's to look where there is no login, and nobody's to change", () => {
    const open = new HttpAccess(new FakeClock(), { ...full, token: null, adminUsers: [], statsUsers: [] });
    expect(open.judge("read", undefined, here).kind).toBe("granted");
    expect(open.judge("administer", `Bearer ${token}`, here).kind).toBe("forbidden");
  });

  test("is refused to an address with too many failures, right or wrong, but not for asking without a login", () => {
    const failures = { authFailuresPerMinute: 5, unlimitedNetworks: ["127.0.0.1/32"] };
    const bounded = new HttpAccess(new FakeClock(), { ...full, failures });
    for (let count = 0; count < 50; count += 1) bounded.judge("read", undefined, here);
    const delays = Array.from({ length: 5 }, () => bounded.judge("read", "Bearer wrong", here)).map((each) =>
      each.kind === "unknown" ? each.delay : -1,
    );
    expect(delays).toEqual([0, 0, 0, 200, 400]);
    expect(bounded.judge("read", `Bearer ${token}`, here).kind).toBe("blocked");
    expect(bounded.judge("read", `Bearer ${token}`, "10.0.0.2").kind).toBe("granted");
    for (let count = 0; count < 50; count += 1) bounded.judge("read", "Bearer wrong", "127.0.0.1");
    expect(bounded.judge("read", `Bearer ${token}`, "127.0.0.1").kind).toBe("granted");
  });

  test("follows a reload", () => {
    const changing = new HttpAccess(new FakeClock(), full);
    changing.reconfigure({ ...full, token: `${token}2`, adminUsers: [], statsUsers: ["plain"] });
    expect(changing.judge("read", `Bearer ${token}`, here).kind).toBe("unknown");
    expect(changing.judge("administer", basic("plain", "pä:ss"), here).kind).toBe("forbidden");
  });
});

describe("the HTTP server", () => {
  let directory: string;
  let pems: Awaited<ReturnType<typeof makeCertificates>>;
  let server: AdminServer | null = null;
  let agent: Agent | null = null;
  let reloads = 0;
  const report: ReloadReport = { reloaded: true, changed: ["pool"], kept: [], warnings: [], problems: [] };
  const lines: unknown[] = [];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "pgsteer-http-"));
    pems = await makeCertificates(directory);
  });
  afterEach(async () => {
    server?.close();
    await agent?.destroy();
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  async function start(tls: AdminAddress["tls"], options: HttpAccessOptions = full): Promise<AdminServer> {
    const metrics = new Metrics(() => snapshot());
    const sources = {
      snapshot: () => snapshot(),
      scrape: () => metrics.scrape(),
      events: () => [],
      reload: () => {
        reloads += 1;
        return Promise.resolve(report);
      },
    };
    const logger = { ...silentLogger, info: (fields: unknown) => lines.push(fields) };
    const where = { address: "127.0.0.1", port: 0, tls };
    server = new AdminServer(systemClock, logger, sources, new HttpAccess(systemClock, options), where);
    await server.open();
    return server;
  }

  async function ask(
    path: string,
    headers: Readonly<Record<string, string>> = {},
    connect: Readonly<Record<string, unknown>> = {},
    method: "GET" | "POST" = "GET",
  ) {
    await agent?.destroy();
    agent = new Agent({ connect });
    const scheme = Object.keys(connect).length === 0 ? "http" : "https";
    const answer = await request(`${scheme}://127.0.0.1:${server?.port}${path}`, {
      dispatcher: agent,
      headers,
      method,
    });
    return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
  }

  test("asks for a login for all but health checks, and says how one may log in", async () => {
    await start(null);
    for (const path of ["/livez", "/readyz"]) expect((await ask(path)).status).toBe(200);
    for (const path of ["/metrics", "/topology", "/events", "/reload", "/nothing"]) {
      const { status, headers, text } = await ask(path);
      expect([status, text]).toEqual([401, "log in first\n"]);
      expect(headers["www-authenticate"]).toBe('Bearer realm="pgsteer", Basic realm="pgsteer", charset="UTF-8"');
    }
    expect((await ask("/metrics", { authorization: `Bearer ${token}` })).text).toContain("pgsteer_up 1");
    expect((await ask("/topology", { authorization: basic("looker", "looks") })).status).toBe(200);
  });

  test("logs a failure with address and user, never with what was tried", async () => {
    lines.length = 0;
    await start(null);
    await ask("/metrics", { authorization: basic("eve\u001b[2J", "hunter2") });
    expect(lines).toEqual([{ address: "127.0.0.1", user: "eve?[2J", count: 1 }]);
  });

  test("reloads for administrators alone, by POST alone, and not for pages of other sites", async () => {
    await start(null);
    const authorization = `Bearer ${token}`;
    expect((await ask("/reload", { authorization: basic("looker", "looks") }, {}, "POST")).status).toBe(403);
    expect((await ask("/reload", { authorization })).status).toBe(405);
    expect((await ask("/reload", { authorization, origin: "http://evil.example" }, {}, "POST")).status).toBe(403);
    expect((await ask("/reload", { authorization, origin: "null" }, {}, "POST")).status).toBe(403);
    expect(reloads).toBe(0);
    const { status, text } = await ask("/reload", { authorization }, {}, "POST");
    expect([status, JSON.parse(text), reloads]).toEqual([200, report, 1]);
  });

  test("speaks TLS, and takes a new certificate while it runs", async () => {
    const { ca, cert, key } = pems.server;
    const running = await start({ cert, key, ca: null });
    expect((await ask("/livez", {}, { ca })).status).toBe(200);
    const other = join(directory, "other");
    const fresh = await makeCertificates(mkdtempSync(other));
    running.reconfigure({ address: "127.0.0.1", port: 0, tls: { ...fresh.server, ca: null } });
    await expect(ask("/livez", {}, { ca })).rejects.toThrow();
    expect((await ask("/livez", {}, { ca: fresh.server.ca })).status).toBe(200);
  });

  test("demands a client certificate for all but health checks, besides a login where there is one", async () => {
    const { ca } = pems.server;
    await start({ ...pems.server, ca });
    const known = { ca, cert: pems.client.cert, key: pems.client.key };
    const strangers = join(directory, "strangers");
    const unknown = await makeCertificates(mkdtempSync(strangers));
    const stranger = { ca, cert: unknown.client.cert, key: unknown.client.key };
    const authorization = `Bearer ${token}`;
    expect((await ask("/livez", {}, { ca })).status).toBe(200);
    expect((await ask("/metrics", { authorization }, { ca })).status).toBe(403);
    expect((await ask("/metrics", { authorization }, stranger)).status).toBe(403);
    expect((await ask("/metrics", {}, known)).status).toBe(401);
    expect((await ask("/metrics", { authorization }, known)).status).toBe(200);
    expect(readFileSync(join(directory, "ca.crt"), "utf8")).toBe(ca);
  });

  /** One request over a connection without a certificate: the status, and by what the connection can be resumed. */
  function askBare(
    path: string,
    version: SecureVersion,
    session?: Buffer,
  ): Promise<{ status: string; resumed: boolean; session: Buffer | null }> {
    return new Promise((resolve, reject) => {
      const port = server?.port ?? 0;
      const options = { host: "127.0.0.1", port, ca: pems.server.ca, maxVersion: version };
      const socket = connectTls({ ...options, ...(session === undefined ? {} : { session }) });
      let newest: Buffer | null = null;
      let said = "";
      let resumed = false;
      socket.on("session", (each) => {
        newest = each;
      });
      socket.on("data", (piece: Buffer) => {
        said += piece.toString();
        resumed = socket.isSessionReused();
      });
      socket.on("error", reject);
      socket.on("close", () => resolve({ status: said.slice(9, 12), resumed, session: newest }));
      const authorization = `Bearer ${token}`;
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nConnection: close\r\n\r\n`);
    });
  }

  test.each(["TLSv1.2", "TLSv1.3"] as const)("demands it of a %s session that is resumed, too", async (version) => {
    await start({ ...pems.server, ca: pems.server.ca });
    const first = await askBare("/livez", version);
    expect(first).toMatchObject({ status: "200", resumed: false });
    const again = await askBare("/metrics", version, first.session ?? Buffer.alloc(0));
    expect(again).toMatchObject({ status: "403", resumed: true });
  });
});
