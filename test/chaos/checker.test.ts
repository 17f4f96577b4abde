import { describe, expect, test } from "vitest";
import { check, type Property } from "./checker.ts";
import { type Contents, type HistoryRecord, historyOf, type Operation, type Place, type Sight } from "./history.ts";

const NODE1 = { port: 1, timeline: 1, origin: 0, lsn: 100 };
const NODE2 = { port: 2, timeline: 2, origin: 200, lsn: 300 };

const run = (sync = true): HistoryRecord => ({
  type: "run",
  seed: 1,
  sync,
  startedAt: 0,
  endedAt: 10_000,
  members: { 1: "node1", 2: "node2" },
  accounts: 2,
  total: 200,
  stuckMs: 5000,
});

const operation = (id: number, more: Partial<Operation> = {}): Operation => ({
  type: "op",
  id,
  client: 1,
  router: "pgsteer1",
  kind: "register",
  invokedAt: id * 100,
  decidedAt: id * 100 + 1,
  completedAt: id * 100 + 20,
  outcome: "ok",
  code: null,
  message: null,
  value: id,
  place: NODE1,
  crossed: null,
  ...more,
});

const row = (op: number, value = op, client = 1, place: Place = NODE1) => ({ op, client, value, place });

const contents = (more: Partial<Contents> = {}): Contents => ({
  type: "contents",
  timeline: 1,
  forks: [],
  register: [],
  transfers: [],
  balances: [
    { account: 1, balance: 100 },
    { account: 2, balance: 100 },
  ],
  ...more,
});

const served = (at: number, member: string, timeline: number, router = "pgsteer1"): HistoryRecord => ({
  ...{ type: "topology", what: "served", text: "leader is writable" },
  ...{ at, member, timeline, router },
});
const deposed = (at: number, member: string): HistoryRecord => ({
  ...{ type: "topology", what: "deposed", text: "leader deposed", timeline: null },
  ...{ at, member, router: "pgsteer1" },
});
const restarted = (at: number): Sight => ({
  ...{ type: "topology", what: "start", text: "pgsteer starts", timeline: null },
  ...{ at, member: null, router: "pgsteer1" },
});
const writable = (from: number, to: number, timeline = 1): HistoryRecord => ({
  ...{ type: "writable", member: "node1" },
  ...{ from, to, timeline },
});

const judge = (...records: readonly HistoryRecord[]) => check(historyOf([run(), ...records]));
const judgeAsync = (...records: readonly HistoryRecord[]) => check(historyOf([run(false), ...records]));
// Histories this small lack what is looked for in whole ones alone; that has a test of its own.
const found = ({ violations }: ReturnType<typeof check>): Property[] =>
  violations.map(({ property }) => property).filter((property) => property !== "unseen");

describe("what was acknowledged", () => {
  test("is there: nothing to say", () => {
    expect(found(judge(operation(1), contents({ register: [row(1)] })))).toEqual([]);
  });

  test("is not there, under synchronous replication: lost", () => {
    const { violations } = judge(operation(1), contents());
    expect(violations[0]).toMatchObject({ property: "lost", operation: 1 });
    expect(violations[0]?.text).toContain("op 1 (register, client 1)");
  });

  test("and was an unknown outcome or a failure may be missing", () => {
    expect(found(judge(operation(1, { outcome: "unknown" }), operation(2, { outcome: "fail" }), contents()))).toEqual(
      [],
    );
  });

  test("went with its timeline, under asynchronous replication: no violation, but counted", () => {
    const after = contents({ timeline: 2, forks: [{ timeline: 1, lsn: 90 }] });
    const { lostByReplication } = judgeAsync(operation(1), after);
    expect(found(judgeAsync(operation(1), after))).toEqual([]);
    expect(lostByReplication).toMatchObject([{ id: 1 }]);
    expect(found(judge(operation(1), after))).toEqual(["lost"]);
  });

  test("went although its timeline was followed beyond its commit: lost", () => {
    const later = operation(2, { place: { ...NODE1, lsn: 120 } });
    const after = contents({ timeline: 2, forks: [{ timeline: 1, lsn: 150 }], register: [row(2)] });
    expect(found(judgeAsync(operation(1), later, after))).toEqual(["lost"]);
    // Begun before the first was acknowledged, the second says nothing of where the first one's commit stands.
    const meanwhile = { ...later, invokedAt: 110 };
    expect(found(judgeAsync(operation(1), meanwhile, after))).toEqual([]);
  });

  test("went from the timeline that is still the present one: lost", () => {
    expect(found(judgeAsync(operation(1), contents()))).toEqual(["lost"]);
  });

  test("went, and nobody knows where it was: lost", () => {
    expect(found(judgeAsync(operation(1, { place: null }), contents({ timeline: 2 })))).toEqual(["lost"]);
  });

  test("was on a timeline that no fork leads away from: it went with it", () => {
    const elsewhere = operation(1, { place: { ...NODE1, timeline: 3 } });
    expect(found(judgeAsync(elsewhere, contents({ timeline: 4, forks: [{ timeline: 1, lsn: 50 }] })))).toEqual([]);
  });
});

