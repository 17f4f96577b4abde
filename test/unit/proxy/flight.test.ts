// What is in flight: the same bytes as were sent, or the knowledge that they were too many; and what they say.

import { serialize } from "pg-protocol";
import { describe, expect, test } from "vitest";
import { FLIGHT_BYTES_MAX } from "../../../src/core/limits.ts";
import { Flight, flightTexts, loneQuery } from "../../../src/proxy/flight.ts";

const add = (flight: Flight, bytes: Buffer): void => flight.add(bytes, 0, bytes.length);

describe("Flight", () => {
  test("gives back what was added since it was last clear, once", () => {
    const flight = new Flight();
    add(flight, Buffer.from("gone"));
    flight.clear();
    add(flight, Buffer.from("one "));
    add(flight, Buffer.from("two"));
    expect(flight.take()?.toString()).toBe("one two");
    expect(flight.take()?.length).toBe(0);
  });

  test("keeps as much as its bound, and beyond that knows only that it was more", () => {
    const flight = new Flight();
    add(flight, Buffer.alloc(FLIGHT_BYTES_MAX - 1));
    add(flight, Buffer.alloc(1));
    expect(flight.take()?.length).toBe(FLIGHT_BYTES_MAX);
    add(flight, Buffer.alloc(FLIGHT_BYTES_MAX));
    add(flight, Buffer.alloc(1));
    add(flight, Buffer.from("more"));
    expect(flight.take()).toBeNull();
    expect(flight.take()?.length).toBe(0);
  });

  test("remembers nothing of an overflow once nothing is owed", () => {
    const flight = new Flight();
    add(flight, Buffer.alloc(FLIGHT_BYTES_MAX + 1));
    flight.clear();
    add(flight, Buffer.from("x"));
    expect(flight.take()?.toString()).toBe("x");
  });
});

describe("a flight", () => {
  test("is a lone query only if it is exactly one, complete", () => {
    const query = serialize.query("SELECT 1");
    expect(loneQuery(query)).toBe("SELECT 1");
    for (let end = 0; end < query.length; end += 1) expect(loneQuery(query.subarray(0, end))).toBeNull();
    expect(loneQuery(Buffer.concat([query, serialize.sync()]))).toBeNull();
    expect(loneQuery(Buffer.concat([query, query]))).toBeNull();
    expect(loneQuery(serialize.parse({ text: "SELECT 1" }))).toBeNull();
    expect(loneQuery(serialize.query(""))).toBe("");
  });

  test("tells its texts, and whether all that it runs is among them", () => {
    const { parse, bind, execute, query, sync } = serialize;
    const read = (...messages: Buffer[]) => flightTexts(Buffer.concat(messages), () => null);
    expect(read(query("A"), parse({ text: "B" }), bind(), execute(), sync()).unknown).toBe(false);
    expect(read(query("A"), parse({ text: "B" })).texts.join()).toMatch(/A.*B/s);
    expect(read(bind(), execute(), sync()).unknown).toBe(true);
    expect(read(execute()).unknown).toBe(true);
    expect(read(parse({ text: "B" }), bind({ statement: "other" }), execute()).unknown).toBe(true);
    expect(read(parse({ text: "B" }), bind(), execute({ portal: "other" })).unknown).toBe(true);
    expect(
      read(parse({ text: "B", name: "b" }), bind({ statement: "b", portal: "p" }), execute({ portal: "p" })).unknown,
    ).toBe(false);
    expect(read(Buffer.from("F\0\0\0\x0e\0\0\x07\xea\0\0\0\0\0\0", "latin1")).unknown).toBe(true);
  });

  test("tells the texts of statements that were prepared before it", () => {
    const { parse, bind, execute, sync, close } = serialize;
    const known = (name: string) => ({ "": "UNNAMED", commit: "COMMIT", empty: "" })[name] ?? null;
    const read = (...messages: Buffer[]) => flightTexts(Buffer.concat(messages), known);
    expect(read(bind({ statement: "commit" }), execute(), sync())).toEqual({ texts: ["COMMIT"], unknown: false });
    expect(read(bind(), execute(), sync())).toEqual({ texts: ["UNNAMED"], unknown: false });
    expect(read(bind({ statement: "empty" }), execute())).toEqual({ texts: [""], unknown: false });
    expect(read(bind({ statement: "nobody" }), execute()).unknown).toBe(true);
    expect(read(bind({ statement: "commit", portal: "p" }), execute({ portal: "p" })).unknown).toBe(false);
    expect(read(bind({ statement: "commit", portal: "p" }), execute({ portal: "q" })).unknown).toBe(true);
    // A portal that was bound in an earlier flight.
    expect(read(execute({ portal: "p" })).unknown).toBe(true);
    // What the flight parses itself comes before what was known; both texts are looked at where it is in doubt.
    const own = read(parse({ name: "commit", text: "SELECT 1" }), bind({ statement: "commit" }), execute());
    expect(own.unknown).toBe(false);
    expect(own.texts.join()).toContain("SELECT 1");
    expect(read(close({ type: "S", name: "commit" }), sync()).unknown).toBe(false);
  });

  test("is read as far as it goes where its last message was cut", () => {
    const whole = Buffer.concat([serialize.query("A"), serialize.parse({ text: "COMMIT" }), serialize.bind()]);
    for (let end = 0; end <= whole.length; end += 1)
      expect(() => flightTexts(whole.subarray(0, end), () => null)).not.toThrow();
  });
});
