import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { millis } from "../../../src/core/units.ts";
import {
  apiBase,
  decodeKeys,
  decodeMember,
  hostAndPort,
  type KeyEntry,
  parseWallTime,
} from "../../../src/discovery/patroni-keys.ts";

const moment = { now: millis(5000), wall: Date.parse("2026-11-20T12:00:00Z") };

function keys(values: Readonly<Record<string, string>>): Map<string, KeyEntry> {
  return new Map(
    Object.entries(values).map(([key, value], i) => [
      key,
      { value, modRevision: BigInt(20 + i), createRevision: BigInt(10 + i) },
    ]),
  );
}

const node1 = {
  conn_url: "postgres://10.0.0.1:5432/postgres",
  api_url: "http://10.0.0.1:8008/patroni",
  state: "running",
  role: "master",
  version: "3.0.2",
  xlog_location: 144802592,
  timeline: 9,
};
const node2 = {
  conn_url: "postgres://10.0.0.2:5433/postgres",
  api_url: "https://10.0.0.2:8008/patroni",
  state: "streaming",
  role: "replica",
  version: "4.1.4",
  xlog_location: 144802600,
  receive_lsn: 144802600,
  replay_lsn: 144802500,
  replication_state: "streaming",
  timeline: 9,
  tags: { noloadbalance: true, clonefrom: true },
};

