import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { privilegeWarnings } from "../../../src/cli/least-privilege.ts";

let directory: string;
let file: string;

const base = `
auth: { file: userlist.txt }
clusters:
  demo:
    source: static
    static: { hosts: [h] }
    probe: { password_file: probe.secret }
    server_tls: { cert_file: server.crt, key_file: server.key, ca_file: ca.crt }
http: { token_file: http.token }
`;
const names = ["userlist.txt", "probe.secret", "server.crt", "server.key", "ca.crt", "http.token", "pgsteer.yaml"];

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "pgsteer-privilege-"));
  file = join(directory, "pgsteer.yaml");
  for (const name of names) writeFileSync(join(directory, name), "");
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function warnings(text: string, mode: number, uid?: number): readonly string[] {
  for (const name of names) chmodSync(join(directory, name), mode);
  return privilegeWarnings(file, text, uid).map((line) => line.replaceAll(`${directory}/`, ""));
}

describe("least privilege", () => {
  test("names the files with secrets that everybody may read, and how to change that; certificates are no secrets", () => {
    const files = ["userlist.txt", "probe.secret", "server.key", "http.token"];
    expect(warnings(base, 0o644)).toEqual(
      files.map(
        (name) => `${name} holds secrets, and every user of this machine has access to it (0644); chmod o= ${name}`,
      ),
    );
  });

  test.each([0o600, 0o640, 0o400])("is content with mode %o", (mode) => {
    expect(warnings(base, mode)).toEqual([]);
  });

  test("counts the file itself where a secret stands in it", () => {
    const inClear = "databases: { a: { user: u, password: secret } }\n";
    expect(warnings(inClear, 0o644)).toEqual([expect.stringMatching(/^pgsteer\.yaml holds secrets/)]);
    expect(warnings("log: { level: info }\n", 0o644)).toEqual([]);
  });

  test("leaves to others what is missing or no configuration", () => {
    expect(privilegeWarnings(file, "auth: { file: none.txt }", 1000)).toEqual([]);
    expect(privilegeWarnings(file, "auth: [", 1000)).toEqual([]);
  });

  test("warns of root", () => {
    expect(warnings("log: {}", 0o600, 0)).toEqual([expect.stringContaining("runs as root")]);
    expect(warnings("log: {}", 0o600, 33)).toEqual([]);
  });
});
