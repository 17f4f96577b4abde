// What a client of pgsteer meets, method by method: the right password, the wrong one, no such user, and nonsense.

import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  type AuthStep,
  ClientAuthentication,
  type ClientAuthenticationOptions,
} from "../../../src/auth/client-authentication.ts";
import { md5Response, md5Secret } from "../../../src/auth/password.ts";
import { deriveScramKeys, ScramDerivations } from "../../../src/auth/scram.ts";
import type { Secret } from "../../../src/auth/secret.ts";
import { ServerAuthentication } from "../../../src/auth/server-authentication.ts";
import { CLEAR_PASSWORD_BYTES_MAX } from "../../../src/core/limits.ts";

const PASSWORD = "geheim für alle";
const USER = "app";
const mockKey = randomBytes(32);
const scramSalt = randomBytes(16);

const plain: Secret = { kind: "plain", password: PASSWORD };
const md5: Secret = { kind: "md5", hash: md5Secret(PASSWORD, USER) };
const scram: Secret = {
  kind: "scram",
  iterations: 5000,
  salt: scramSalt,
  ...deriveScramKeys(PASSWORD, scramSalt, 5000),
};

function authentication(options: Partial<ClientAuthenticationOptions>): ClientAuthentication {
  const defaults = {
    method: "scram-sha-256",
    user: USER,
    secret: plain,
    random: randomBytes,
    mockKey,
  } as const;
  return new ClientAuthentication({ ...defaults, ...options });
}

/** Plays a client that knows `password` until the end. */
function login(server: ClientAuthentication, password: string): AuthStep {
  const client = new ServerAuthentication({ user: USER, secret: { kind: "plain", password }, random: randomBytes });
  let step = server.start();
  while (step.kind === "send") {
    const answer = client.request(step.code, step.payload);
    if (answer.kind !== "send") throw new Error(`the client gives up: ${JSON.stringify(answer)}`);
    step = server.answer(answer.body);
  }
  return step;
}

const wrongPassword = {
  kind: "failed",
  error: {
    code: "password_failed",
    sqlstate: "28P01",
    severity: "FATAL",
    message: `password authentication failed for user "${USER}"`,
    detail: null,
    hint: null,
  },
};
const violation = { kind: "failed", error: { code: "protocol_violation", sqlstate: "08P01" } };

const working = [
  ["password", plain],
  ["password", md5],
  ["password", scram],
  ["md5", plain],
  ["md5", md5],
  ["md5", scram],
  ["scram-sha-256", plain],
  ["scram-sha-256", scram],
] as const;

