// Who may log in by the one method for everybody.

import { describe, expect, test } from "vitest";
import { CertificateOfUser, OneMethod } from "../../../src/auth/access.ts";

const request = { address: "10.0.0.1", tls: false, user: "app", database: "db", replication: null, certificate: null };

describe("one method for everybody", () => {
  test("is that method, whoever comes", () => {
    expect(new OneMethod("md5", false).decide(request)).toEqual({ kind: "method", method: "md5", afterwards: null });
  });

  test("refuses passwords that would cross a network in clear, unless that is allowed", () => {
    const strict = new OneMethod("password", false);
    expect(strict.decide(request)).toMatchObject({ kind: "refused", error: { sqlstate: "28000" } });
    expect(strict.decide({ ...request, tls: true }).kind).toBe("method");
    expect(strict.decide({ ...request, address: null }).kind).toBe("method");
    expect(new OneMethod("password", true).decide(request).kind).toBe("method");
  });
});

describe("a certificate from everybody", () => {
  test("has to be there, and to name its user", () => {
    const rules = new CertificateOfUser();
    const message = (changes: object) => {
      const decision = rules.decide({ ...request, tls: true, ...changes });
      return decision.kind === "refused" ? `${decision.error.sqlstate} ${decision.error.message}` : decision.method;
    };
    const certificate = { commonName: "app", distinguishedName: "CN=app" };
    expect(message({})).toBe("28000 connection requires a valid client certificate");
    expect(message({ certificate })).toBe("trust");
    expect(message({ certificate, user: "other" })).toBe('28000 certificate authentication failed for user "other"');
    // PostgreSQL would cut the name to that of another role.
    const long = "r".repeat(64);
    const certificateOfLong = { commonName: long, distinguishedName: `CN=${long}` };
    expect(message({ certificate: certificateOfLong, user: long })).toMatch(/^28000 certificate authentication failed/);
  });
});
