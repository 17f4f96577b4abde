import { describe, expect, test } from "vitest";
import { describeError } from "../../../src/discovery/etcd-connection.ts";

describe("an error's description", () => {
  test("does not change from one attempt to the next", () => {
    const at = (moment: string) =>
      new Error(
        `14 UNAVAILABLE: No connection established. Last error: read ECONNRESET (${moment}). Resolution note: `,
      );
    const text = "14 UNAVAILABLE: No connection established. Last error: read ECONNRESET";
    expect(describeError(at("2026-11-20T22:34:33.382Z"))).toBe(text);
    expect(describeError(at("2026-11-20T22:34:33.807Z"))).toBe(text);
  });

  test("is one line, and bounded", () => {
    expect(describeError("a\nb  c")).toBe("a b c");
    expect(describeError(new Error("x".repeat(1000)))).toHaveLength(300);
  });
});