describe("a timeline whose number was given again", () => {
  const forks = [
    { timeline: 1, lsn: 200 },
    { timeline: 2, lsn: 900 },
  ];
  const after = contents({ timeline: 3, forks });

  test("has lost what was written on the one before it", () => {
    const before = operation(1, { place: { ...NODE2, origin: 150 } });
    expect(found(judgeAsync(before, after))).toEqual([]);
    // Nothing says where that one was left; what others wrote on its namesake is no bound of it.
    expect(
      found(judgeAsync(before, operation(2, { place: NODE2 }), contents({ ...after, register: [row(2)] }))),
    ).toEqual([]);
  });

  test("has not lost what was written on itself", () => {
    const own = operation(1, { place: NODE2 });
    const later = operation(2, { place: { ...NODE2, lsn: 400 } });
    expect(found(judgeAsync(own, later, contents({ ...after, register: [row(2)] })))).toEqual(["lost"]);
    expect(found(judgeAsync(operation(3, { place: { ...NODE2, timeline: 3, origin: 900 } }), after))).toEqual(["lost"]);
    expect(found(judgeAsync(operation(3, { place: { ...NODE2, timeline: 3, origin: 800 } }), after))).toEqual([]);
  });
});

describe("a timeline whose number two members gave at the same position", () => {
  const after = contents({
    timeline: 3,
    forks: [
      { timeline: 1, lsn: 200 },
      { timeline: 2, lsn: 900 },
    ],
  });
  const kept = { ...after, register: [row(2, 2, 1, NODE2)] };

  test("has lost what the one wrote whose timeline was not followed", () => {
    const other = operation(1, { place: { ...NODE2, port: 3 } });
    expect(found(judgeAsync(other, operation(2, { place: NODE2 }), contents(kept)))).toEqual([]);
  });

  test("has not lost what the other wrote, nor anything where nobody knows whose it is", () => {
    const own = operation(1, { place: NODE2 });
    const later = operation(2, { place: { ...NODE2, lsn: 400 } });
    expect(found(judgeAsync(own, later, contents(kept)))).toEqual(["lost"]);
    const other = operation(1, { place: { ...NODE2, port: 3 } });
    const others = operation(3, { place: { ...NODE2, port: 3, lsn: 400 } });
    expect(found(judgeAsync(other, others, contents(after)))).toEqual(["lost"]);
  });
});

describe("what is there", () => {
  test("twice from one operation: a duplicate", () => {
    expect(found(judge(operation(1), contents({ register: [row(1), row(1)] })))).toEqual(["duplicate"]);
  });

  test("twice with one number from two operations: a duplicate", () => {
    const again = operation(2, { value: 1 });
    expect(found(judge(operation(1), again, contents({ register: [row(1), row(2, 1)] })))).toEqual(["duplicate"]);
  });

  test("although its client was told that it failed: denied", () => {
    const failed = operation(1, { outcome: "fail", code: "40001" });
    expect(found(judge(failed, contents({ register: [row(1)] })))).toEqual(["denied"]);
    expect(found(judge({ ...failed, kind: "transfer" }, contents({ register: [row(1)] })))).toEqual(["denied"]);
  });

  test("after an unknown outcome is nobody's fault", () => {
    expect(found(judge(operation(1, { outcome: "unknown" }), contents({ register: [row(1)] })))).toEqual([]);
  });

  test("and nobody has begun: foreign", () => {
    expect(found(judge(contents({ register: [row(1)] })))).toEqual(["foreign"]);
  });
});

