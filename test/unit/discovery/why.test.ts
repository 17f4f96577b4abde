import { describe, expect, test } from "vitest";
import { lsn } from "../../../src/core/units.ts";
import { Case, etcd, member, steady } from "./fixture.ts";

const writes = (cluster: Case, name: string): string => cluster.member(name).why.writes;
const reads = (cluster: Case, name: string): string => cluster.member(name).why.reads;

describe("why a member gets writes or not", () => {
  test("the leader holds the key and takes writes", () => {
    expect(writes(steady(), "a")).toBe("holds the leader key of revision 11 and takes writes on timeline 1");
    expect(writes(steady(), "b")).toBe("a holds the leader key");
  });

  test("a holder of the key that is not served says what speaks against it", () => {
    const key = "holds the leader key of revision 11, but ";
    expect(writes(etcd().key("a"), "a")).toBe(`${key}has not been probed yet`);
    expect(writes(etcd().key("a").probe("a", {}), "a")).toBe(`${key}is still in recovery`);
    expect(writes(steady().report("a", { kind: "failed", reason: "connection refused" }), "a")).toBe(
      `${key}its PostgreSQL does not serve connections: connection refused`,
    );
    expect(writes(steady().report("a", { kind: "login", inRecovery: true }), "a")).toBe(
      `${key}a login to it said that it is in recovery`,
    );
    expect(writes(etcd().key("a").takesWrites("a").probe("a", { systemIdentifier: "8" }), "a")).toBe(
      `${key}has another system identifier than this cluster`,
    );
    const thawed = steady().key("b").wait(1).takesWrites("b", 2).wait(1).key("a").wait(1).takesWrites("a");
    expect(writes(thawed, "a")).toBe(
      "holds the leader key of revision 13; it is on timeline 1, but timeline 2 has been written already",
    );
  });

  test("a member that takes writes without the key is named for it", () => {
    const frozen = steady().key("b").wait(1).takesWrites("b", 2).takesWrites("a");
    expect(writes(frozen, "a")).toBe(
      "takes writes on timeline 1, which is older than 2, without the leader key: b holds the leader key",
    );
    expect(writes(steady().key(null), "a")).toBe(
      "takes writes on timeline 1 without the leader key: nobody holds the leader key",
    );
  });

  test("a switchover, a silent source and a standby cluster are told apart", () => {
    const failover = { id: "1", leader: "a", candidate: null, dueAt: null };
    expect(writes(steady().says({ failover }), "a")).toContain("but a switchover was asked for: no new ones begin");
    expect(writes(steady().lost(), "a")).toBe(
      "held the leader key of revision 11 when etcd was last heard and takes writes on timeline 1",
    );
    expect(writes(steady().lost().takesWrites("b"), "a")).toBe(
      "held the leader key of revision 11 when etcd was last heard, but b takes writes too",
    );
    const denied = steady()
      .lost()
      .takesWrites("a")
      .rest("a", { ok: true, role: "replica", state: "running", timeline: 1 });
    expect(writes(denied, "a")).toContain("but its Patroni says that it is a replica");
    expect(writes(etcd().says({ standbyCluster: true }).key("a"), "a")).toContain("leads a standby cluster");
  });

  test("a member of a static list is judged by its timeline", () => {
    const hosts = () => new Case("static", ["a", "b"]).says();
    expect(writes(hosts(), "a")).toBe("has not been probed yet");
    expect(writes(hosts().probe("a", {}), "a")).toBe("is in recovery");
    const two = hosts().takesWrites("a").takesWrites("b", 2);
    expect(writes(two, "b")).toBe("takes writes on timeline 2");
    expect(writes(two, "a")).toBe("takes writes on timeline 1, but timeline 2 has been written already");
    const tied = hosts().takesWrites("a", 2).takesWrites("b", 2);
    expect(writes(tied, "a")).toBe("takes writes on timeline 2, but so does b");
  });

  test("nofailover is said beside it", () => {
    const tags = { noloadbalance: false, nofailover: true };
    const members = new Map([
      ["a", member("a")],
      ["b", member("b", { tags })],
    ] as const);
    expect(writes(etcd().says({ members }).key("a"), "b")).toBe("a holds the leader key; is tagged nofailover");
  });
});

describe("why a member gets reads or not", () => {
  test("a replica streams, or says what is wrong", () => {
    expect(reads(steady().probe("b", {}), "b")).toBe("is in recovery and streams");
    expect(reads(steady().probe("b", { streaming: false }), "b")).toBe(
      "is in recovery; that it does not stream is tolerated for a while",
    );
    expect(reads(steady(), "b")).toBe("has not been probed yet");
    expect(reads(steady().probe("b", "reset").probe("b", "reset"), "b")).toBe(
      "its PostgreSQL does not serve connections: reset",
    );
    expect(reads(steady().takesWrites("b"), "b")).toBe("takes writes without being served as leader");
    expect(reads(steady(), "a")).toBe("takes writes, as the leader");
  });

  test("lag is said in steps, so that the sentence does not change with each sample", () => {
    const behind = (bytes: number): string => {
      const cluster = steady().round({ a: { inRecovery: false, position: lsn(2 ** 32) } });
      cluster.round({ a: { inRecovery: false, position: lsn(2 ** 32) }, b: { position: lsn(2 ** 32 - bytes) } });
      return reads(cluster, "b");
    };
    expect(behind(1000)).toBe("is in recovery and streams");
    expect(behind(22_000_000)).toBe("is in recovery and streams, but lags by 16 MB or more");
    expect(behind(23_000_000)).toBe(behind(22_000_000));
    expect(behind(2 ** 31)).toBe("is in recovery and streams, but lags by 1 GB or more");
  });
});
