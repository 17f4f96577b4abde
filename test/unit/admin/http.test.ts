import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventsSchema } from "../../../src/admin/events-document.ts";
import { AdminServer } from "../../../src/admin/http.ts";
import { HttpAccess } from "../../../src/admin/http-access.ts";
import { topologySchema } from "../../../src/admin/topology-document.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { millis } from "../../../src/core/units.ts";
import { beginIncident } from "../../../src/metrics/incident.ts";
import type { ShownIncident } from "../../../src/metrics/incidents.ts";
import { Metrics } from "../../../src/metrics/registry.ts";
import type { Snapshot } from "../../../src/metrics/snapshot.ts";
import { none, snapshot, topology } from "../metrics/fixture.ts";

/** Three of cluster `main`, the newest of which goes on, and an older one of `other`. */
function shown(cluster: string | null): readonly ShownIncident[] {
  const old = { member: "a", epoch: 1, timeline: 1 };
  const cause = { cause: "leader_key_gone", reason: "nobody holds the leader key", old, key: "a 1" } as const;
  const begun = (id: number, name: string): ShownIncident => ({
    incident: beginIncident({ ...cause, id, cluster: name, at: millis(0), wall: 0, holding: 0 }),
    going: id === 4,
    longestWaitMs: 0.26,
  });
  return [begun(4, "main"), begun(3, "main"), begun(2, "main"), begun(1, "other")].filter(
    ({ incident }) => cluster === null || incident.cluster === cluster,
  );
}

let current: Snapshot;
let broken = false;
let server: AdminServer;
let url: string;
const sockets: Socket[] = [];

beforeEach(async () => {
  current = snapshot();
  broken = false;
  const take = () => {
    if (broken) throw new Error("a bug");
    return current;
  };
  const metrics = new Metrics(take);
  const options = { token: null, adminUsers: [], statsUsers: [], users: new Map() };
  const failures = { authFailuresPerMinute: 0, unlimitedNetworks: [] };
  server = new AdminServer(
    systemClock,
    silentLogger,
    {
      snapshot: take,
      scrape: () => metrics.scrape(),
      events: (cluster) => shown(cluster),
      reload: () => Promise.reject(new Error("nobody may")),
    },
    new HttpAccess(systemClock, { ...options, failures }),
    { address: "127.0.0.1", port: 0, tls: null },
  );
  await server.open();
  url = `http://127.0.0.1:${server.port}`;
});

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
});

async function get(path: string, method = "GET"): Promise<readonly [status: number, text: string]> {
  const answer = await fetch(`${url}${path}`, { method });
  return [answer.status, await answer.text()];
}

function open(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(server.port, "127.0.0.1", () => resolve(socket));
    sockets.push(socket);
    socket.once("error", reject);
  });
}

/** All that the server says to these bytes until it closes, or stops for good. */
function raw(bytes: string): Promise<string> {
  return open().then(
    (socket) =>
      new Promise((resolve) => {
        let text = "";
        socket.on("data", (chunk) => {
          text += chunk.toString();
        });
        socket.once("close", () => resolve(text));
        socket.on("error", () => {});
        socket.write(bytes);
      }),
  );
}

