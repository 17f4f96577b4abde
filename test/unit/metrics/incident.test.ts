import { describe, expect, test } from "vitest";
import { INCIDENT_MARKS_MAX } from "../../../src/core/limits.ts";
import { millis } from "../../../src/core/units.ts";
import type { LeaderState } from "../../../src/discovery/topology.ts";
import {
  awaitsAnswer,
  awayMs,
  beginIncident,
  errorCount,
  type GivenError,
  type Happening,
  hasEnded,
  type Incident,
  kindOf,
  markOf,
  stepIncident,
} from "../../../src/metrics/incident.ts";
import type { Cause } from "../../../src/metrics/incident-cause.ts";

const epochOf = (sequence: number, timeline: number, revision = BigInt(sequence)) => ({ sequence, timeline, revision });
const gone: LeaderState = { kind: "none", reason: "nobody holds the leader key" };
const draining: LeaderState = {
  kind: "draining",
  member: "a",
  epoch: epochOf(1, 1),
  reason: "a switchover was asked for",
};
const doubted = (reason: string): LeaderState => ({ kind: "elected", member: "a", epoch: epochOf(1, 1), reason });
const elected = (member: string, sequence: number): LeaderState => ({
  kind: "elected",
  member,
  epoch: epochOf(sequence, 0),
  reason: `${member} is still in recovery`,
});
const writable = (member: string, sequence: number, timeline: number, revision?: bigint): LeaderState => ({
  kind: "writable",
  member,
  epoch: epochOf(sequence, timeline, revision),
});

type Word = "held" | "served" | "gone" | "answered" | "reran";
/** Each part of a story is the time and what happened then. */
type Part = readonly [at: number, what: LeaderState | Word | number | { readonly gave: GivenError }];

function happeningOf([after, what]: Part): Happening {
  const at = millis(1000 + after);
  if (typeof what === "number") return { kind: "cut", at, connections: what };
  if (typeof what === "object")
    return "gave" in what ? { kind: "gave", error: what.gave } : { kind: "leader", at, leader: what, keyKnown: true };
  if (what === "held" || what === "answered") return { kind: what, at };
  if (what === "reran") return { kind: "reran" };
  return { kind: "released", at, served: what === "served", waitedMs: after };
}

/** Leader `a` of epoch 1 is the old one. */
function replay(cause: Cause, reason: string, parts: readonly Part[]): Incident {
  const old = { member: "a", epoch: 1, timeline: 1 };
  const seed = { id: 1, cluster: "main", at: millis(1000), wall: 0, holding: 0 };
  const first = beginIncident({ ...seed, cause, reason, old, key: "a 1" });
  return parts.map(happeningOf).reduce(stepIncident, first);
}

const timelineOf = ({ timeline }: Incident) => timeline.map(({ phase, afterMs }) => `${afterMs} ${phase}`);

