import { describe, expect, test } from "vitest";
import type { Logger } from "../../../src/core/logger.ts";
import { lsn, millis } from "../../../src/core/units.ts";
import type { ProbeTarget, SqlEvidence, SqlProber } from "../../../src/discovery/feed.ts";
import { ClusterObserver, observeCluster } from "../../../src/discovery/observer.ts";
import type { Paper } from "../../../src/discovery/recorder.ts";
import { beliefsOf, beliefsThen, replay } from "../../../src/discovery/replay.ts";
import type { LeaderState } from "../../../src/discovery/topology.ts";
import { readTranscript } from "../../../src/discovery/transcript.ts";
import { FakeClock, settle } from "../../support/fake-clock.ts";

type Answer = { readonly inRecovery: boolean; readonly timeline?: number; readonly position?: number } | string;

/** Members' PostgreSQL as a script: what each would answer now, after `delayMs`. */
class Servers implements SqlProber {
  readonly answers = new Map<string, Answer>();
  /** Members whose next probe fails, that one alone. */
  readonly accidents = new Set<string>();
  readonly asked: { readonly member: string; readonly at: number }[] = [];
  readonly forgotten: string[] = [];
  overlaps = 0;
  delayMs = 0;
  readonly #clock: FakeClock;
  readonly #busy = new Set<string>();

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  probe({ member }: ProbeTarget): Promise<SqlEvidence> {
    if (this.#busy.has(member)) this.overlaps += 1;
    this.#busy.add(member);
    this.asked.push({ member, at: this.#clock.now() });
    const accident = this.accidents.delete(member);
    const answer = accident ? "reset" : (this.answers.get(member) ?? "connection refused");
    return new Promise((resolve) => {
      const done = (): void => {
        this.#busy.delete(member);
        resolve(evidence(answer));
      };
      if (this.delayMs === 0) done();
      else this.#clock.after(millis(this.delayMs), done);
    });
  }

  forget(member: string): void {
    this.forgotten.push(member);
  }

  close(): void {}

  times(member: string, from = 0): number[] {
    return this.asked.filter((probe) => probe.member === member && probe.at >= from).map(({ at }) => at);
  }
}

function evidence(answer: Answer): SqlEvidence {
  if (typeof answer === "string") return { ok: false, reason: answer };
  const { inRecovery, timeline = 1, position = 1000 } = answer;
  const streaming = inRecovery ? true : null;
  return { ok: true, inRecovery, timeline, position: lsn(position), streaming, systemIdentifier: "7" };
}

const A = "10.0.0.1:5432";
const B = "10.0.0.2:5432";
const brief = (leader: LeaderState): string =>
  leader.kind === "none" ? "none" : `${leader.kind} ${leader.member} ${leader.epoch.sequence}`;

function setup(paper?: Paper) {
  const clock = new FakeClock();
  const servers = new Servers(clock);
  const lines: string[] = [];
  const write = (_fields: unknown, message: string): void => {
    lines.push(message);
  };
  const logger: Logger = { debug: () => {}, info: write, warn: write, error: write, child: () => logger };
  const hosts = [
    { host: "10.0.0.1", port: 5432 },
    { host: "10.0.0.2", port: 5432 },
  ];
  const observer = observeCluster(clock, logger, servers, {
    cluster: "main",
    source: { kind: "static", hosts },
    ...(paper === undefined ? {} : { paper }),
  });
  const told: string[] = [];
  observer.subscribe((now) => told.push(brief(now.leader)));
  servers.answers.set(A, { inRecovery: false });
  servers.answers.set(B, { inRecovery: true });
  return { clock, servers, observer, told, lines };
}

describe("a cluster observer", () => {
  test("shows a topology before it is started, and asks nobody", async () => {
    const { observer, servers, clock } = setup();
    await clock.advance(5000);
    expect(observer).toBeInstanceOf(ClusterObserver);
    expect(observer.current().leader.kind).toBe("none");
    expect(servers.asked).toEqual([]);
  });

  test("probes every member at once, then in rounds", async () => {
    const { observer, servers, clock } = setup();
    observer.start();
    await clock.advance(3500);
    expect(brief(observer.current().leader)).toBe(`writable ${A} 1`);
    expect(servers.times(B)).toEqual([0, 1000, 2000, 3000]);
  });

  test("tells subscribers in the turn in which the evidence arrives, with what was believed before", async () => {
    const { observer, clock } = setup();
    observer.start();
    await clock.advance(1);
    const seen: string[] = [];
    observer.subscribe((now, before) => {
      expect(observer.current()).toBe(now);
      seen.push(`${brief(before.leader)} → ${brief(now.leader)}`);
    });
    observer.report(A, { kind: "failed", reason: "reset" });
    expect(seen).toEqual([`writable ${A} 1 → none`]);
  });

  test("tells of nothing that has not changed", async () => {
    const { observer, clock, told } = setup();
    observer.start();
    // The first round also brings the first lag sample.
    await clock.advance(1500);
    const before = told.length;
    observer.report(A, { kind: "login", inRecovery: false });
    expect(told.length).toBe(before);
    await clock.advance(3000);
    // Three rounds, three lag samples of one replica.
    expect(told.length).toBe(before + 3);
  });

  test("asks again at once after a failure, and believes the second", async () => {
    const { observer, servers, clock } = setup();
    observer.start();
    await clock.advance(500);
    servers.answers.set(A, "connection refused");
    await clock.advance(500);
    expect(servers.times(A, 1000).slice(0, 2)).toEqual([1000, 1000]);
    expect(observer.current().leader).toMatchObject({ kind: "none" });
  });

  test("survives one failure that was an accident", async () => {
    const { observer, servers, clock, told } = setup();
    observer.start();
    await clock.advance(500);
    const before = told.length;
    servers.accidents.add(A);
    await clock.advance(3000);
    expect(servers.accidents.size).toBe(0);
    expect(told.slice(before)).not.toContain("none");
  });

  test("probes the gate every 50 ms, every 5 ms while somebody waits, and never twice at a time", async () => {
    const { observer, servers, clock } = setup();
    servers.answers.set(A, { inRecovery: true });
    observer.start();
    await clock.advance(200);
    expect(servers.times(A)).toEqual([0, 50, 100, 150, 200]);
    observer.setUrgent(true);
    await clock.advance(20);
    expect(servers.times(A, 201)).toEqual([205, 210, 215, 220]);
    servers.delayMs = 12;
    await clock.advance(40);
    servers.answers.set(A, { inRecovery: false, timeline: 2 });
    await clock.advance(40);
    expect(servers.overlaps).toBe(0);
    expect(brief(observer.current().leader)).toBe(`writable ${A} 1`);
    const after = clock.now();
    observer.setUrgent(false);
    await clock.advance(500);
    expect(servers.times(A, after + 20)).toEqual([]);
  });

  test("takes reports that subscribers make while they are told, in order", async () => {
    const { observer, clock, told } = setup();
    let reported = false;
    observer.subscribe((now) => {
      if (reported || now.leader.kind !== "writable") return;
      reported = true;
      observer.report(A, { kind: "failed", reason: "reset" });
    });
    observer.start();
    await clock.advance(100);
    const first = told.indexOf(`writable ${A} 1`);
    expect(told[first + 1]).toBe("none");
    expect(told.at(-1)).toBe(`writable ${A} 1`);
  });

  test("lets a leader go whose answers have grown old, although nothing else happens", async () => {
    const { observer, servers, clock } = setup();
    observer.start();
    await clock.advance(500);
    servers.delayMs = 1e9;
    await clock.advance(6000);
    expect(observer.current().leader.kind).toBe("none");
  });

  test("writes one line for each change of leader", async () => {
    const { observer, servers, clock, lines } = setup();
    observer.start();
    await clock.advance(5000);
    expect(lines.filter((line) => line === "leader is writable")).toHaveLength(1);
    servers.answers.set(A, { inRecovery: true });
    servers.answers.set(B, { inRecovery: false, timeline: 2 });
    await clock.advance(5000);
    expect(brief(observer.current().leader)).toBe(`writable ${B} 2`);
    expect(lines.filter((line) => line === "leader is writable")).toHaveLength(2);
  });

  test("writes down what it sees, so that a replay believes the same at the same moments", async () => {
    const lines: string[] = [];
    const pages: Paper = { write: (line) => lines.push(line), turn: () => lines.splice(0) };
    const { observer, servers, clock } = setup(pages);
    await clock.advance(700);
    observer.start();
    await clock.advance(1500);
    servers.answers.set(A, "connection refused");
    await clock.advance(3000);
    servers.answers.set(A, { inRecovery: true, timeline: 2 });
    servers.answers.set(B, { inRecovery: false, timeline: 2 });
    servers.delayMs = 7;
    await clock.advance(2000);
    // Answers that never come: what is believed changes with time alone.
    servers.delayMs = 60_000;
    await clock.advance(9000);
    const transcript = readTranscript(lines.join("\n"));
    expect(beliefsOf(transcript)).toEqual(beliefsThen(transcript));
    expect(transcript.entries.map(({ kind }) => kind)).toContain("time");
    expect([...replay(transcript)].at(-1)?.topology).toEqual(observer.current());
  });

  test("is silent after it was closed", async () => {
    const { observer, servers, clock, told } = setup();
    observer.start();
    await clock.advance(500);
    await observer.close();
    const [asked, heard] = [servers.asked.length, told.length];
    observer.report(A, { kind: "failed", reason: "reset" });
    observer.setUrgent(true);
    await clock.advance(5000);
    await settle();
    expect([servers.asked.length, told.length]).toEqual([asked, heard]);
    expect(servers.forgotten.sort()).toEqual([A, B]);
  });
});