describe("the HTTP endpoints", () => {
  test("say that the process lives, whatever the cluster does", async () => {
    current = snapshot(topology(none), { draining: true });
    expect(await get("/livez")).toEqual([200, "pgsteer is running\n"]);
  });

  test("say whether a route is served, and in one line why not", async () => {
    expect(await get("/readyz?route=write")).toEqual([200, 'route "write" is ready\n']);
    current = snapshot(topology(none));
    const [status, text] = await get("/readyz?route=write");
    expect(status).toBe(503);
    expect(text).toMatch(/^route "write" is not ready: Cluster "main" has no leader: nobody holds the leader key\.\n$/);
    expect(await get("/readyz?route=read")).toEqual([200, 'route "read" is ready\n']);
    expect(await get("/readyz")).toEqual([200, "pgsteer is ready\n"]);
    current = snapshot(undefined, { draining: true });
    expect((await get("/readyz"))[0]).toBe(503);
  });

  test.each(["/readyz?route=wirte", "/readyz?route=", "/readyz?rout=write", "/readyz?route=write&x=1"])(
    "do not take %s for a question that they understand",
    async (path) => {
      expect((await get(path))[0]).toBe(400);
    },
  );

  test("serve metrics in Prometheus' format", async () => {
    const answer = await fetch(`${url}/metrics`);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(await answer.text()).toContain('pgsteer_writable{cluster="main"} 1\n');
  });

  test("serve the topology as JSON that its own schema reads", async () => {
    const answer = await fetch(`${url}/topology`);
    expect(answer.headers.get("content-type")).toMatch(/^application\/json/);
    const document = topologySchema.parse(await answer.json());
    expect(document.clusters[0]?.leader).toMatchObject({ member: "a", state: "writable", revision: "9" });
    expect(document.clusters[0]?.members[1]).toMatchObject({ name: "b", lag_bytes: 0, readable: true });
    expect(document.listeners.map(({ obstacle }) => obstacle)).toEqual([null, null, null]);
  });

  test("serve the records of changes of leader, newest first, as many and of whom they were asked for", async () => {
    const idsOf = async (path: string) => {
      const { events } = eventsSchema.parse(await (await fetch(`${url}${path}`)).json());
      return events.map(({ id }) => id);
    };
    expect(await idsOf("/events")).toEqual([4, 3, 2, 1]);
    expect(await idsOf("/events?limit=2")).toEqual([4, 3]);
    expect(await idsOf("/events?limit=1&cluster=other")).toEqual([1]);
    expect(await idsOf("/events?cluster=nobody")).toEqual([]);
    const { events } = eventsSchema.parse(await (await fetch(`${url}/events?limit=1`)).json());
    expect(events[0]).toMatchObject({
      kind: "away",
      going: true,
      cause: "leader_key_gone",
      waits_for: "nobody holds the leader key",
      began: "1970-01-01T00:00:00.000Z",
      ended: null,
      clients: { longest_wait_ms: 0.3 },
    });
  });

  test.each(["/events?limit=0", "/events?limit=-1", "/events?limit=1e3", "/events?limit=", "/events?limt=1"])(
    "do not take %s for a question that they understand",
    async (path) => {
      expect((await get(path))[0]).toBe(400);
    },
  );

  test("answer HEAD like GET, without the body", async () => {
    expect(await get("/readyz?route=write", "HEAD")).toEqual([200, ""]);
    expect((await get("/nothing", "HEAD"))[0]).toBe(404);
  });

  test("refuse every other method", async () => {
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const answer = await fetch(`${url}/livez`, { method });
      expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    }
  });

  test("say what there is when asked for something else", async () => {
    const [status, text] = await get("/healthz");
    expect(status).toBe(404);
    expect(text).toContain("/readyz?route=write");
  });

  test("bound the size of a request", async () => {
    expect(await raw(`GET /livez HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(9000)}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("close connections on which something else than HTTP arrives", async () => {
    expect(await raw("\x00\x00\x00\x08\x04\xd2\x16\x2f")).toMatch(/^HTTP\/1\.1 400 /);
    expect(await raw("GET // HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 /);
  });

  test("bound the time of a request: headers that do not end, and a body that does not, keep nobody waiting", async () => {
    const began = "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx";
    const [headers, silence, body] = await Promise.all([
      raw("GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: "),
      raw(""),
      raw(began),
      get("/livez"),
    ]);
    expect(headers).toMatch(/^HTTP\/1\.1 408 /);
    expect(silence).toMatch(/^(HTTP\/1\.1 408 [\s\S]*)?$/);
    expect(body).toMatch(/^HTTP\/1\.1 405 [\s\S]*connection: close/);
  });

  test("serve whoever comes while somebody holds all connections, and a thousand more", async () => {
    const held: Socket[] = [];
    for (let count = 0; count < 1_000; count += 1) held.push(await open());
    expect(await get("/livez")).toEqual([200, "pgsteer is running\n"]);
    await expect.poll(() => held.filter(({ destroyed }) => !destroyed).length).toBeLessThan(130);
  });

  test("let nobody change anything where nobody has to log in", async () => {
    expect((await get("/reload", "POST"))[0]).toBe(403);
    expect((await get("/reload"))[0]).toBe(403);
  });

  test("answer 500 when looking fails, and go on", async () => {
    broken = true;
    expect((await get("/topology"))[0]).toBe(500);
    expect((await get("/metrics"))[0]).toBe(500);
    broken = false;
    expect((await get("/topology"))[0]).toBe(200);
  });
});
