// What a client may send after login: every type byte at its bounds.

import { describe, expect, test } from "vitest";
import { MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX } from "../../../src/core/limits.ts";
import { refuseMessage } from "../../../src/proxy/client-messages.ts";

const long = "QFPBdf";
const short = "CDESXc";

describe("a client's message", () => {
  test("may be as long as PostgreSQL lets its type be, and not longer", () => {
    for (const [letters, max] of [
      [long, MESSAGE_BYTES_MAX],
      [short, SMALL_MESSAGE_BYTES_MAX],
    ] as const) {
      for (const letter of letters) {
        const type = letter.charCodeAt(0);
        expect(refuseMessage(type, 4), letter).toBeNull();
        expect(refuseMessage(type, max), letter).toBeNull();
        expect(refuseMessage(type, max + 1), letter).toBe("invalid message length");
      }
    }
  });

  test("that asks to flush has no body: PostgreSQL skips all that follows one, and says so to nobody", () => {
    const flush = "H".charCodeAt(0);
    expect(refuseMessage(flush, 4)).toBeNull();
    expect(refuseMessage(flush, 5)).toBe("invalid message length");
  });

  test("of any other type is refused in PostgreSQL's words, whatever its length", () => {
    for (let type = 0; type < 256; type += 1) {
      if (`${long}${short}H`.includes(String.fromCharCode(type))) continue;
      expect(refuseMessage(type, 4)).toBe(`invalid frontend message type ${type}`);
    }
  });
});