describe("the record of a change of leader", () => {
  test("of a switchover has its phases in their order, who waited, and what was avoided", () => {
    const incident = replay("announced", "a switchover was asked for", [
      [0, draining],
      [3, "held"],
      [4, "held"],
      [180, doubted("a: the database system is shutting down")],
      [1100, gone],
      [1100, 7],
      [1200, elected("b", 2)],
      [1400, writable("b", 2, 2)],
      [1403, "served"],
      [1405, "answered"],
      [1406, "served"],
    ]);
    expect(timelineOf(incident)).toEqual([
      "0 first_sign",
      "3 first_hold",
      "180 sign",
      "1100 key_gone",
      "1100 fence",
      "1200 key",
      "1400 gate",
      "1403 first_lease",
      "1405 first_answer",
      "1406 end",
    ]);
    expect(kindOf(incident)).toBe("switchover");
    expect(awayMs(incident)).toBe(1400);
    expect(incident).toMatchObject({
      old: { member: "a", epoch: 1, timeline: 1 },
      holder: { member: "b", epoch: 2, timeline: 2 },
      cut: 7,
      held: { now: 0, most: 2, total: 2, served: 2, longestMs: 1406 },
      waitsFor: "",
    });
    expect(errorCount(incident)).toBe(0);
  });

  test("of a failover says what clients were given, by kind, and what was run again", () => {
    const incident = replay("leader_key_gone", gone.reason, [
      [0, gone],
      [0, 3],
      [0, { gave: "leader_changed" }],
      [0, { gave: "outcome_unknown" }],
      [0, { gave: "leader_changed" }],
      [0, { gave: "broken_off" }],
      [0, "reran"],
      [100, elected("b", 2)],
      [300, writable("b", 2, 2)],
    ]);
    expect(kindOf(incident)).toBe("failover");
    expect(timelineOf(incident)).toEqual(["0 first_sign", "0 key_gone", "0 fence", "100 key", "300 gate", "300 end"]);
    expect(Object.fromEntries(incident.errors)).toEqual({ leader_changed: 2, outcome_unknown: 1, broken_off: 1 });
    expect([errorCount(incident), incident.reruns]).toEqual([4, 1]);
  });

  test("of a key that passes from hand to hand says so, though nobody saw it deleted", () => {
    const incident = replay("leader_key_changed", "b holds the leader key", [
      [0, elected("b", 2)],
      [0, 2],
      [50, writable("b", 2, 2)],
    ]);
    expect(timelineOf(incident)).toEqual(["0 first_sign", "0 key", "0 fence", "50 gate", "50 end"]);
    expect(kindOf(incident)).toBe("failover");
  });

  test("of a crash that is repaired in place tells the story, and knows no new key for a newer timeline", () => {
    const incident = replay("connection_refused", "a: connect ECONNREFUSED", [
      [0, doubted("a: connect ECONNREFUSED")],
      [2, "held"],
      [3000, doubted("a: the database system is starting up")],
      [3001, doubted("a: connect ECONNREFUSED")],
      [3200, doubted("a is still in recovery")],
      [3500, writable("a", 2, 2, 1n)],
      [3502, "served"],
    ]);
    expect(kindOf(incident)).toBe("away");
    expect(timelineOf(incident)).toEqual([
      "0 first_sign",
      "2 first_hold",
      "3000 sign",
      "3200 sign",
      "3500 gate",
      "3502 first_lease",
      "3502 end",
    ]);
  });

  test("of a switchover that was called off is one, too", () => {
    const incident = replay("announced", "a switchover was asked for", [
      [0, draining],
      [5, "held"],
      [900, writable("a", 1, 1)],
      [901, "served"],
    ]);
    expect([kindOf(incident), awayMs(incident), hasEnded(incident)]).toEqual(["called_off", 900, true]);
    expect(incident.held).toMatchObject({ total: 1, served: 1, longestMs: 901 });
  });

  test("of a pause looks like one, from its beginning until the leader goes", () => {
    const pause = (...parts: Part[]) => kindOf(replay("pause_requested", "", [[0, draining], ...parts]));
    expect(pause()).toBe("paused");
    expect(pause([900, writable("a", 1, 1)])).toBe("paused");
    expect(pause([10, gone], [50, elected("b", 2)], [90, writable("b", 2, 2)])).toBe("switchover");
  });

  test("of a switchover whose leader went and came back is an absence, not a call-off", () => {
    const back = replay("announced", "", [
      [0, draining],
      [10, gone],
      [50, elected("a", 2)],
      [90, writable("a", 2, 1)],
    ]);
    expect(kindOf(back)).toBe("away");
    const stayed = replay("announced", "", [
      [0, draining],
      [10, doubted("a: gone")],
      [90, writable("a", 1, 1)],
    ]);
    expect(kindOf(stayed)).toBe("away");
  });

  test("of a cluster that becomes a standby is over at once", () => {
    const standby: LeaderState = { kind: "standby", member: "a", epoch: epochOf(1, 1) };
    const incident = replay("standby", "the cluster replicates from another one", [[0, standby]]);
    expect([kindOf(incident), hasEnded(incident), awaitsAnswer(incident)]).toEqual(["standby", true, false]);
  });

  test("goes on while somebody waits, and counts who gave up without being served", () => {
    const parts: Part[] = [
      [0, gone],
      [1, "held"],
      [2, "held"],
      [50, elected("b", 2)],
      [60, writable("b", 2, 2)],
    ];
    const waiting = replay("leader_key_gone", "", parts);
    expect(hasEnded(waiting)).toBe(false);
    const over = replay("leader_key_gone", "", [...parts, [61, "gone"], [70, "served"]]);
    expect(hasEnded(over)).toBe(true);
    expect(over.held).toMatchObject({ now: 0, most: 2, total: 2, served: 1 });
    expect(markOf(over, "first_lease")?.afterMs).toBe(70);
  });

  test("that goes on says what is waited for, and looks like what was announced", () => {
    const incident = replay("announced", "", [
      [0, draining],
      [10, gone],
    ]);
    expect([kindOf(incident), incident.waitsFor, awayMs(incident)]).toEqual(["switchover", gone.reason, null]);
    expect(kindOf(replay("leader_key_gone", "", [[0, gone]]))).toBe("away");
  });

  test("counts the last of two new leaders, of whom the first went before all were served", () => {
    const incident = replay("leader_key_gone", "", [
      [0, gone],
      [1, "held"],
      [2, "held"],
      [50, elected("b", 2)],
      [60, writable("b", 2, 2)],
      [61, "served"],
      [70, gone],
      [90, elected("c", 3)],
      [100, writable("c", 3, 3)],
      [101, "served"],
    ]);
    expect(incident.holder).toEqual({ member: "c", epoch: 3, timeline: 3 });
    expect((["key", "gate", "first_lease", "end"] as const).map((phase) => markOf(incident, phase)?.afterMs)).toEqual([
      90, 100, 101, 101,
    ]);
  });

  test("waits for the first answer of the new leader, once", () => {
    const parts: Part[] = [
      [0, gone],
      [50, elected("b", 2)],
    ];
    expect(awaitsAnswer(replay("leader_key_gone", "", parts))).toBe(false);
    const open: Part[] = [...parts, [60, writable("b", 2, 2)]];
    expect(awaitsAnswer(replay("leader_key_gone", "", open))).toBe(true);
    const answered = replay("leader_key_gone", "", [...open, [65, "answered"], [66, "answered"]]);
    expect(awaitsAnswer(answered)).toBe(false);
    expect(timelineOf(answered).filter((line) => line.endsWith("first_answer"))).toEqual(["65 first_answer"]);
  });

  test("has no end of moments, but INCIDENT_MARKS_MAX, the first and the last among them", () => {
    const parts: Part[] = [];
    for (let turn = 1; turn <= INCIDENT_MARKS_MAX; turn += 1) parts.push([turn, gone], [turn, elected("b", turn + 1)]);
    const incident = replay("leader_key_gone", "", [...parts, [500, writable("b", 99, 2, 1n)]]);
    expect(incident.timeline).toHaveLength(INCIDENT_MARKS_MAX);
    expect(incident.timeline[0]?.phase).toBe("first_sign");
    expect(incident.timeline.at(-1)?.phase).toBe("end");
    const chatty = replay(
      "probe_failed",
      "",
      Array.from({ length: 100 }, (_, turn): Part => [turn, doubted(`reason ${turn}`)]),
    );
    expect(chatty.timeline.length).toBeLessThanOrEqual(INCIDENT_MARKS_MAX / 2);
  });
});
