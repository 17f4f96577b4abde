import { describe, expect, test } from "vitest";
import {
  coordinationPrefix,
  decodeCoordination,
  REQUEST_KEY,
  routerKey,
} from "../../../src/discovery/coordination-keys.ts";
import { keyPrefix } from "../../../src/discovery/options.ts";

const entry = (value: unknown, modRevision = 7n) => ({
  value: typeof value === "string" ? value : JSON.stringify(value),
  modRevision,
  createRevision: modRevision,
});
const router = {
  id: "db1-1-a",
  version: "0.1.0",
  host: "db1",
  http: null,
  state: "serving",
  request: null,
  since_ms: 1,
  open: 0,
  sessions: 0,
  held: 0,
  leader: "node1",
  held_ms: null,
  reason: "",
};

describe("the keys of routers and commands", () => {
  test("stand where Patroni does not look", () => {
    const patroni = keyPrefix("/service", "main");
    const prefix = coordinationPrefix(patroni);
    expect(prefix).toBe("/pgsteer/service/main/");
    expect(prefix.startsWith(patroni)).toBe(false);
    expect(prefix.startsWith("/service/")).toBe(false);
  });

  test("say who is there and what is asked", () => {
    const request = { kind: "pause", id: "p", by: "root@db1", since: "2026-11-20T20:00:00Z" };
    const decoded = decodeCoordination(
      new Map([
        [routerKey("db1-1-a"), entry(router)],
        [REQUEST_KEY, entry(request, 9n)],
      ]),
    );
    expect([...decoded.routers.values()]).toEqual([router]);
    expect([decoded.request, decoded.requestRevision, decoded.problems]).toEqual([request, 9n, []]);
  });

  test("that cannot be understood are evidence of nothing, and are reported", () => {
    const decoded = decodeCoordination(
      new Map([
        [routerKey("x"), entry({ ...router, state: "asleep" })],
        [REQUEST_KEY, entry("{")],
        // Of another cluster, with Citus.
        ["0/routers/y", entry("{")],
      ]),
    );
    expect([decoded.routers.size, decoded.request, decoded.requestRevision]).toEqual([0, null, 7n]);
    expect(decoded.problems).toEqual(["routers/x cannot be decoded", "request cannot be decoded"]);
  });
});
