import { describe, expect, test } from "vitest";
import { ProxyError } from "../../../src/core/errors.ts";
import { FAILURE_DELAY_MS_MAX, HALF_OPEN_YOUNG_MS } from "../../../src/core/limits.ts";
import { Door, type DoorLimits, type Guest, Visit } from "../../../src/proxy/door.ts";
import { FakeClock } from "../../support/fake-clock.ts";

function setUp(changes: Partial<DoorLimits> = {}) {
  const clock = new FakeClock();
  const limits: DoorLimits = {
    maxConnectionsPerAddress: 0,
    maxHalfOpen: 1_000,
    maxHalfOpenPerAddress: 1_000,
    tlsHandshakesPerSecond: 0,
    authFailuresPerMinute: 0,
    cancelsPerSecond: 0,
    unlimitedNetworks: ["127.0.0.1/32"],
    ...changes,
  };
  const door = new Door(clock, limits);
  const evicted: string[] = [];
  /** One that comes in and stands there; or the code of its refusal. */
  const enter = (address: string | null, name = ""): Visit | string => {
    const visit = door.enter(address);
    if (visit instanceof ProxyError) return visit.code;
    const guest: Guest = {
      since: clock.now(),
      makeRoom: (error) => {
        evicted.push(`${name} ${error.code}`);
        visit.leave();
      },
    };
    visit.begin(guest);
    return visit;
  };
  const standing = (address: string | null, name = ""): Visit => {
    const visit = enter(address, name);
    if (typeof visit === "string") throw new Error(visit);
    return visit;
  };
  return { clock, door, limits, evicted, enter, standing };
}

