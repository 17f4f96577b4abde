import { describe, expect, test } from "vitest";
import { lsn, millis } from "../../../src/core/units.ts";
import { gateTargets } from "../../../src/discovery/evidence.ts";
import { type Answer, Case, etcd, member, steady } from "./fixture.ts";

describe("the leader key", () => {
  test("nobody is served before the source has answered", () => {
    expect(new Case("etcd").brief).toBe("none");
    expect(new Case("etcd").reason).toBe("not yet asked");
  });

  test("a leader key is not yet writable", () => {
    const cluster = etcd().key("a");
    expect(cluster.brief).toBe("elected a 1");
    expect(gateTargets(cluster.state, cluster.now)).toEqual(["a"]);
  });

  test("a probe of the key holder that is not in recovery makes it writable", () => {
    const cluster = steady();
    expect(cluster.brief).toBe("writable a 1");
    expect(cluster.leader).toMatchObject({ epoch: { timeline: 1, revision: 11n } });
    expect(gateTargets(cluster.state, cluster.now)).toEqual([]);
  });

  test("a probe that started before the key was seen does not count", () => {
    const cluster = etcd();
    const before = cluster.now;
    cluster.wait(5).key("a").wait(5).probe("a", { inRecovery: false }, { startedAt: before });
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.takesWrites("a").brief).toBe("writable a 1");
  });

  test("a key holder that is still in recovery is elected, not writable", () => {
    const cluster = etcd().key("a").wait(1).probe("a", { inRecovery: true });
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.reason).toContain("in recovery");
  });

  test("another name in the key is a new epoch at once", () => {
    const cluster = steady().key("b");
    expect(cluster.brief).toBe("elected b 2");
    cluster.wait(1).takesWrites("b", 2);
    expect(cluster.brief).toBe("writable b 2");
    expect(cluster.leader).toMatchObject({ epoch: { timeline: 2 } });
  });

  test("the same name in a newer key is a new epoch, to be probed anew", () => {
    const cluster = steady().key("a");
    expect(cluster.brief).toBe("elected a 2");
    expect(cluster.wait(1).takesWrites("a").brief).toBe("writable a 2");
  });

  test("the same key said again changes nothing", () => {
    expect(steady().says().brief).toBe("writable a 1");
  });

  test("the key's deletion ends the leadership at once even if the old leader still answers as writable", () => {
    const cluster = steady().key(null);
    expect(cluster.brief).toBe("none");
    expect(cluster.wait(1).takesWrites("a").brief).toBe("none");
    expect(cluster.member("a")).toMatchObject({ role: "unknown", readable: false });
  });

  test("that nobody takes over while Patroni is paused is said", () => {
    expect(steady().key(null).reason).toBe("nobody holds the leader key");
    expect(steady().key(null).says({ paused: true }).reason).toContain("automatic failover is paused");
  });

  test("a member that takes writes without the key is never served", () => {
    const cluster = etcd().wait(1).takesWrites("b", 9);
    expect(cluster.brief).toBe("none");
    cluster.key("a").wait(1).probe("a", { inRecovery: true }).takesWrites("b", 9);
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.member("b").readable).toBe(false);
  });

  test("a thawed old leader that puts the key back is not believed, because its timeline is older", () => {
    const cluster = steady().key("b").wait(1).takesWrites("b", 2).wait(1).key("a").wait(1).takesWrites("a", 1);
    expect(cluster.brief).toBe("elected a 3");
    expect(cluster.reason).toContain("timeline 1");
    expect(cluster.key("b").wait(1).takesWrites("b", 2).brief).toBe("writable b 4");
  });

  test("a timeline that the history says has ended is not believed, even by a router that never saw it end", () => {
    const cluster = etcd().says({ endedTimeline: 4 }).key("a").wait(1).takesWrites("a", 4);
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.wait(1).takesWrites("a", 5).brief).toBe("writable a 1");
  });

  test("a cluster that was bootstrapped anew may begin at timeline 1 again", () => {
    const cluster = etcd().says({ incarnation: "5" }).key("a").wait(1).takesWrites("a", 7).key(null);
    cluster.says({ incarnation: "99", systemIdentifier: "8" }).key("b").wait(1);
    cluster.probe("b", { inRecovery: false, timeline: 1, systemIdentifier: "8" });
    expect(cluster.brief).toBe("writable b 2");
  });

  test("a member of another PostgreSQL cluster at the leader's address is not served", () => {
    const cluster = etcd().key("a").wait(1).probe("a", { inRecovery: false, systemIdentifier: "8" });
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.reason).toContain("system identifier");
  });

  test("a key holder without a member key cannot be served", () => {
    const cluster = steady().says({ members: new Map([["b", member("b")]]) });
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.reason).toContain("address");
  });

  test("a key holder whose address changes is probed anew", () => {
    const moved = new Map([["a", member("a", { host: "10.0.0.9" })]]);
    expect(steady().says({ members: moved }).brief).toBe("elected a 1");
  });
});

