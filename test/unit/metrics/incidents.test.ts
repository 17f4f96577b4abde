import { describe, expect, test } from "vitest";
import { INCIDENTS_KEPT_MAX } from "../../../src/core/limits.ts";
import type { ConnectionEvidence, TopologyFeed } from "../../../src/discovery/feed.ts";
import type { LeaderState, Topology } from "../../../src/discovery/topology.ts";
import { type Incident, kindOf, markOf } from "../../../src/metrics/incident.ts";
import { Incidents } from "../../../src/metrics/incidents.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { elected, none, topology, writable } from "./fixture.ts";

const successor: LeaderState = { kind: "writable", member: "b", epoch: { timeline: 3, revision: 12n, sequence: 4 } };
const refused: ConnectionEvidence = { kind: "failed", reason: "connect ECONNREFUSED" };

/** A cluster whose leader a test says, and what is recorded of it. */
class Scene {
  readonly clock = new FakeClock();
  readonly incidents = new Incidents(this.clock, ["main", "other"]);
  readonly finished: Incident[] = [];
  readonly reported: string[] = [];
  readonly heard: LeaderState["kind"][] = [];
  readonly witness = this.incidents.witness("main");
  readonly feed: TopologyFeed;
  readonly #listeners: ((now: Topology, before: Topology) => void)[] = [];
  #topology = topology(writable);

  constructor() {
    this.incidents.subscribe((incident) => this.finished.push(incident));
    this.feed = this.incidents.watch("main", {
      current: () => this.#topology,
      subscribe: (listener) => {
        this.#listeners.push(listener);
        return () => {};
      },
      setUrgent: () => {},
      report: (member, { kind }) => this.reported.push(`${member} ${kind}`),
    });
  }

  lead(leader: LeaderState): void {
    const before = this.#topology;
    this.#topology = topology(leader);
    for (const listener of this.#listeners) listener(this.#topology, before);
  }

  get causes(): string[] {
    return this.incidents.list().map(({ incident }) => incident.cause);
  }

  /** The leader is in doubt for `ms`. */
  async doubt(ms: number): Promise<void> {
    this.lead(elected);
    await this.clock.advance(ms);
    this.lead(writable);
    await this.clock.advance(2000);
  }
}

describe("the records of changes of leader", () => {
  test("hear of a change before the data plane does, and pass on what it reports", () => {
    const scene = new Scene();
    scene.feed.subscribe((now) => {
      scene.heard.push(now.leader.kind);
      scene.witness.held(scene);
    });
    scene.feed.report("a", refused);
    scene.lead(elected);
    expect([scene.reported, scene.heard, scene.causes]).toEqual([["a failed"], ["elected"], ["connection_refused"]]);
    expect(scene.incidents.list()[0]?.incident.held.now).toBe(1);
  });

  test("know each wait once, however often it is said, and how long it was", async () => {
    const scene = new Scene();
    const [one, two, stranger] = [{}, {}, {}];
    scene.lead(none);
    scene.witness.held(one);
    await scene.clock.advance(10);
    for (const each of [one, two, one]) scene.witness.held(each);
    await scene.clock.advance(100);
    expect(scene.incidents.totals("main")).toMatchObject({ going: true, held: 2, served: 0, longestWaitMs: 110 });
    scene.lead(successor);
    scene.witness.granted(stranger);
    scene.witness.granted(one);
    scene.witness.gaveUp(two);
    scene.witness.gaveUp(two);
    scene.witness.answered();
    expect(scene.finished).toHaveLength(1);
    expect(scene.finished[0]?.held).toEqual({ now: 0, most: 2, total: 2, served: 1, longestMs: 110 });
    expect(scene.incidents.totals("main")).toMatchObject({ going: false, held: 2, served: 1, longestWaitMs: 110 });
  });

  test("are over with the first answer after nobody waits, or a second later", async () => {
    const scene = new Scene();
    scene.lead(none);
    scene.witness.held(scene);
    expect(scene.witness.awaitsAnswer).toBe(false);
    scene.lead(successor);
    expect(scene.witness.awaitsAnswer).toBe(true);
    scene.witness.granted(scene);
    expect([scene.finished.length, scene.witness.awaitsAnswer]).toEqual([0, true]);
    scene.witness.answered();
    expect([scene.finished.length, scene.witness.awaitsAnswer]).toEqual([1, false]);
    scene.lead(none);
    scene.lead(successor);
    await scene.clock.advance(999);
    expect(scene.finished).toHaveLength(1);
    await scene.clock.advance(1);
    expect(scene.finished).toHaveLength(2);
    const answers = scene.finished.map((incident) => markOf(incident, "first_answer")?.afterMs ?? null);
    expect(answers).toEqual([0, null]);
  });

  test("are two when the leader goes again, once nobody waited any more", () => {
    const scene = new Scene();
    scene.lead(none);
    scene.lead(writable);
    scene.lead(none);
    expect(scene.finished).toHaveLength(1);
    expect(scene.incidents.list().map(({ incident, going }) => [incident.id, going])).toEqual([
      [2, true],
      [1, false],
    ]);
  });

  test("count errors that an absence gives, and no others", () => {
    const scene = new Scene();
    scene.witness.gave("outcome_unknown");
    scene.lead(none);
    for (const error of ["leader_changed", "password_failed", "leader_changed", "broken_off"] as const)
      scene.witness.gave(error);
    scene.witness.reran();
    scene.witness.cut(3);
    scene.lead(successor);
    scene.witness.answered();
    scene.witness.gave("leader_changed");
    const errors = new Map([
      ["leader_changed", 2],
      ["broken_off", 1],
    ]);
    expect(scene.finished[0]).toMatchObject({ errors, reruns: 1, cut: 3 });
    expect(scene.incidents.totals("main")).toMatchObject({ errors, reruns: 1, kinds: new Map([["failover", 1]]) });
    expect(scene.incidents.totals("other")).toMatchObject({ held: 0, going: false, longestWaitMs: null });
  });

  test("are listed newest first, of one cluster where it is named", () => {
    const scene = new Scene();
    scene.lead(none);
    expect(scene.incidents.list("main")).toHaveLength(1);
    expect(scene.incidents.list("other")).toEqual([]);
  });

  test("are INCIDENTS_KEPT_MAX; the first to go are doubts at nobody's cost", async () => {
    const scene = new Scene();
    await scene.doubt(1500);
    for (let count = 0; count < INCIDENTS_KEPT_MAX + 5; count += 1) await scene.doubt(2);
    const kept = scene.incidents.list().map(({ incident }) => incident);
    expect(kept).toHaveLength(INCIDENTS_KEPT_MAX);
    expect(kept.at(-1)?.id).toBe(1);
    expect(kept.every((incident) => kindOf(incident) === "away")).toBe(true);
    for (let count = 0; count < INCIDENTS_KEPT_MAX; count += 1) await scene.doubt(1500);
    const ids = scene.incidents.list().map(({ incident }) => incident.id);
    expect(ids).toHaveLength(INCIDENTS_KEPT_MAX);
    await scene.doubt(1500);
    expect(scene.incidents.list().some(({ incident }) => incident.id === ids.at(-1))).toBe(false);
  });
});
