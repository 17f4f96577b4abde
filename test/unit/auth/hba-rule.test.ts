// One line of an HBA file: what is taken, and what is refused with which words. The lines that PostgreSQL refuses, too, are compared
// with it in test/integration/hba.test.ts.

import { describe, expect, test } from "vitest";
import { readRule } from "../../../src/auth/hba-rule.ts";
import { readFieldFile } from "../../../src/auth/hba-tokens.ts";

function rule(text: string): ReturnType<typeof readRule> {
  const { lines } = readFieldFile("/hba", { readFile: () => text, listFiles: () => [] });
  const [line] = lines;
  if (line === undefined) throw new Error("no line");
  return readRule(line);
}

describe("a line of an HBA file", () => {
  test.each([
    ["local all all trust", { origin: { kind: "local" }, method: "trust", certificate: null }],
    ["host all all all reject", { origin: { kind: "host", tls: null, addresses: "all" }, method: "reject" }],
    ["hostnogssenc all all samenet md5", { origin: { kind: "host", tls: null, addresses: "samenet" }, method: "md5" }],
    ["hostnossl all all 10.0.0.0/8 md5", { origin: { kind: "host", tls: false } }],
    ["hostgssenc all all all trust", { origin: { kind: "never" } }],
    ["hostssl all all fd00::/8 cert", { certificate: { names: true, nameFrom: "CN", map: null } }],
    ["hostssl all all all cert map=m clientname=DN", { certificate: { names: true, nameFrom: "DN", map: "m" } }],
    ["hostssl all all all cert clientcert=verify-full", { certificate: { names: true } }],
    ["hostssl all all all md5 clientcert=verify-ca", { certificate: { names: false } }],
    [
      "hostssl all all all scram-sha-256 clientcert=verify-full",
      { method: "scram-sha-256", certificate: { names: true } },
    ],
    ['host all "+admins" all trust', { users: [{ kind: "name", name: "+admins" }] }],
    ['host "samerole" all all trust', { databases: [{ kind: "name", name: "samerole" }] }],
    ['host "all",all all all trust', { databases: [{ kind: "name" }, { kind: "keyword" }] }],
    ["host /^app all all trust", { databases: [{ kind: "pattern" }] }],
  ])("is taken: %s", (text, expected) => {
    expect(rule(text)).toMatchObject({ ok: true, value: expected });
  });

  test.each([
    ["host all +admins all trust", /asks who is a member/, /list the users/],
    ["host samerole all all trust", /asks who is a member/, /list the users/],
    ["host all all db.example trust", /host name db.example/, /write the addresses/],
    ["host all all .example.com trust", /host name/, /write the addresses/],
    ['host all all "all" trust', /host name all/, /write the addresses/],
    ["host all all 10.0.0.1 trust", /10.0.0.1, and behind it trust/, /10.0.0.1\/32/],
    ["host all all 10.0.0.0/33 trust", /mask cannot be/, /10.0.0.0\/32/],
    ["local all all peer", /method peer, which asks the system/, /use one of/],
    ["host all all all ident", /method ident/, /use one of/],
    ["host all all all ldap ldapserver=x", /method ldap, which asks an LDAP server/, /use one of/],
    ["host all all all gss", /method gss/, /use one of/],
    ["host all all all scram", /method scram, which does not exist/, /use one of/],
    ["host all all all cert", /needs TLS/, /hostssl/],
    ["host all all all md5 clientcert=verify-ca", /needs TLS/, /hostssl/],
    ["hostssl all all all md5 clientcert=1", /clientcert=1/, /verify-ca or verify-full/],
    ["hostssl all all all cert clientcert=verify-ca", /verifies fully/, /remove/],
    ["hostssl all all all cert clientname=SAN", /clientname=SAN/, /CN or DN/],
    ["host all all all md5 map=m", /option map/, /cert/],
    ["host all all all md5 radiusservers=x", /option radiusservers/, /clientcert/],
    ["host all /( all trust", /regular expression .* lacks a closing/, /otherwise/],
    ["hots all all all trust", /connection type "hots"/, /host/],
  ])("is refused: %s", (text, message, remedy) => {
    const read = rule(text);
    expect(read).toMatchObject({
      ok: false,
      message: expect.stringMatching(message),
      remedy: expect.stringMatching(remedy),
    });
  });
});
