import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../../src/core/clock.ts";
import { millis } from "../../../src/core/units.ts";
import { decodeCluster, PatroniRest, type PatroniRestOptions } from "../../../src/discovery/patroni-rest.ts";
import { makeCertificates } from "../../support/certificates.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** What Patroni 3.0.2 answers. */
const cluster3 = {
  members: [
    {
      name: "node1",
      role: "leader",
      state: "running",
      api_url: "http://10.0.0.1:8008/patroni",
      host: "10.0.0.1",
      port: 5432,
      timeline: 9,
    },
    {
      name: "node2",
      role: "sync_standby",
      state: "running",
      api_url: "http://10.0.0.2:8008/patroni",
      host: "10.0.0.2",
      port: 5433,
      timeline: 9,
      tags: { noloadbalance: true },
      lag: 0,
    },
    { name: "node3", role: "replica", state: "start failed", api_url: "http://10.0.0.3:8008/patroni", lag: "unknown" },
  ],
  pause: true,
  scheduled_switchover: { at: "2026-11-20T12:01:00+00:00", from: "node1", to: "node2" },
};
const moment = { now: millis(5000), wall: Date.parse("2026-11-20T12:00:00Z") };

async function serve(answer: (path: string, response: ServerResponse, authorization: string) => void): Promise<string> {
  return listen(
    createServer((request, response) => answer(request.url ?? "", response, request.headers.authorization ?? "")),
  );
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return `http://127.0.0.1:${address.port}`;
}

function client(options: Partial<PatroniRestOptions> = {}): PatroniRest {
  const rest = new PatroniRest(systemClock, { credentials: null, tls: null, ...options });
  cleanups.push(() => rest.close());
  return rest;
}

describe("/cluster", () => {
  test("says who leads, who is there and what is scheduled", () => {
    const claim = decodeCluster(cluster3, moment);
    expect(claim?.leader).toEqual({ member: "node1", revision: 0n });
    expect(claim?.members.get("node2")).toMatchObject({
      host: "10.0.0.2",
      port: 5433,
      apiUrl: "http://10.0.0.2:8008",
      role: "replica",
      tags: { noloadbalance: true },
    });
    expect(claim).toMatchObject({ paused: true, standbyCluster: false });
    expect(claim?.failover).toMatchObject({ leader: "node1", candidate: "node2", dueAt: 65_000 });
    expect(claim?.problems).toEqual(["a member in /cluster cannot be decoded"]);
  });

  test("of a standby cluster says so", () => {
    const members = [{ name: "node1", role: "standby_leader", state: "running", host: "10.0.0.1", port: 5432 }];
    expect(decodeCluster({ members, scope: "demo" }, moment)).toMatchObject({
      leader: { member: "node1" },
      standbyCluster: true,
      failover: null,
    });
  });

  test("that is none is no claim", () => {
    for (const body of [null, [], {}, { members: 7 }]) expect(decodeCluster(body, moment)).toBeNull();
  });
});

describe("a member's REST API", () => {
  test("is asked for the cluster and for itself, with credentials where there are some", async () => {
    const base = await serve((path, response, authorization) => {
      if (authorization !== `Basic ${Buffer.from("u:p").toString("base64")}`) response.writeHead(401).end("{}");
      else if (path === "/cluster") response.end(JSON.stringify(cluster3));
      else response.writeHead(503).end(JSON.stringify({ role: "master", state: "running", timeline: 9, xlog: {} }));
    });
    const rest = client({ credentials: { user: "u", password: "p" } });
    expect(await rest.cluster(base)).toMatchObject({ ok: true, value: { leader: { member: "node1" } } });
    expect(await rest.member(base)).toEqual({ ok: true, role: "primary", state: "running", timeline: 9 });
    expect(await client().cluster(base)).toEqual({ ok: false, reason: "answered 401" });
  });

  test("that hangs, refuses, resets, or answers nonsense is a reason and never a rejection", async () => {
    const base = await serve((path, response) => {
      if (path.startsWith("/hang")) return;
      if (path.startsWith("/half")) response.write("{");
      else if (path.startsWith("/reset")) response.destroy();
      else response.end("not json");
    });
    const rest = client({ callTimeoutMs: 200 });
    expect(await rest.cluster(`${base}/hang`)).toEqual({ ok: false, reason: "no answer in 200 ms" });
    expect(await rest.cluster(`${base}/half`)).toEqual({ ok: false, reason: "no answer in 200 ms" });
    for (const path of ["/reset", "/nonsense"]) expect(await rest.member(base + path)).toMatchObject({ ok: false });
    expect(await rest.member("http://127.0.0.1:1")).toMatchObject({ ok: false });
    expect(await rest.member("nonsense")).toMatchObject({ ok: false });
  });

  test("that never stops talking is cut off", async () => {
    const base = await serve((_path, response) => {
      response.write(Buffer.alloc(600_000, " "));
      response.write(Buffer.alloc(600_000, " "));
    });
    expect(await client().cluster(base)).toMatchObject({ ok: false, reason: expect.stringContaining("longer than") });
  });

  test("is asked over TLS with a client certificate, and not when it cannot be verified", async () => {
    const directory = mkdtempSync(join(tmpdir(), "rest-tls-"));
    cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
    const { client: pems, server } = await makeCertificates(directory);
    const listener = createSecureServer(
      { ...server, requestCert: true, rejectUnauthorized: true },
      (_request, response) => response.end(JSON.stringify(cluster3)),
    );
    const base = (await listen(listener)).replace("http:", "https:");
    expect(await client({ tls: pems }).cluster(base)).toMatchObject({ ok: true });
    const misled = base.replace("127.0.0.1", "localhost");
    for (const [tls, url] of [
      [null, base],
      [{ ...pems, cert: null, key: null }, base],
      [pems, misled],
    ] as const) {
      expect(await client({ tls }).cluster(url)).toMatchObject({ ok: false });
    }
  });
});

describe("a switchover that is asked for", () => {
  const rest = (): PatroniRest => {
    const made = new PatroniRest(systemClock, { credentials: { user: "u", password: "p" }, tls: null });
    cleanups.push(() => made.close());
    return made;
  };

  test("names leader and candidate, logs in, and brings Patroni's words", async () => {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      request.on("data", (chunk) => asked.push(String(chunk)));
      request.on("end", () => response.end('Successfully switched over to "b"\n'));
    });
    const base = await listen(server);
    expect(await rest().switchover(base, "a", "b")).toEqual({
      kind: "done",
      text: 'Successfully switched over to "b"',
    });
    expect(await rest().switchover(base, "a", null)).toMatchObject({ kind: "done" });
    const login = "POST /switchover Basic dTpw";
    expect(asked).toEqual([login, '{"leader":"a","candidate":"b"}', login, '{"leader":"a"}']);
  });

  test("is refused in Patroni's words", async () => {
    const base = await serve((_path, response) => {
      response.statusCode = 412;
      response.end("candidate does not exist");
    });
    const verdict = { kind: "refused", status: 412, text: "candidate does not exist" };
    expect(await rest().switchover(base, "a", "x")).toEqual(verdict);
  });

  test("is not asked for where nobody listens, and its outcome unknown where the answer breaks off", async () => {
    expect(await rest().switchover("http://127.0.0.1:1", "a", null)).toMatchObject({ kind: "unasked" });
    const base = await serve((_path, response) => response.destroy());
    expect(await rest().switchover(base, "a", null)).toMatchObject({ kind: "unknown" });
  });
});
