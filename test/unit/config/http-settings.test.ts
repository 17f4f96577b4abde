import { describe, expect, test } from "vitest";
import { clusters, configOf, files, load, makeCertificates, problemsOf, rest } from "./fixture.ts";

makeCertificates();

const token = "0123456789abcdef";
const warningsOf = (text: string): readonly string[] => {
  const loaded = load(text);
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.warnings;
};
const withUsers = `${clusters}auth: { file: userlist.txt, stats_users: [app], admin_users: [pgsteer] }\n`;

describe("the section http", () => {
  test("takes its token from itself, a file or the environment, without what surrounds it", () => {
    files.set("/etc/pgsteer/http.token", `${token}\n`);
    expect(configOf(`${rest}http: { token: "${token}" }\n`).http?.token).toBe(token);
    expect(configOf(`${rest}http: { token_file: http.token }\n`).http?.token).toBe(token);
  });

  test("takes certificates, and authorities for those of its clients", () => {
    const { http } = configOf(`${rest}http: { cert_file: one.crt, key_file: one.key, ca_file: two.crt }\n`);
    expect(http?.tls?.cert).toContain("BEGIN CERTIFICATE");
    expect(http?.tls?.ca).toBe(files.get("/etc/pgsteer/two.crt"));
    expect(configOf(withUsers).auth).toMatchObject({ adminUsers: ["pgsteer"], statsUsers: ["app"] });
  });

  test("asks for no client certificates without TLS", () => {
    expect(problemsOf(`${rest}http: { ca_file: two.crt }\n`)).toMatchObject([
      { key: "http.ca_file", message: "asks for client certificates without TLS" },
    ]);
  });

  test("warns where others can reach it without a login, or read the login on its way", () => {
    expect(warningsOf(`${rest}http: { address: 0.0.0.0 }\n`)).toEqual([expect.stringContaining("has no login")]);
    const inClear = [expect.stringContaining("crosses the network in clear")];
    expect(warningsOf(`${rest}http: { address: 0.0.0.0, token: "${token}" }\n`)).toEqual(inClear);
    expect(warningsOf(`${withUsers}http: { address: "::" }\n`)).toEqual(inClear);
    const tls = "cert_file: one.crt, key_file: one.key";
    expect(warningsOf(`${withUsers}http: { address: 0.0.0.0, ${tls} }\n`)).toEqual([]);
    expect(warningsOf(`${rest}http: { address: 0.0.0.0, ${tls}, ca_file: two.crt }\n`)).toEqual([]);
    expect(warningsOf(`${rest}http: { address: 0.0.0.0, ${tls} }\n`)).toEqual([
      expect.stringContaining("has no login"),
    ]);
    expect(warningsOf(`${rest}http: { enabled: false, address: 0.0.0.0 }\n`)).toEqual([]);
  });
});