describe("a login", () => {
  test.each(working)("by %s against $1.kind succeeds with the password", (method, secret) => {
    expect(login(authentication({ method, secret }), PASSWORD).kind).toBe("ok");
  });

  test.each(working)("by %s against $1.kind fails with another", (method, secret) => {
    expect(login(authentication({ method, secret }), "falsch")).toMatchObject(wrongPassword);
  });

  test.each(["password", "md5", "scram-sha-256"] as const)("by %s fails for an unknown user, alike", (method) => {
    expect(login(authentication({ method, secret: null }), PASSWORD)).toMatchObject(wrongPassword);
  });

  test.each(["password", "md5"] as const)(
    "by %s fails with an empty password, known or not, as in PostgreSQL",
    (method) => {
      for (const secret of [plain, md5, null]) {
        const server = authentication({ method, secret });
        server.start();
        const error = { code: "password_failed", message: "empty password returned by client" };
        expect(server.answer(Buffer.alloc(1))).toMatchObject({ kind: "failed", error });
      }
    },
  );

  test.each(["password", "md5", "scram-sha-256"] as const)("by %s fails where the password is empty", (method) => {
    const secret: Secret = { kind: "plain", password: "" };
    const server = authentication({ method, secret });
    expect(login(server, "any")).toMatchObject(wrongPassword);
    if (method === "scram-sha-256") return;
    const again = authentication({ method, secret });
    const request = again.start();
    const salt = request.kind === "send" ? request.payload : Buffer.alloc(4);
    // Of one sent as it is, that it is empty is all that is said.
    if (method === "password") return;
    const answer = md5Response(md5Secret("", USER), salt);
    expect(again.answer(Buffer.from(`${answer}\0`))).toMatchObject(wrongPassword);
  });

  test("by password fails where more bytes are sent than CLEAR_PASSWORD_BYTES_MAX, right or wrong, without a derivation", () => {
    for (const length of [CLEAR_PASSWORD_BYTES_MAX, CLEAR_PASSWORD_BYTES_MAX + 1]) {
      const password = "p".repeat(length);
      const secret: Secret = { kind: "plain", password };
      const outcome = login(authentication({ method: "password", secret }), password);
      if (length === CLEAR_PASSWORD_BYTES_MAX) expect(outcome.kind).toBe("ok");
      else expect(outcome).toEqual({ kind: "failed", error: expect.objectContaining(wrongPassword.error) });
    }
  });

  test("by md5 asks who is known by what is known", () => {
    const pretence = { scram: true, iterations: 4096 };
    expect(authentication({ method: "md5", secret: md5, pretence }).start()).toMatchObject({ kind: "send", code: 5 });
    expect(login(authentication({ method: "md5", secret: null, pretence }), "any")).toMatchObject(wrongPassword);
  });

  test("by scram-sha-256 against an md5 hash fails as with a wrong password", () => {
    expect(login(authentication({ secret: md5 }), PASSWORD)).toMatchObject(wrongPassword);
  });

  test("by trust needs nothing", () => {
    expect(authentication({ method: "trust", secret: null }).start()).toEqual({ kind: "ok" });
  });

  test("by md5 against a SCRAM verifier is by SCRAM", () => {
    expect(authentication({ method: "md5", secret: scram }).start()).toMatchObject({ kind: "send", code: 10 });
  });

  test("of an unknown user is shown what most others are shown", () => {
    const unknown = { secret: null, pretence: { scram: true, iterations: 8192 } };
    expect(authentication({ ...unknown, method: "md5" }).start()).toMatchObject({ kind: "send", code: 10 });
    expect(
      authentication({ ...unknown, method: "md5", pretence: { scram: false, iterations: 8192 } }).start(),
    ).toMatchObject({
      kind: "send",
      code: 5,
    });
    const length = Buffer.alloc(4);
    length.writeInt32BE("n,,n=,r=abc".length);
    // So is one whose password is kept in clear.
    for (const secret of [null, plain]) {
      const server = authentication({ ...unknown, secret, method: "scram-sha-256" });
      server.start();
      const first = server.answer(Buffer.concat([Buffer.from("SCRAM-SHA-256\0"), length, Buffer.from("n,,n=,r=abc")]));
      expect(first.kind === "send" && first.payload.toString()).toMatch(/,i=8192$/);
    }
  });

  test("by md5 cannot be repeated with what was seen on the wire", () => {
    const seen = authentication({ method: "md5" });
    const request = seen.start();
    if (request.kind !== "send") throw new Error("no request");
    const answer = Buffer.from(`${md5Response(md5Secret(PASSWORD, USER), request.payload)}\0`);
    const next = authentication({ method: "md5" });
    next.start();
    expect(next.answer(answer)).toMatchObject(wrongPassword);
    expect(seen.answer(answer).kind).toBe("ok");
  });
});