describe("the leader's PostgreSQL", () => {
  test("one failed probe is an accident, two are a reason", () => {
    const cluster = steady().probe("a", "connection refused");
    expect(cluster.brief).toBe("writable a 1");
    cluster.wait(1).probe("a", "connection refused");
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.reason).toBe("a: connection refused");
    expect(cluster.member("a").state).toBe("unreachable");
  });

  test("a restart in place ends with the same epoch when the timeline is the same", () => {
    const cluster = steady().report("a", { kind: "failed", reason: "terminated by the server" });
    expect(cluster.brief).toBe("elected a 1");
    expect(gateTargets(cluster.state, cluster.now)).toEqual(["a"]);
    expect(cluster.wait(1).takesWrites("a").brief).toBe("writable a 1");
  });

  test("a restart in place with a promotion is a new epoch", () => {
    const cluster = steady().report("a", { kind: "failed", reason: "reset" }).wait(1).takesWrites("a", 2);
    expect(cluster.brief).toBe("writable a 2");
  });

  test("a probe that was under way when a connection failed does not answer the doubt", () => {
    const cluster = steady();
    const before = cluster.now;
    cluster.wait(1).report("a", { kind: "failed", reason: "reset" });
    cluster.wait(1).probe("a", { inRecovery: false }, { startedAt: before });
    expect(cluster.brief).toBe("elected a 1");
  });

  test("connections that go on failing do not keep a probe from settling the first doubt", () => {
    const cluster = steady().report("a", { kind: "failed", reason: "reset" }).wait(1);
    const started = cluster.now;
    cluster.wait(1).report("a", { kind: "failed", reason: "reset again" });
    expect(cluster.reason).toBe("a: reset again");
    cluster.wait(1).probe("a", { inRecovery: false }, { startedAt: started });
    expect(cluster.brief).toBe("writable a 1");
  });

  test("a login in recovery ends writability until a probe", () => {
    expect(steady().report("a", { kind: "login", inRecovery: true }).brief).toBe("elected a 1");
    expect(steady().report("a", { kind: "login", inRecovery: false }).brief).toBe("writable a 1");
    expect(steady().report("a", { kind: "login", inRecovery: null }).brief).toBe("writable a 1");
  });

  test("a probe that finds it in recovery ends writability", () => {
    expect(steady().probe("a", { inRecovery: true }).brief).toBe("elected a 1");
  });

  test("an answer that is too old no longer counts", () => {
    expect(steady().wait(2900).brief).toBe("writable a 1");
    expect(steady().wait(3100).brief).toBe("elected a 1");
  });

  test("evidence about members that no source knows changes nothing", () => {
    const cluster = steady();
    const before = cluster.state;
    cluster.takesWrites("z").report("z", { kind: "failed", reason: "x" }).rest("z", { ok: false, reason: "x" });
    expect(cluster.state).toBe(before);
  });
});