describe("money", () => {
  const transfer = { ...row(1, 30), from: 1, to: 2 };
  const balances = (one: number, two: number) => [
    { account: 1, balance: one },
    { account: 2, balance: two },
  ];
  const moved = operation(1, { kind: "transfer", value: 30 });

  test("moves as the transfers say", () => {
    expect(found(judge(moved, contents({ transfers: [transfer], balances: balances(70, 130) })))).toEqual([]);
  });

  test("is made", () => {
    expect(found(judge(contents({ balances: balances(100, 101) })))).toEqual(["money", "money"]);
  });

  test("is moved without a transfer, or a transfer moves none: half a transaction", () => {
    expect(found(judge(contents({ balances: balances(70, 130) })))).toEqual(["money", "money"]);
    expect(found(judge(moved, contents({ transfers: [transfer] })))).toEqual(["money", "money"]);
  });

  test("goes with its account", () => {
    expect(found(judge(contents({ balances: [{ account: 1, balance: 200 }] })))).toContain("money");
  });

  test("is seen halfway by a read", () => {
    const read = operation(1, { kind: "read", value: 170, place: null });
    expect(found(judge(read, contents()))).toEqual(["read"]);
    expect(found(judge({ ...read, value: 200 }, { ...read, id: 2, outcome: "fail" }, contents()))).toEqual([]);
  });
});

describe("an answer", () => {
  test("that is another operation's", () => {
    expect(found(judge(operation(1, { crossed: 7 }), contents({ register: [row(1)] })))).toEqual(["crossed"]);
  });
});

describe("a write on a deposed leader", () => {
  const there = contents({ timeline: 2, register: [row(5)] });
  const late = operation(5);

  test("before its pgsteer knew", () => {
    expect(found(judge(served(10, "node1", 1), deposed(600, "node1"), late, there))).toEqual([]);
    // Sent in the same moment, to the clocks' precision.
    expect(found(judge(served(10, "node1", 1), deposed(500, "node1"), late, there))).toEqual([]);
  });

  test("after its pgsteer had deposed it", () => {
    const { violations } = judge(served(10, "node1", 1), deposed(450, "node1"), late, there);
    expect(violations[0]).toMatchObject({ property: "stale", operation: 5 });
    expect(violations[0]?.text).toContain("which pgsteer1 had deposed at 450");
  });

  test("that leads again by then", () => {
    const again = [served(10, "node1", 1), deposed(450, "node1"), served(505, "node1", 1)];
    expect(found(judge(...again, late, there))).toEqual([]);
  });

  test("on an older timeline than its pgsteer has served", () => {
    expect(found(judge(served(10, "node1", 1), served(450, "node2", 2), late, there))).toEqual(["stale"]);
    expect(found(judge(served(450, "node2", 2), operation(5, { place: NODE2 }), there))).toEqual([]);
  });

  test("of which another pgsteer, or the same one in an earlier life, knew", () => {
    expect(found(judge(served(450, "node2", 2, "pgsteer2"), late, there))).toEqual([]);
    expect(found(judge(served(300, "node2", 2), restarted(400), late, there))).toEqual([]);
  });

  test("with an unknown outcome: only if it is there", () => {
    const open = operation(5, { outcome: "unknown" });
    expect(found(judge(served(450, "node2", 2), open, there))).toEqual(["stale"]);
    expect(found(judge(served(450, "node2", 2), open, contents({ timeline: 2 })))).toEqual([]);
  });
});

