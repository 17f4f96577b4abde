import { createServer, type Server } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { ClusterClaim } from "../../src/discovery/claim.ts";
import { PatroniRest } from "../../src/discovery/patroni-rest.ts";
import { PatroniSource } from "../../src/discovery/patroni-source.ts";
import type { SourceHealth } from "../../src/discovery/topology.ts";
import { freePort } from "../support/ports.ts";
import { waitFor } from "../support/time.ts";

// A real cluster is followed through this source in observer.test.ts; here the members misbehave in ways of our choosing.

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** REST APIs of a cluster that is led by `leader`, each of which can refuse, hang or answer. */
class Members {
  leader = "node1";
  readonly asked: string[] = [];
  readonly mode = new Map<string, "answers" | "hangs" | "fails">();
  readonly urls = new Map<string, string>();
  readonly #servers = new Map<string, Server>();

  static async start(names: readonly string[]): Promise<Members> {
    const members = new Members();
    for (const name of names) members.urls.set(name, `http://127.0.0.1:${await freePort()}`);
    for (const name of names) await members.listen(name);
    cleanups.push(() => Promise.all(names.map((name) => members.stop(name))));
    return members;
  }

  url(name: string): string {
    return this.urls.get(name) ?? "";
  }

  async listen(name: string): Promise<void> {
    const server = createServer((_request, response) => {
      this.asked.push(name);
      const mode = this.mode.get(name) ?? "answers";
      if (mode === "hangs") return;
      if (mode === "fails") response.writeHead(500);
      response.end(JSON.stringify({ members: this.#answer() }));
    });
    await new Promise<void>((resolve) => server.listen(Number(new URL(this.url(name)).port), "127.0.0.1", resolve));
    this.#servers.set(name, server);
  }

  async stop(name: string): Promise<void> {
    const server = this.#servers.get(name);
    if (server === undefined) return;
    this.#servers.delete(name);
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  #answer(): object[] {
    return [...this.urls].map(([name, url]) => ({
      name,
      role: name === this.leader ? "leader" : "replica",
      state: "running",
      api_url: `${url}/patroni`,
      host: "127.0.0.1",
      port: 5432,
      timeline: 1,
    }));
  }
}

function follow(urls: readonly string[]) {
  const seen: { claim: ClusterClaim | null; health: SourceHealth | null } = { claim: null, health: null };
  const rest = new PatroniRest(systemClock, { credentials: null, tls: null, callTimeoutMs: 300 });
  const options = { urls, pollIntervalMs: 50, hurriedIntervalMs: 5 };
  const source = new PatroniSource(systemClock, silentLogger, rest, options, (claim, health) => {
    seen.claim = claim;
    seen.health = health;
  });
  cleanups.push(async () => {
    source.close();
    await rest.close();
  });
  source.start();
  const until = (what: string, condition: () => boolean): Promise<boolean> =>
    waitFor(condition, { timeoutMs: 30_000, intervalMs: 5, what });
  return {
    seen,
    source,
    until,
    follows: (leader: string) =>
      until(`${leader} leads`, () => seen.health?.connected === true && seen.claim?.leader?.member === leader),
  };
}

describe("patroni source", () => {
  test("follows the leader by name", async () => {
    const members = await Members.start(["node1", "node2"]);
    const { follows } = follow([members.url("node1")]);
    await follows("node1");
    members.leader = "node2";
    await follows("node2");
  });

  test("turns to members that it has only learnt of when the configured one dies, hangs or fails", async () => {
    const members = await Members.start(["node1", "node2", "node3"]);
    const { follows } = follow([`${members.url("node1")}/`]);
    await follows("node1");
    await members.stop("node1");
    members.leader = "node2";
    await follows("node2");
    members.mode.set("node2", "hangs");
    members.leader = "node3";
    await follows("node3");
    await members.listen("node1");
    members.mode.set("node3", "fails");
    members.leader = "node1";
    await follows("node1");
  });

  test("stays with the member that answers", async () => {
    const members = await Members.start(["node1", "node2"]);
    await members.stop("node1");
    const { follows, until } = follow([members.url("node1"), members.url("node2")]);
    await follows("node1");
    const before = members.asked.length;
    await until("some polls", () => members.asked.length > before + 3);
    expect(new Set(members.asked)).toEqual(new Set(["node2"]));
  });

  test("says why when nobody answers, keeps its last claim, and comes back", async () => {
    const members = await Members.start(["node1", "node2"]);
    const { seen, until, follows } = follow([members.url("node1"), members.url("node2")]);
    await follows("node1");
    for (const name of ["node1", "node2"]) await members.stop(name);
    await until("it is lost", () => seen.health?.connected === false);
    expect(seen.health?.reason).toContain(members.url("node2"));
    expect(seen.claim?.leader?.member).toBe("node1");
    await members.listen("node2");
    await follows("node1");
  });

  test("waits for a cluster that comes up later", async () => {
    const members = await Members.start(["node1"]);
    await members.stop("node1");
    const { seen, until, follows } = follow([members.url("node1")]);
    await until("it has tried", () => seen.health?.connected === false);
    expect(seen.claim).toBeNull();
    await members.listen("node1");
    await follows("node1");
  });
});
