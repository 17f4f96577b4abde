// Which rule fits whom, and what is said. Random rules and connections, and PostgreSQL's own answers to them, are in
// test/integration/hba.test.ts; here is what needs TLS, certificates, a Unix-domain socket or a newer PostgreSQL.

import { describe, expect, test } from "vitest";
import type { AccessDecision, AccessRequest } from "../../../src/auth/access.ts";
import { HbaRules, readHbaFile } from "../../../src/auth/hba.ts";
import { readIdentFile } from "../../../src/auth/ident-map.ts";
import { ACCESS_LINES_MAX } from "../../../src/core/limits.ts";

const files = (text: string) => ({ readFile: () => text, listFiles: () => [] });

function rules(text: string, ident = "", allowClearText = true): HbaRules {
  const read = readHbaFile("/hba", files(text));
  const maps = readIdentFile("/ident", files(ident));
  if (!read.ok || !maps.ok) throw new Error(JSON.stringify({ read, maps }));
  return new HbaRules(read.rules, { maps: maps.maps, allowClearText, ownAddresses: () => ["192.0.2.7/24", "::1/128"] });
}

const request: AccessRequest = {
  address: "192.0.2.1",
  tls: false,
  user: "ada",
  database: "shop",
  replication: null,
  certificate: null,
};
const ada = { commonName: "ada", distinguishedName: "CN=ada,O=Corp" };

function outcome(decision: AccessDecision): string {
  if (decision.kind === "refused") return `${decision.error.sqlstate} ${decision.error.message}`;
  const { method, afterwards } = decision;
  return afterwards === null ? method : `${method}, then ${afterwards.sqlstate} ${afterwards.message}`;
}
const decide = (text: string, changes: Partial<AccessRequest> = {}, ident = ""): string =>
  outcome(rules(text, ident).decide({ ...request, ...changes }));

