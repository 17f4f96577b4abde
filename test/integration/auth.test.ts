// pgsteer's answers to authentication requests, against a real PostgreSQL server; and PostgreSQL's own verifiers
// against pgsteer's side of a login. Speaks just enough of the wire protocol for a login.

import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { ClientAuthentication } from "../../src/auth/client-authentication.ts";
import { md5Secret } from "../../src/auth/password.ts";
import { parseSecret, type Secret } from "../../src/auth/secret.ts";
import { ServerAuthentication } from "../../src/auth/server-authentication.ts";
import { freePort } from "../support/ports.ts";
import { ProcessGroup, temporaryServerDirectory } from "../support/processes.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

/** The newest PostgreSQL that Debian's layout shows, or the one on the path. */
function binaries(): string {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).toSorted((a, b) => Number(b) - Number(a)) : [];
  return versions[0] === undefined ? "" : join(root, versions[0], "bin");
}

const hba = ["scram-sha-256", "md5", "password"]
  .map((method) => `host all +${method.replaceAll("-", "_")}_users 127.0.0.1/32 ${method}`)
  .concat("host all all 127.0.0.1/32 trust", "");

/** Role → its password; each exists once per method, as `<method>_<role>`. */
const passwords: Readonly<Record<string, string>> = {
  simple: "pencil",
  spaces: "  two  words ",
  accents: "pässwörd",
  prepared: "I\u00adX \u2168 a\u00a0b",
  unprepared: "\u2168\u0221\u0627",
  quoted: "'\"\\$%",
  long: "x".repeat(900),
};

let group: ProcessGroup;
let port = 0;

const superuser = () => ({ host: "127.0.0.1", port, user: "postgres", password: "", database: "postgres" });

beforeAll(async () => {
  group = new ProcessGroup(temporaryServerDirectory("auth"));
  const directory = join(group.directory, "pg");
  const initdb = ["-D", directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"];
  const preparation = await group.start(join(binaries(), "initdb"), initdb, { name: "initdb", asPostgres: true });
  await waitFor(() => !preparation.alive(), { timeoutMs: 60_000, what: "initdb is done" });
  writeFileSync(join(directory, "pg_hba.conf"), hba.join("\n"));
  port = await freePort();
  const settings = [`port=${port}`, "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"];
  const args = ["-D", directory, ...settings.flatMap((setting) => ["-c", setting])];
  const server = await group.start(join(binaries(), "postgres"), args, { name: "postgres", asPostgres: true });
  await waitFor(() => queryOnce(superuser(), "select 1"), {
    timeoutMs: 30_000,
    what: `PostgreSQL answers: ${server.log}`,
  });
  for (const [method, encryption] of [
    ["scram_sha_256", "scram-sha-256"],
    ["md5", "md5"],
    ["password", "scram-sha-256"],
  ]) {
    await queryOnce(superuser(), `create role ${method}_users`);
    for (const [role, password] of Object.entries(passwords)) {
      const quoted = password.replaceAll("'", "''");
      await queryOnce(
        superuser(),
        `set password_encryption = '${encryption}'; create role ${method}_${role} login password '${quoted}' in role ${method}_users`,
      );
    }
  }
});

afterAll(async () => {
  await group.close();
  rmSync(group.directory, { recursive: true, force: true });
});

/** One message at a time off a socket. */
async function* messages(socket: Socket): AsyncGenerator<{ type: string; body: Buffer }> {
  let pending = Buffer.alloc(0);
  for await (const chunk of socket) {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 5 && pending.length > pending.readInt32BE(1)) {
      const end = pending.readInt32BE(1) + 1;
      yield { type: pending.toString("latin1", 0, 1), body: pending.subarray(5, end) };
      pending = pending.subarray(end);
    }
  }
}

function packet(type: string, body: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(body.length + 4);
  return Buffer.concat([Buffer.from(type), length, body]);
}