describe("the SCRAM exchange", () => {
  const hello = (message: string, mechanism = "SCRAM-SHA-256", length = message.length): Buffer => {
    const size = Buffer.alloc(4);
    size.writeInt32BE(length);
    return Buffer.concat([Buffer.from(`${mechanism}\0`), size, Buffer.from(message)]);
  };
  const saltFor = (options: Partial<ClientAuthenticationOptions>): string => {
    const server = authentication(options);
    server.start();
    const step = server.answer(hello("n,,n=,r=abc"));
    if (step.kind !== "send") throw new Error("no challenge");
    return /,s=(.*)$/.exec(step.payload.toString())?.[1] ?? "";
  };

  test("gives a user name the same salt each time, known or not, and each name its own", () => {
    expect(saltFor({ secret: null })).toBe(saltFor({ secret: null }));
    expect(saltFor({ secret: plain })).toBe(saltFor({ secret: null }));
    expect(saltFor({ secret: md5 })).toBe(saltFor({ secret: null }));
    expect(saltFor({ secret: null, user: "other" })).not.toBe(saltFor({ secret: null }));
    expect(saltFor({ secret: null, mockKey: randomBytes(32) })).not.toBe(saltFor({ secret: null }));
  });

  test("offers one mechanism", () => {
    expect(authentication({}).start()).toEqual({ kind: "send", code: 10, payload: Buffer.from("SCRAM-SHA-256\0\0") });
  });

  test("derives once for many logins", () => {
    const derivations = new ScramDerivations();
    for (let count = 0; count < 3; count += 1) expect(login(authentication({ derivations }), PASSWORD).kind).toBe("ok");
    expect(login(authentication({ derivations }), "falsch").kind).toBe("failed");
    expect(derivations.size).toBe(1);
  });

  test("asks again when the client sends no first message yet", () => {
    const server = authentication({});
    server.start();
    expect(server.answer(hello("", "SCRAM-SHA-256", -1))).toEqual({ kind: "send", code: 11, payload: Buffer.alloc(0) });
    expect(server.answer(Buffer.from("n,,n=,r=abc"))).toMatchObject({ kind: "send", code: 11 });
  });

  test.each([
    ["another mechanism", hello("n,,n=,r=abc", "SCRAM-SHA-1")],
    ["the mechanism with channel binding", hello("p=tls-server-end-point,,n=,r=abc", "SCRAM-SHA-256-PLUS")],
    ["a length that is too large", hello("n,,n=,r=abc", "SCRAM-SHA-256", 12)],
    ["a length that is too small", hello("n,,n=,r=abc", "SCRAM-SHA-256", 10)],
    ["a negative length", hello("", "SCRAM-SHA-256", -2)],
    ["the length -1 with a message", hello("n,,n=,r=abc", "SCRAM-SHA-256", -1)],
    ["no length", Buffer.from("SCRAM-SHA-256\0\0\0")],
    ["no terminator", Buffer.from("SCRAM-SHA-256")],
    ["a password in clear", Buffer.from(`${PASSWORD}\0`)],
    ["nothing", Buffer.alloc(0)],
  ])("refuses %s", (_what, body) => {
    const server = authentication({});
    server.start();
    expect(server.answer(body)).toMatchObject(violation);
  });
});

describe("a password message", () => {
  test.each([
    ["without terminator", Buffer.from(PASSWORD)],
    ["with something behind the terminator", Buffer.from(`${PASSWORD}\0x`)],
    ["with two terminators", Buffer.from(`${PASSWORD}\0\0`)],
    ["that is empty", Buffer.alloc(0)],
  ])("%s is a protocol violation", (_what, body) => {
    for (const method of ["password", "md5"] as const) {
      const server = authentication({ method });
      server.start();
      expect(server.answer(body)).toMatchObject(violation);
    }
  });

  test("nobody asked for is a protocol violation", () => {
    const body = Buffer.from(`${PASSWORD}\0`);
    expect(authentication({}).answer(body)).toMatchObject(violation);
    const trusting = authentication({ method: "trust" });
    trusting.start();
    expect(trusting.answer(body)).toMatchObject(violation);
    const server = authentication({ method: "password" });
    server.start();
    expect(server.answer(Buffer.from("falsch\0"))).toMatchObject(wrongPassword);
    expect(server.answer(body)).toMatchObject(violation);
  });
});