describe("keys that Patroni writes", () => {
  test("say who leads, who is there and how each is reached", () => {
    const claim = decodeKeys(
      keys({
        leader: "node1",
        "members/node1": JSON.stringify(node1),
        "members/node2": JSON.stringify(node2),
        config: '{"ttl":30,"loop_wait":10,"pause":true}',
        initialize: "7000000000000000001",
        history: '[[7,1,"no recovery target specified"],[8,2,"x","2026-11-20T10:00:00+00:00","node1"]]',
        status: '{"optime":144802592,"slots":{"node1":1},"retain_slots":["node1"]}',
        sync: '{"leader":"node1","quorum":1,"sync_standby":"node2"}',
        failsafe: '{"node1":"http://10.0.0.1:8008/patroni"}',
      }),
      moment,
    );
    expect(claim.problems).toEqual([]);
    expect(claim.leader).toEqual({ member: "node1", revision: 10n });
    expect(claim.members.get("node1")).toEqual({
      name: "node1",
      host: "10.0.0.1",
      port: 5432,
      apiUrl: "http://10.0.0.1:8008",
      role: "primary",
      state: "running",
      timeline: 9,
      position: 144802592n,
      tags: { noloadbalance: false, nofailover: false },
    });
    expect(claim.members.get("node2")).toMatchObject({
      apiUrl: "https://10.0.0.2:8008",
      role: "replica",
      position: 144802500n,
      tags: { noloadbalance: true, nofailover: false },
    });
    expect(claim).toMatchObject({
      paused: true,
      standbyCluster: false,
      systemIdentifier: "7000000000000000001",
      incarnation: "14",
      endedTimeline: 8,
      failover: null,
    });
  });

  test("of a standby cluster say so", () => {
    const config = (standby: unknown) => keys({ config: JSON.stringify({ standby_cluster: standby }) });
    expect(decodeKeys(config({ host: "10.1.0.1" }), moment).standbyCluster).toBe(true);
    expect(decodeKeys(config({}), moment).standbyCluster).toBe(false);
    expect(decodeKeys(config(null), moment).standbyCluster).toBe(false);
    expect(decodeKeys(keys({}), moment).standbyCluster).toBeNull();
  });

  test("that cannot be decoded are reported, and are evidence of nothing", () => {
    const claim = decodeKeys(
      keys({
        leader: "node1",
        "members/node1": "{",
        "members/node2": '{"conn_url":"nonsense"}',
        "members/node3": "[]",
        config: "7",
        history: '{"a":1}',
        failover: '{"leader":7}',
      }),
      moment,
    );
    expect(claim.members.size).toBe(0);
    expect(claim.problems).toHaveLength(6);
    expect(claim).toMatchObject({ paused: false, endedTimeline: 0, failover: null });
  });

  test("an empty prefix says nothing", () => {
    expect(decodeKeys(new Map(), moment)).toMatchObject({ leader: null, problems: [], systemIdentifier: null });
    expect(decodeKeys(keys({ leader: "", initialize: "" }), moment)).toMatchObject({
      leader: null,
      systemIdentifier: null,
    });
  });

  test("never make the decoder throw, whatever they hold", () => {
    const names = fc.constantFrom("leader", "members/a", "config", "failover", "history", "initialize", "status", "x");
    const values = fc.oneof(fc.string(), fc.json());
    fc.assert(
      fc.property(fc.dictionary(names, values), (values_) => {
        const claim = decodeKeys(keys(values_), moment);
        for (const { host, port } of claim.members.values()) {
          expect(host).not.toBe("");
          expect(port).toBeGreaterThan(0);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("the failover key", () => {
  const failover = (value: string) => decodeKeys(keys({ failover: value }), moment).failover;

  test("asks for a switchover, at once or at a time", () => {
    expect(failover('{"leader":"node1","member":"node2"}')).toEqual({
      id: "20",
      leader: "node1",
      candidate: "node2",
      dueAt: null,
    });
    expect(failover('{"leader":"node1","scheduled_at":"2026-11-20T12:01:00+00:00"}')).toMatchObject({
      candidate: null,
      dueAt: 65_000,
    });
    expect(failover('{"member":"node2"}')).toMatchObject({ leader: null, candidate: "node2" });
    expect(failover("node1:node2")).toMatchObject({ leader: "node1", candidate: "node2" });
  });

  test("asks for nothing when it is empty or called off", () => {
    for (const value of ["", "{}", "null", '{"leader":null,"member":null}', ":"]) expect(failover(value)).toBeNull();
  });

  test("with a time that cannot be read is not due by mistake", () => {
    const claim = decodeKeys(keys({ failover: '{"leader":"node1","scheduled_at":"tomorrow"}' }), moment);
    expect(claim.failover).toBeNull();
    expect(claim.problems).toHaveLength(1);
  });
});

describe("a member's addresses", () => {
  test("are taken from the forms that Patroni writes", () => {
    expect(hostAndPort("postgres://10.0.0.1:5432/postgres")).toEqual({ host: "10.0.0.1", port: 5432 });
    expect(hostAndPort("postgresql://u:p@db.example:6543/x?a=b")).toEqual({ host: "db.example", port: 6543 });
    expect(hostAndPort("postgres://[fe80::1]:5432/postgres")).toEqual({ host: "fe80::1", port: 5432 });
    expect(hostAndPort("postgres://db/postgres")).toEqual({ host: "db", port: 5432 });
    for (const bad of ["", "db:5432", "postgres://:5432/x", "postgres://db:0/x", "postgres://db:99999/x"]) {
      expect(hostAndPort(bad)).toBeNull();
    }
  });

  test("of the REST API may be missing", () => {
    expect(apiBase("http://[fe80::1]:8008/patroni")).toBe("http://[fe80::1]:8008");
    for (const bad of [null, undefined, "", "nonsense", "ftp://x/"]) expect(apiBase(bad)).toBeNull();
    expect(decodeMember("a", '{"conn_url":"postgres://db:5432/x"}')).toMatchObject({ apiUrl: null, role: "unknown" });
  });
});

describe("Patroni's wall times", () => {
  test("mean what the machine's own calendar says", () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date("1971-01-01"), max: new Date("2199-12-31"), noInvalidDate: true }),
        (date) => {
          expect(parseWallTime(date.toISOString())).toBe(date.getTime());
        },
      ),
    );
    for (const text of ["2026-11-20T12:00:00.123456+02:00", "2026-02-28T23:59:59-03:30", "2028-02-29 00:00:00Z"]) {
      expect(parseWallTime(text)).toBe(Math.floor(Date.parse(text.replace(/(\.\d{3})\d+/, "$1"))));
    }
    expect(parseWallTime("2026-11-20T12:00+00")).toBe(Date.parse("2026-11-20T12:00Z"));
  });

  test("that are none are refused", () => {
    for (const bad of ["", "tomorrow", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "12:00"]) {
      expect(parseWallTime(bad)).toBeNull();
    }
  });
});