/** Logs in; says `ok` and the request codes on the way, or why not. */
async function login(user: string, secret: Secret | null): Promise<{ outcome: string; codes: number[] }> {
  const authentication = new ServerAuthentication({ user, secret, random: randomBytes });
  const socket = connect({ host: "127.0.0.1", port });
  const codes: number[] = [];
  try {
    const parameters = Buffer.from(`\0\x03\0\0user\0${user}\0database\0postgres\0\0`);
    socket.write(packet("", parameters));
    for await (const { type, body } of messages(socket)) {
      if (type === "E") return { outcome: /\0C([0-9A-Z]{5})\0/.exec(body.toString("latin1"))?.[1] ?? "error", codes };
      if (type === "Z") return { outcome: "ready", codes };
      if (type !== "R") continue;
      const code = body.readInt32BE(0);
      codes.push(code);
      const step = authentication.request(code, body.subarray(4));
      if (step.kind === "failed") return { outcome: step.error.message, codes };
      if (step.kind === "send") socket.write(packet("p", step.body));
    }
    return { outcome: "end of file", codes };
  } finally {
    socket.destroy();
  }
}

const expectedCodes: Readonly<Record<string, readonly number[]>> = {
  scram_sha_256: [10, 11, 12, 0],
  md5: [5, 0],
  password: [3, 0],
};

describe.each(Object.keys(expectedCodes))("a server that asks for %s", (method) => {
  test.each(Object.keys(passwords))("lets us in with the password of role %s", async (role) => {
    const secret: Secret = { kind: "plain", password: passwords[role] ?? "" };
    expect(await login(`${method}_${role}`, secret)).toEqual({ outcome: "ready", codes: expectedCodes[method] });
  });

  test("says 28P01 to a wrong password", async () => {
    const { outcome } = await login(`${method}_simple`, { kind: "plain", password: "pencil " });
    expect(outcome).toBe("28P01");
  });

  test("is not answered without a password", async () => {
    const { outcome } = await login(`${method}_simple`, null);
    expect(outcome).toBe(`server asks for the password of user "${method}_simple", but none is known`);
  });
});

describe("a server", () => {
  test("that asks for md5 lets us in with the hash alone", async () => {
    const secret: Secret = { kind: "md5", hash: md5Secret("pencil", "md5_simple") };
    expect(await login("md5_simple", secret)).toEqual({ outcome: "ready", codes: [5, 0] });
  });

  test("that trusts lets us in with anything", async () => {
    expect(await login("postgres", null)).toEqual({ outcome: "ready", codes: [0] });
  });
});

describe("PostgreSQL's own verifiers", () => {
  const verifiers = z.array(z.object({ rolname: z.string(), rolpassword: z.string() }));

  test("let exactly the right password in", async () => {
    const answer = await queryOnce(
      superuser(),
      "select rolname, rolpassword from pg_authid where rolpassword is not null and rolname ~ '^(scram_sha_256|md5)_'",
    );
    const rows = verifiers.parse(answer.rows);
    expect(rows).toHaveLength(2 * Object.keys(passwords).length);
    for (const { rolname, rolpassword } of rows) {
      const secret = parseSecret(rolpassword);
      const method = rolname.startsWith("md5_") ? "md5" : "scram-sha-256";
      expect(secret.kind).toBe(method === "md5" ? "md5" : "scram");
      const password = passwords[rolname.replace(/^(scram_sha_256|md5)_/, "")] ?? "";
      for (const [attempt, expected] of [
        [password, "ok"],
        [`${password}x`, "failed"],
      ] as const) {
        const options = { user: rolname, random: randomBytes };
        const server = new ClientAuthentication({ ...options, method, secret, mockKey: randomBytes(32) });
        const client = new ServerAuthentication({ ...options, secret: { kind: "plain", password: attempt } });
        let step = server.start();
        while (step.kind === "send") {
          const answered = client.request(step.code, step.payload);
          if (answered.kind !== "send") throw new Error(`gave up as ${rolname}`);
          step = server.answer(answered.body);
        }
        expect(`${rolname} ${step.kind}`).toBe(`${rolname} ${expected}`);
      }
    }
  });
});