describe("the door", () => {
  test("lets so many in from one address, and one more when one has left; logged in or not", () => {
    const { enter, standing } = setUp({ maxConnectionsPerAddress: 2 });
    const first = standing("10.0.0.1");
    first.settle();
    standing("10.0.0.1");
    expect(enter("10.0.0.1")).toBe("too_many_from_address");
    expect(enter("10.0.0.2")).toBeInstanceOf(Visit);
    first.leave();
    first.leave();
    expect(enter("10.0.0.1")).toBeInstanceOf(Visit);
    expect(enter("10.0.0.1")).toBe("too_many_from_address");
  });

  test("counts the addresses of an IPv6 network as one", () => {
    const { enter } = setUp({ maxConnectionsPerAddress: 1 });
    enter("2001:db8::1");
    expect(enter("2001:db8::ffff")).toBe("too_many_from_address");
    expect(enter("2001:db8:0:1::1")).toBeInstanceOf(Visit);
  });

  test("knows no limit per address for whom it is told so, and for Unix-domain sockets", () => {
    const { enter, standing } = setUp({ maxConnectionsPerAddress: 1, authFailuresPerMinute: 1 });
    for (const address of ["127.0.0.1", null]) {
      expect(standing(address).failed()).toBe(0);
      expect(enter(address)).toBeInstanceOf(Visit);
    }
  });

  test("when all places are taken has the oldest one of the address that has most make room", async () => {
    const { clock, evicted, enter, door } = setUp({ maxHalfOpen: 4 });
    enter("10.0.0.9", "honest");
    for (const name of ["a", "b", "c"]) enter("10.0.0.1", name);
    enter("10.0.0.2", "other");
    expect(evicted).toEqual(["a too_many_logins"]);
    await clock.advance(HALF_OPEN_YOUNG_MS);
    enter("10.0.0.1", "d");
    expect(evicted).toEqual(["a too_many_logins", "b too_many_logins"]);
    expect(door.halfOpen).toBe(4);
  });

  test("does not let the many clients of one address throw each other out: the last one has to come again", async () => {
    const { clock, evicted, enter } = setUp({ maxHalfOpen: 2 });
    for (const name of ["a", "b"]) enter("10.0.0.1", name);
    expect([enter("10.0.0.1"), evicted]).toEqual(["too_many_logins", []]);
    await clock.advance(HALF_OPEN_YOUNG_MS - 1);
    expect([enter("10.0.0.1"), evicted]).toEqual(["too_many_logins", []]);
    await clock.advance(1);
    expect(enter("10.0.0.1")).toBeInstanceOf(Visit);
    expect(evicted).toEqual(["a too_many_logins"]);
  });

  test("bounds those of one address too, and takes no place from others for it", async () => {
    const { clock, evicted, enter } = setUp({ maxHalfOpenPerAddress: 1 });
    for (let index = 0; index < 3; index += 1) enter("10.0.0.9", "honest");
    enter("10.0.0.1", "a");
    expect(enter("10.0.0.1")).toBe("too_many_logins");
    await clock.advance(HALF_OPEN_YOUNG_MS);
    enter("10.0.0.1");
    expect(evicted).toEqual(["honest too_many_logins".replace("honest", "a")]);
  });

  test("does not count who has logged in", () => {
    const { enter, standing, door } = setUp({ maxHalfOpen: 1 });
    for (let index = 0; index < 5; index += 1) standing("10.0.0.1").settle();
    expect([door.settled, door.halfOpen]).toEqual([5, 0]);
    const last = standing("10.0.0.1");
    expect(enter("10.0.0.1")).toBe("too_many_logins");
    last.leave();
    expect(door.halfOpen).toBe(0);
  });

  test("counts a connection where its PROXY header says that it comes from", () => {
    const { enter, standing, door } = setUp({ maxConnectionsPerAddress: 1, unlimitedNetworks: ["10.9.9.9/32"] });
    expect(standing("10.9.9.9").move("192.0.2.1")).toBe(null);
    const second = standing("10.9.9.9");
    expect(second.move("192.0.2.1")?.code).toBe("too_many_from_address");
    second.leave();
    expect([enter("192.0.2.1"), door.halfOpen]).toEqual(["too_many_from_address", 1]);
  });

  test("answers failed logins later and later, and beyond the limit lets nobody in from there for a while", async () => {
    const { clock, enter, standing } = setUp({ authFailuresPerMinute: 12 });
    const visit = standing("10.0.0.1");
    const delays = Array.from({ length: 12 }, () => visit.failed());
    expect(delays.slice(0, 6)).toEqual([0, 0, 0, 200, 400, 800]);
    expect(delays.at(-1)).toBe(FAILURE_DELAY_MS_MAX);
    expect(enter("10.0.0.1")).toBe("too_many_failures");
    expect(enter("10.0.0.2")).toBeInstanceOf(Visit);
    await clock.advance(5_000);
    expect(enter("10.0.0.1")).toBeInstanceOf(Visit);
  });

  test("forgives nobody for a login of his own", () => {
    const { enter, standing } = setUp({ authFailuresPerMinute: 4 });
    for (let index = 0; index < 4; index += 1) standing("10.0.0.1").failed();
    // One that came before is let through, and changes nothing for the next.
    expect(enter("10.0.0.1")).toBe("too_many_failures");
    const { enter: enterThere, standing: standingThere } = setUp({ authFailuresPerMinute: 4 });
    const good = standingThere("10.0.0.1");
    for (let index = 0; index < 4; index += 1) standingThere("10.0.0.1").failed();
    good.settle();
    expect(enterThere("10.0.0.1")).toBe("too_many_failures");
  });

  test("hears so many cancel requests of an address, whoever it is, ten seconds' worth at once", async () => {
    const { clock, standing } = setUp({ cancelsPerSecond: 1 });
    const heard = (): number =>
      Array.from({ length: 20 }, () => standing("127.0.0.1").mayCancel()).filter(Boolean).length;
    expect(heard()).toBe(10);
    await clock.advance(3_000);
    expect(heard()).toBe(3);
    expect(standing("10.0.0.1").mayCancel()).toBe(true);
  });

  test("takes new limits while connections stand there", () => {
    const { door, enter, limits } = setUp();
    for (let index = 0; index < 3; index += 1) enter("10.0.0.1");
    door.reconfigure({ ...limits, maxConnectionsPerAddress: 2, authFailuresPerMinute: 1 });
    expect(enter("10.0.0.1")).toBe("too_many_from_address");
  });
});