describe("a client", () => {
  const answered = (at: number, outcome: Operation["outcome"] = "ok") =>
    operation(1, { kind: "read", value: 200, place: null, completedAt: at, outcome });
  const fault = (beganAt: number, endedAt: number, blind: string[]): HistoryRecord => ({
    ...{ type: "fault", name: "freeze pgsteer", target: "pgsteer1", healedAt: null, note: "" },
    ...{ beganAt, endedAt, blind },
  });

  test("without an answer for longer than allowed, while a leader took writes: stuck", () => {
    const verdict = judge(writable(0, 10_000), answered(4000), contents());
    expect(found(verdict)).toEqual(["stuck"]);
    expect(verdict.longestWaitMs).toBe(6000);
  });

  test("that only gets errors is stuck, too", () => {
    expect(found(judge(writable(0, 10_000), answered(4000), { ...answered(7000, "fail"), id: 2 }, contents()))).toEqual(
      ["stuck"],
    );
  });

  test("waits while nobody can serve it", () => {
    expect(found(judge(writable(0, 5000), writable(9000, 10_000), answered(4000), contents()))).toEqual([]);
  });

  test("waits while its pgsteer is stopped, and not while another one is", () => {
    expect(found(judge(writable(0, 10_000), fault(5000, 8000, ["pgsteer1"]), answered(4000), contents()))).toEqual([]);
    expect(found(judge(writable(0, 10_000), fault(5000, 8000, ["pgsteer2"]), answered(4000), contents()))).toEqual([
      "stuck",
    ]);
  });

  test("that PostgreSQL itself tells to try again is served", () => {
    const again = { ...answered(7000, "fail"), id: 2, message: "could not serialize access due to concurrent update" };
    expect(found(judge(writable(0, 10_000), answered(4000), again, contents()))).toEqual([]);
    const ours = { ...again, message: "the transaction was rolled back because its server is gone" };
    expect(found(judge(writable(0, 10_000), answered(4000), ours, contents()))).toEqual(["stuck"]);
  });

  test("whose transfers wait for rows waits while any pgsteer is stopped", () => {
    const transfer = operation(1, { kind: "transfer", outcome: "fail", completedAt: 4000 });
    const stopped = fault(3000, 8000, ["pgsteer2"]);
    expect(found(judge(writable(0, 10_000), stopped, transfer, contents()))).toEqual([]);
    expect(found(judge(writable(0, 10_000), stopped, { ...transfer, kind: "long" }, contents()))).toEqual(["stuck"]);
  });

  test("waits while the leader is one of an older timeline than was written before", () => {
    expect(found(judge(writable(0, 5000, 2), writable(5000, 10_000, 1), answered(4000), contents()))).toEqual([]);
    expect(found(judge(writable(0, 5000, 1), writable(4500, 10_000, 2), answered(4000), contents()))).toEqual([
      "stuck",
    ]);
  });

  test("is counted once where two members take writes", () => {
    const { longestWaitMs } = judge(writable(0, 10_000), writable(4000, 9000), answered(6000), contents());
    expect(longestWaitMs).toBe(6000);
  });
});

describe("a pgsteer", () => {
  test("that has died by itself", () => {
    const ended = { ...restarted(5000), what: "ended" } as const;
    expect(found(judge(ended, contents()))).toEqual(["crashed"]);
    expect(found(judge(restarted(5000), contents()))).toEqual([]);
  });
});

describe("a run without contents", () => {
  test("is no success", () => {
    expect(found(judge(operation(1)))).toEqual(["unhealed"]);
  });
});

describe("a record without which nothing is seen", () => {
  const whole = [operation(1), served(10, "node1", 1), writable(0, 1000), contents({ register: [row(1)] })] as const;

  test("is missed, each by itself", () => {
    expect(judge(...whole).violations).toEqual([]);
    for (const [index, missing] of (["no client did", "never said", "no member was"] as const).entries()) {
      const { violations } = judge(...whole.filter((_, at) => at !== index));
      expect(violations.filter(({ property }) => property === "unseen").map(({ text }) => text)).toEqual([
        expect.stringContaining(missing),
      ]);
    }
  });
});
