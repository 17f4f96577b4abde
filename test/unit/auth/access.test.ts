// Who may log in by the one method for everybody.

import { describe, expect, test } from "vitest";
import { OneMethod } from "../../../src/auth/access.ts";

const request = { address: "10.0.0.1", tls: false, user: "app", database: "db", replication: null };

describe("one method for everybody", () => {
  test("is that method, whoever comes", () => {
    expect(new OneMethod("md5", false).decide(request)).toEqual({ kind: "method", method: "md5" });
  });

  test("refuses passwords that would cross a network in clear, unless that is allowed", () => {
    const strict = new OneMethod("password", false);
    expect(strict.decide(request)).toMatchObject({ kind: "refused", error: { sqlstate: "28000" } });
    expect(strict.decide({ ...request, tls: true }).kind).toBe("method");
    expect(strict.decide({ ...request, address: null }).kind).toBe("method");
    expect(new OneMethod("password", true).decide(request).kind).toBe("method");
  });
});