describe("a switchover that was asked for", () => {
  const asked = { id: "1", leader: "a", candidate: "b", dueAt: null };

  test("makes the leader drain", () => {
    expect(steady().says({ failover: asked }).brief).toBe("draining a 1");
  });

  test("is over after thirty seconds in which the leader has not changed", () => {
    const cluster = steady().says({ failover: asked }).wait(29_000).takesWrites("a");
    expect(cluster.brief).toBe("draining a 1");
    expect(cluster.wait(1000).takesWrites("a").brief).toBe("writable a 1");
    expect(cluster.says({ failover: { ...asked, id: "2" } }).brief).toBe("draining a 1");
  });

  test("is called off when the key says nothing any more", () => {
    expect(steady().says({ failover: asked }).says({ failover: null }).brief).toBe("writable a 1");
  });

  test("is not due before its time", () => {
    const cluster = steady();
    cluster.says({ failover: { ...asked, dueAt: millis(cluster.now + 5000) } });
    expect(cluster.brief).toBe("writable a 1");
    expect(cluster.wait(4999).takesWrites("a").brief).toBe("writable a 1");
    expect(cluster.wait(1).brief).toBe("draining a 1");
  });

  test("concerns only the leader that it names, and a manual failover only another candidate", () => {
    expect(steady().says({ failover: { ...asked, leader: "b" } }).brief).toBe("writable a 1");
    expect(steady().says({ failover: { ...asked, leader: null } }).brief).toBe("draining a 1");
    expect(steady().says({ failover: { ...asked, leader: null, candidate: "a" } }).brief).toBe("writable a 1");
  });

  test("does not hide that the leader is away", () => {
    const cluster = steady().says({ failover: asked }).report("a", { kind: "failed", reason: "shut down" });
    expect(cluster.brief).toBe("elected a 1");
  });
});

describe("losing the source", () => {
  test("is not losing the leader while its PostgreSQL confirms it", () => {
    const cluster = steady().lost();
    expect(cluster.brief).toBe("writable a 1");
    expect(cluster.topology.source.connected).toBe(false);
    expect(cluster.wait(2000).takesWrites("a").wait(2000).brief).toBe("writable a 1");
  });

  test("leaves nobody when nothing confirms the leader any more", () => {
    expect(steady().lost().wait(3100).brief).toBe("none");
    expect(steady().lost().report("a", { kind: "failed", reason: "refused" }).brief).toBe("none");
    expect(steady().lost().probe("a", { inRecovery: true }).reason).toContain("etcd is away");
  });

  test("leaves nobody when two members take writes on the newest timeline", () => {
    expect(steady().lost().takesWrites("b", 1).brief).toBe("none");
    expect(steady().lost().takesWrites("b", 2).brief).toBe("none");
  });

  test("does not mind a member that takes writes on an older timeline", () => {
    const cluster = etcd().key("a").wait(1).takesWrites("a", 5).lost().takesWrites("b", 4);
    expect(cluster.brief).toBe("writable a 1");
  });

  test("leaves nobody when Patroni itself says that the leader is a replica", () => {
    const replica = { ok: true, role: "replica", state: "running", timeline: 1 } as const;
    expect(steady().lost().rest("a", replica).brief).toBe("none");
    expect(
      steady()
        .lost()
        .rest("a", { ...replica, role: "primary" }).brief,
    ).toBe("writable a 1");
    expect(steady().lost().rest("a", { ok: false, reason: "no answer" }).brief).toBe("writable a 1");
  });

  test("keeps the replicas readable", () => {
    const cluster = steady().probe("b", {}).lost();
    expect(cluster.member("b").readable).toBe(true);
  });

  test("ends with the same epoch when the same key is still there", () => {
    const cluster = steady().lost().wait(5000);
    expect(cluster.brief).toBe("none");
    expect(cluster.says().takesWrites("a").brief).toBe("writable a 1");
  });
});

describe("a standby cluster", () => {
  test("has a leader that is never writable", () => {
    const cluster = etcd().says({ standbyCluster: true }).key("a").wait(1).takesWrites("a");
    expect(cluster.brief).toBe("standby a 1");
    expect(cluster.member("a").role).toBe("standby_leader");
    expect(gateTargets(cluster.state, cluster.now)).toEqual([]);
  });

  test("becomes an ordinary one when its configuration says so", () => {
    const cluster = etcd().says({ standbyCluster: true }).key("a").wait(1).probe("a", { inRecovery: true });
    expect(cluster.member("a").readable).toBe(true);
    cluster.says({ standbyCluster: false });
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.wait(1).takesWrites("a", 2).brief).toBe("writable a 1");
  });

  test("is known by its member's role when the configuration is not", () => {
    const leading = new Map([["a", member("a", { role: "standby_leader" })]]);
    expect(etcd().says({ members: leading }).key("a").brief).toBe("standby a 1");
  });
});

