import { describe, expect, test } from "vitest";
import { type EventDocument, eventDocument, eventLine } from "../../../src/admin/events-document.ts";
import { formatSpan, plain, renderEvent, resultOf } from "../../../src/cli/timeline.ts";
import { millis } from "../../../src/core/units.ts";
import { beginIncident, type Happening, type Incident, stepIncident } from "../../../src/metrics/incident.ts";

const old = { member: "node1", epoch: 1, timeline: 1 };
const begun = (cause: "announced" | "connection_lost", reason: string): Incident =>
  beginIncident({
    id: 7,
    cluster: "main",
    at: millis(0),
    wall: Date.UTC(2026, 10, 20, 3, 4, 5, 678),
    holding: 0,
    cause,
    reason,
    old,
    key: "node1 1",
  });

const leader = (at: number, state: Extract<Happening, { kind: "leader" }>["leader"]): Happening => ({
  kind: "leader",
  at: millis(at),
  leader: state,
  keyKnown: true,
});
const epoch = (sequence: number, timeline: number) => ({ sequence, timeline, revision: BigInt(sequence) });

const planned: Incident = (
  [
    { kind: "held", at: millis(2.26) },
    { kind: "held", at: millis(9) },
    { kind: "held", at: millis(10) },
    { kind: "released", at: millis(500), served: false, waitedMs: 490 },
    leader(1100, { kind: "none", reason: "nobody holds the leader key" }),
    { kind: "cut", at: millis(1100), connections: 1 },
    { kind: "gave", error: "leader_changed" },
    { kind: "reran" },
    leader(1200, { kind: "elected", member: "node2", epoch: epoch(2, 0), reason: "node2 is still in recovery" }),
    leader(1400, { kind: "writable", member: "node2", epoch: epoch(2, 2) }),
    { kind: "released", at: millis(1402), served: true, waitedMs: 1399.7 },
    { kind: "released", at: millis(1403), served: true, waitedMs: 1394 },
    { kind: "answered", at: millis(1404) },
  ] as const
).reduce<Incident>(stepIncident, begun("announced", "a switchover was asked for"));

const away = (to: number): Incident =>
  stepIncident(
    stepIncident(
      begun("connection_lost", "node1: read ECONNRESET"),
      leader(5, { kind: "elected", member: "node1", epoch: epoch(1, 1), reason: "node1: connect ECONNREFUSED" }),
    ),
    { kind: "held", at: millis(to) },
  );

const over = (incident: Incident): EventDocument =>
  eventDocument({ incident, going: false, longestWaitMs: incident.held.longestMs });

describe("a change of leader as text", () => {
  test("has a line per moment, and what it cost", () => {
    expect(renderEvent(over(planned), plain)).toMatchInlineSnapshot(`
      "#7 SWITCHOVER   main: node1 → node2   2026-11-20T03:04:05.678Z   no writes for 1400 ms
             0 ms  first sign    announced: a switchover was asked for
           2.3 ms  hold          the first client waits
          1100 ms  leader key    nobody holds the leader key
          1100 ms  fence         1 connection to node1 cut
          1200 ms  leader key    node2 holds it (epoch 2)
          1400 ms  gate          node2 takes writes (timeline 2)
          1402 ms  first lease   the first client that waited has a connection
          1403 ms  end           nobody waits any more
          1404 ms  first answer  a transaction was answered
                   clients       3 waited, at most 3 at once, the longest 1400 ms; 1 left or gave up
                   errors        1: 1 × 40001 open transaction rolled back
                   avoided       2 waited and were served, 1 statement run again unseen"
    `);
  });

  test("that goes on says what is waited for", () => {
    const event = eventDocument({ incident: away(10), going: true, longestWaitMs: 125_000 });
    expect(renderEvent(event, plain)).toMatchInlineSnapshot(`
      "#7 LEADER AWAY   main: node1   2026-11-20T03:04:05.678Z   STILL GOING ON
             0 ms  first sign    connection lost: node1: read ECONNRESET
           5.0 ms                node1: connect ECONNREFUSED
            10 ms  hold          the first client waits
                   now           no writes: node1: connect ECONNREFUSED
                   clients       1 waited, at most 1 at once, the longest 2 min 5 s; 1 wait now
                   errors        none"
    `);
  });

  test("says how it came out where its title was written before", () => {
    expect(resultOf(over(planned), plain).trim()).toBe(
      "it was        SWITCHOVER   node1 → node2   no writes for 1400 ms",
    );
  });

  test("is painted where it must be seen", () => {
    const paint = {
      good: (text: string) => `<good>${text}</>`,
      bad: (text: string) => `<bad>${text}</>`,
      title: (text: string) => `<title>${text}</>`,
      aside: (text: string) => `<aside>${text}</>`,
    };
    const text = renderEvent(over(planned), paint);
    expect(text).toMatch(/^<title>#7 SWITCHOVER.*<\/>$/m);
    expect(text).toMatch(/^<good>.*node2 takes writes.*<\/>$/m);
    expect(text).toMatch(/errors +<bad>1: 1 × 40001 /);
    expect(renderEvent(eventDocument({ incident: away(10), going: true, longestWaitMs: 0 }), paint)).toContain(
      "<aside>     5.0 ms",
    );
  });

  test("writes spans as a person says them", () => {
    expect([0, 0.26, 9.96, 14.2, 1420, 27_340, 312_000].map(formatSpan)).toEqual([
      "0 ms",
      "0.3 ms",
      "10.0 ms",
      "14 ms",
      "1420 ms",
      "27.3 s",
      "5 min 12 s",
    ]);
  });
});

describe("a change of leader as a line of the log", () => {
  test("is one sentence, with the fields of /events but for its timeline", () => {
    const { fields, message } = eventLine(planned);
    expect(message).toBe(
      "switchover: node2 leads in place of node1 after 1400 ms; 3 clients waited, 1 error was given",
    );
    expect(fields).toEqual({
      id: 7,
      cluster: "main",
      kind: "switchover",
      cause: "announced",
      reason: "a switchover was asked for",
      began: "2026-11-20T03:04:05.678Z",
      ended: "2026-11-20T03:04:07.081Z",
      old_leader: old,
      new_leader: { member: "node2", epoch: 2, timeline: 2 },
      away_ms: 1400,
      phases_ms: {
        first_sign: 0,
        first_hold: 2.3,
        key_gone: 1100,
        fence: 1100,
        key: 1200,
        gate: 1400,
        first_lease: 1402,
        first_answer: 1404,
        end: 1403,
      },
      connections_cut: 1,
      clients: { held: 3, held_at_once: 3, held_now: 0, longest_wait_ms: 1399.7 },
      avoided: { waited: 2, rerun: 1 },
      errors: [{ code: "leader_changed", sqlstate: "40001", count: 1 }],
      error_count: 1,
    });
  });
});