describe("the rules of an HBA file", () => {
  test("tell TLS, clear text and a Unix-domain socket apart", () => {
    const text = "hostssl all all all scram-sha-256\nhostnossl all all all md5\nlocal all all trust\n";
    expect(decide(text, { tls: true })).toBe("scram-sha-256");
    expect(decide(text)).toBe("md5");
    expect(decide(text, { address: null })).toBe("trust");
    expect(decide("hostgssenc all all all trust\n")).toMatch(/^28000 no pg_hba.conf entry/);
    expect(decide("host all all all trust\n", { address: null })).toBe(
      '28000 no pg_hba.conf entry for host "[local]", user "ada", database "shop", no encryption',
    );
  });

  test("say in PostgreSQL's words whom they refuse, and whom they do not mention", () => {
    const text = "host all eve all reject\nhost all ada 10.0.0.0/8 trust\n";
    expect(decide(text, { user: "eve", tls: true })).toBe(
      '28000 pg_hba.conf rejects connection for host "192.0.2.1", user "eve", database "shop", SSL encryption',
    );
    expect(decide(text)).toBe(
      '28000 no pg_hba.conf entry for host "192.0.2.1", user "ada", database "shop", no encryption',
    );
    expect(decide(text, { replication: "physical" })).toBe(
      '28000 no pg_hba.conf entry for replication connection from host "192.0.2.1", user "ada", no encryption',
    );
    expect(decide("host replication all all reject\n", { replication: "physical" })).toBe(
      '28000 pg_hba.conf rejects replication connection for host "192.0.2.1", user "ada", no encryption',
    );
  });

  test("know regular expressions, and which names PostgreSQL will see", () => {
    const text = 'host "/^shop_[0-9]{1,2}$" /^a all trust\nhost all all all reject\n';
    expect(decide(text, { database: "shop_12" })).toBe("trust");
    expect(decide(text, { database: "shop_123" })).toMatch(/rejects/);
    expect(decide(text, { database: "shop_12", user: "eve" })).toMatch(/rejects/);
    // PostgreSQL cuts names off at 63 bytes: nobody gets past a rule with a longer one.
    const longest = `a${"x".repeat(62)}`;
    expect(decide(`host all ${longest} all reject\nhost all all all trust\n`, { user: `${longest}y` })).toMatch(
      /rejects/,
    );
  });

  test("ask the machine for its own addresses", () => {
    expect(decide("host all all samehost trust\n", { address: "192.0.2.7" })).toBe("trust");
    expect(decide("host all all samehost trust\n")).toMatch(/no pg_hba.conf entry/);
    expect(decide("host all all samenet trust\n")).toBe("trust");
    expect(decide("host all all samenet trust\n", { address: "192.0.3.1" })).toMatch(/no pg_hba.conf entry/);
  });

  test("let a certificate in that names its user, or is mapped to it", () => {
    const text = "hostssl all all all cert\n";
    expect(decide(text, { tls: true })).toBe("28000 connection requires a valid client certificate");
    expect(decide(text, { tls: true, certificate: ada })).toBe("trust");
    const failed = '28000 certificate authentication failed for user "bob"';
    expect(decide(text, { tls: true, certificate: ada, user: "bob" })).toBe(failed);
    expect(decide(text, { tls: true, certificate: { ...ada, commonName: null } })).toMatch(/^28000 certificate/);
    const mapped = "hostssl all all all cert map=corp clientname=DN\n";
    const ident = 'corp "/^CN=([a-z]+),O=Corp$" \\1\n';
    expect(decide(mapped, { tls: true, certificate: ada }, ident)).toBe("trust");
    expect(decide(mapped, { tls: true, certificate: ada, user: "bob" }, ident)).toBe(failed);
    expect(decide(mapped, { tls: true, certificate: ada })).toMatch(/^28000 certificate/);
  });

  test("can ask for a certificate besides a password", () => {
    const ca = "hostssl all all all scram-sha-256 clientcert=verify-ca\n";
    expect(decide(ca, { tls: true })).toBe("28000 connection requires a valid client certificate");
    expect(decide(ca, { tls: true, certificate: ada, user: "bob" })).toBe("scram-sha-256");
    const full = "hostssl all all all scram-sha-256 clientcert=verify-full\n";
    expect(decide(full, { tls: true, certificate: ada })).toBe("scram-sha-256");
    expect(decide(full, { tls: true, certificate: ada, user: "bob" })).toBe(
      'scram-sha-256, then 28P01 password authentication failed for user "bob"',
    );
    const trust = "hostssl all all all trust clientcert=verify-full\n";
    expect(decide(trust, { tls: true, certificate: ada, user: "bob" })).toBe(
      '28000 "trust" authentication failed for user "bob"',
    );
  });

  test("do not let a password cross in clear unless that is allowed", () => {
    const text = "host all all all password\nlocal all all password\n";
    expect(decide(text)).toBe("password");
    const strict = rules(text, "", false);
    expect(outcome(strict.decide(request))).toMatch(/^28000 password authentication requires an encrypted/);
    expect(outcome(strict.decide({ ...request, tls: true }))).toBe("password");
    expect(outcome(strict.decide({ ...request, address: null }))).toBe("password");
  });
});

describe("an HBA file", () => {
  test("has all its problems named at once", () => {
    const read = readHbaFile("/hba", files("host all all all ldap\nhost all all all trust\nhost all +x all md5\n"));
    expect(read.ok ? [] : read.problems.map(({ file, line }) => `${file}:${line}`)).toEqual(["/hba:1", "/hba:3"]);
  });

  test("that names a list which cannot be read has that one problem in its line", () => {
    const missing = (path: string): string => {
      if (path === "/hba") return "host all @gone all trust\n";
      throw Object.assign(new Error(path), { code: "ENOENT" });
    };
    const read = readHbaFile("/hba", { readFile: missing, listFiles: () => [] });
    expect(read.ok ? [] : read.problems.map(({ line, message }) => `${line} ${message}`)).toEqual([
      "1 asks for a file that does not exist: /gone",
    ]);
  });

  test("without a rule would let nobody in, and is refused", () => {
    expect(readHbaFile("/hba", files("# nothing\n"))).toMatchObject({ ok: false, problems: [{ line: 0 }] });
  });

  test("is refused when it is too long", () => {
    const rule = "host all all all trust\n";
    expect(readHbaFile("/hba", files(rule.repeat(ACCESS_LINES_MAX))).ok).toBe(true);
    expect(readHbaFile("/hba", files(rule.repeat(ACCESS_LINES_MAX + 1))).ok).toBe(false);
  });
});