describe("a static list", () => {
  const list = (): Case => new Case("static").says();

  test("is led by the only member that takes writes", () => {
    const cluster = list().probe("a", {}).takesWrites("b", 3).probe("c", {});
    expect(cluster.brief).toBe("writable b 1");
    expect(cluster.leader).toMatchObject({ epoch: { timeline: 3, revision: 0n } });
  });

  test("is led by nobody while all are in recovery, and all are gates then", () => {
    const cluster = list().probe("a", {}).probe("b", {}).probe("c", {});
    expect(cluster.brief).toBe("none");
    expect(gateTargets(cluster.state, cluster.now)).toEqual(["a", "b", "c"]);
  });

  test("is led by the newer timeline when two take writes, and for ever after", () => {
    const cluster = list().takesWrites("a", 1).takesWrites("b", 2);
    expect(cluster.brief).toBe("writable b 2");
    expect(cluster.report("b", { kind: "failed", reason: "reset" }).takesWrites("a", 1).brief).toBe("none");
    expect(cluster.wait(1).takesWrites("b", 2).brief).toBe("writable b 2");
  });

  test("is led by nobody when two take writes on the same timeline", () => {
    const cluster = list().takesWrites("a", 2).takesWrites("b", 2);
    expect(cluster.brief).toBe("none");
    expect(cluster.reason).toContain("both");
    expect(cluster.wait(1).probe("b", { inRecovery: true }).brief).toBe("writable a 1");
  });

  test("is led by nobody when the tie comes from the members behind the first", () => {
    const cluster = list().takesWrites("c", 2).takesWrites("b", 2).takesWrites("a", 1);
    expect(cluster.brief).toBe("none");
  });

  test("is led by the same epoch after a restart on the same timeline", () => {
    const cluster = list().takesWrites("a", 2).report("a", { kind: "failed", reason: "reset" });
    expect(cluster.brief).toBe("none");
    expect(cluster.wait(1).takesWrites("a", 2).brief).toBe("writable a 1");
  });

  test("learns nothing from another cluster's server at one address while the other members are silent", () => {
    const cluster = new Case("static", ["a", "b"]).says().takesWrites("a", 3).probe("b", {}).wait(4000);
    cluster.probe("a", "connection refused").probe("a", "connection refused");
    expect(cluster.probe("b", { inRecovery: false, systemIdentifier: "8" }).brief).toBe("none");
    expect(cluster.member("b").why.writes).toBe("has another system identifier than this cluster");
    expect(cluster.takesWrites("a", 3).brief).toBe("writable a 1");
  });

  test("learns another system identifier only when all members agree on it", () => {
    const cluster = list().takesWrites("a", 5).probe("b", { inRecovery: false, timeline: 9, systemIdentifier: "8" });
    expect(cluster.brief).toBe("writable a 1");
    cluster.wait(4000).probe("b", { inRecovery: false, timeline: 1, systemIdentifier: "8" });
    expect(cluster.brief).toBe("none");
    cluster.probe("a", { systemIdentifier: "8" }).probe("c", { systemIdentifier: "8" });
    expect(cluster.probe("b", { inRecovery: false, timeline: 1, systemIdentifier: "8" }).brief).toBe("writable b 2");
  });
});

describe("a patroni source", () => {
  test("takes the leader by name, and a newer timeline of the same name as a new epoch", () => {
    const cluster = new Case("patroni").says({ leader: { member: "a", revision: 0n } });
    expect(cluster.brief).toBe("elected a 1");
    expect(cluster.wait(1).takesWrites("a", 1).brief).toBe("writable a 1");
    expect(cluster.wait(1).takesWrites("a", 3).brief).toBe("writable a 2");
    expect(cluster.says({ leader: { member: "b", revision: 0n } }).brief).toBe("elected b 3");
  });
});

describe("members", () => {
  test("a replica is readable when it streams, and says why when it is not", () => {
    const cluster = steady();
    expect(cluster.member("b")).toMatchObject({ readable: false, reason: "not yet probed", role: "replica" });
    expect(cluster.probe("b", {}).member("b")).toMatchObject({ readable: true, reason: "", role: "replica" });
    expect(cluster.probe("b", { streaming: null }).member("b").readable).toBe(true);
    cluster.wait(1).report("b", { kind: "failed", reason: "reset by peer" });
    expect(cluster.member("b")).toMatchObject({ readable: false, state: "unreachable", reason: "reset by peer" });
  });

  test("a replica that has lost its stream is read from until it has had two chances to find it again", () => {
    const cluster = steady();
    for (let second = 0; second <= 10; second += 1) {
      cluster.takesWrites("a").probe("b", { streaming: false });
      expect(cluster.member("b").readable).toBe(true);
      cluster.wait(1000);
    }
    expect(cluster.takesWrites("a").probe("b", { streaming: false }).member("b").reason).toBe("does not stream");
    expect(cluster.probe("b", {}).member("b").readable).toBe(true);
  });

  test("while nobody leads, a replica without a stream goes on with its reads", () => {
    const cluster = steady().probe("b", { streaming: false }).wait(60_000).key(null).probe("b", { streaming: false });
    expect(cluster.brief).toBe("none");
    expect(cluster.member("b").readable).toBe(true);
  });

  test("a replica is not readable when it is tagged, stopping, or its answer is old", () => {
    const tags = { noloadbalance: true, nofailover: false };
    const members = new Map([
      ["a", member("a")],
      ["b", member("b", { tags })],
      ["c", member("c", { state: "stopping" })],
    ]);
    const cluster = etcd().says({ members }).key("a").wait(1).takesWrites("a").probe("b", {}).probe("c", {});
    expect(cluster.member("b").reason).toBe("is tagged noloadbalance");
    expect(cluster.member("c").reason).toBe("is stopping");
    const nostream = new Map([
      ...members,
      ["b", member("b", { tags: { ...tags, noloadbalance: false, nostream: true } })],
    ]);
    expect(cluster.says({ members: nostream }).member("b").reason).toBe("is tagged nostream");
    expect(steady().probe("b", {}).wait(3100).member("b").readable).toBe(false);
  });

  test("the writable leader is readable, an elected one is not", () => {
    expect(steady().member("a")).toMatchObject({ role: "leader", readable: true, lagBytes: null });
    expect(steady().report("a", { kind: "login", inRecovery: true }).member("a").readable).toBe(false);
  });

  test("members that vanish are removed with what was seen of them", () => {
    const cluster = steady().probe("b", {});
    const without = new Map([["a", member("a")]]);
    expect([...cluster.says({ members: without }).topology.members.keys()]).toEqual(["a"]);
    cluster.says({ members: new Map([...without, ["b", member("b")]]) });
    expect(cluster.member("b").reason).toBe("not yet probed");
  });

  test("members come in the order of their names", () => {
    const cluster = new Case("etcd", ["c", "a", "b"]).says();
    expect([...cluster.topology.members.keys()]).toEqual(["a", "b", "c"]);
  });
});

describe("lag", () => {
  const writes = (position: number): Answer => ({ inRecovery: false, position: lsn(position) });

  test("compares positions of the same round, whichever answer came first", () => {
    const cluster = steady().round({ a: writes(5000), b: { position: lsn(4000) } });
    expect(cluster.member("b")).toMatchObject({ lagBytes: 1000, lagSamples: 1 });
    cluster.wait(1000).round({ b: { position: lsn(5500) }, a: writes(6000) });
    expect(cluster.member("b")).toMatchObject({ lagBytes: 500, lagSamples: 2 });
  });

  test("is never negative", () => {
    expect(
      steady()
        .round({ a: writes(5000), b: { position: lsn(5010) } })
        .member("b").lagBytes,
    ).toBe(0);
  });

  test("keeps its last value while the leader's position is not known", () => {
    const cluster = steady().round({ a: writes(5000), b: { position: lsn(4000) } });
    cluster.wait(1000).round({ b: { position: lsn(4500) } });
    expect(cluster.member("b")).toMatchObject({ lagBytes: 1000, lagSamples: 1, position: 4500n });
    cluster.key("c").round({ b: { position: lsn(4800) }, a: writes(9000) });
    expect(cluster.member("b")).toMatchObject({ lagBytes: 1000, lagSamples: 1 });
  });

  test("takes no position from a member that only says that it takes writes", () => {
    const cluster = steady().round({ c: { ...writes(99_000), timeline: 1 }, b: { position: lsn(4000) } });
    expect(cluster.member("b").lagBytes).toBeNull();
  });
});
