// What pgsteer answers to a PostgreSQL server, and which servers it turns away.

import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type AuthStep, ClientAuthentication } from "../../../src/auth/client-authentication.ts";
import { ProvenKeys, type ServerSecret } from "../../../src/auth/proven-keys.ts";
import { deriveScramKeys } from "../../../src/auth/scram.ts";
import type { Secret } from "../../../src/auth/secret.ts";
import { ServerAuthentication, type ServerAuthStep } from "../../../src/auth/server-authentication.ts";
import { type ServerChannel, usualRules } from "../../../src/auth/server-rules.ts";

const USER = "app";
const plain: Secret = { kind: "plain", password: "pw" };
const md5: Secret = { kind: "md5", hash: "md53f1d2c8f7b6d6e2f0e8c0f7a1b2c3d4e" };
const salt = Buffer.from("0123456789abcdef");
const scram: Secret & { kind: "scram" } = {
  kind: "scram",
  iterations: 4096,
  salt,
  ...deriveScramKeys("pw", salt, 4096),
};
const empty = Buffer.alloc(0);
const offer = Buffer.from("SCRAM-SHA-256\0\0");
const boundOffer = Buffer.from("SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
const proven = new ProvenKeys(scram, deriveScramKeys("pw", salt, 4096).clientKey);
const endPoint = Buffer.alloc(32, 9);
const overTls: ServerChannel = { tls: true, readable: false, binding: endPoint };

const authentication = (secret: ServerSecret | null = plain) =>
  new ServerAuthentication({ user: USER, secret, random: randomBytes });

function failure(step: ServerAuthStep): { message: string; hint: string | null; code: string } {
  if (step.kind !== "failed") throw new Error(`unexpected step ${JSON.stringify(step)}`);
  return step.error;
}

/** Both sides of a SCRAM login, up to the server-final-message. */
function untilFinal(mine = authentication()): { mine: ServerAuthentication; final: Buffer; serverFirst: Buffer } {
  const options = {
    method: "scram-sha-256",
    user: USER,
    random: randomBytes,
    tls: true,
    mockKey: randomBytes(32),
  } as const;
  const server = new ClientAuthentication({ ...options, secret: scram });
  const body = (step: ServerAuthStep) => (step.kind === "send" ? step.body : empty);
  server.start();
  const first = server.answer(body(mine.request(10, offer)));
  if (first.kind !== "send") throw new Error("no challenge");
  const last = server.answer(body(mine.request(11, first.payload)));
  if (last.kind !== "ok" || last.final === undefined) throw new Error("not accepted");
  return { mine, final: last.final, serverFirst: first.payload };
}

describe("a server", () => {
  test("that asks for nothing is taken", () => {
    expect(authentication().request(0, empty)).toEqual({ kind: "ok" });
    expect(authentication(null).request(0, empty)).toEqual({ kind: "ok" });
  });

  test("that asks for the password gets it", () => {
    const mine = authentication();
    expect(mine.request(3, empty)).toEqual({ kind: "send", body: Buffer.from("pw\0") });
    expect(mine.request(0, empty)).toEqual({ kind: "ok" });
  });

  test("that asks for md5 gets a hash, from the password or from its hash", () => {
    const fourBytes = Buffer.from([1, 2, 3, 4]);
    const step = authentication().request(5, fourBytes);
    expect(step).toMatchObject({ kind: "send" });
    if (step.kind === "send") expect(step.body.toString()).toMatch(/^md5[0-9a-f]{32}\0$/);
    expect(authentication(md5).request(5, fourBytes)).toMatchObject({ kind: "send" });
    expect(failure(authentication().request(5, Buffer.alloc(3))).message).toContain("malformed");
  });

  test("that proves itself by SCRAM is taken", () => {
    const { mine, final } = untilFinal();
    expect(mine.request(12, final)).toEqual({ kind: "wait" });
    expect(mine.request(0, empty)).toEqual({ kind: "ok" });
  });

  test("that ends SCRAM early is refused, at each point", () => {
    const early = authentication();
    early.request(10, offer);
    expect(failure(early.request(0, empty)).message).toContain("before it proved");
    const { mine } = untilFinal();
    expect(failure(mine.request(0, empty)).message).toContain("before it proved");
  });

  test("that proves itself wrongly is refused, and stays refused", () => {
    const { mine, final } = untilFinal();
    const wrong = Buffer.from(`v=${Buffer.alloc(32).toString("base64")}`);
    expect(failure(mine.request(12, wrong)).message).toContain("does not know the password");
    expect(mine.request(12, final).kind).toBe("failed");
    expect(mine.request(0, empty).kind).toBe("failed");
  });

  test.each([
    ["a challenge before SCRAM", 11],
    ["a proof before SCRAM", 12],
  ])("that sends %s is refused", (_what, code) => {
    expect(failure(authentication().request(code, empty)).message).toContain("out of order");
  });

  test("that changes its mind is refused", () => {
    for (const code of [3, 5, 10, 11]) {
      const mine = authentication();
      mine.request(3, empty);
      expect(mine.request(code, empty).kind).toBe("failed");
    }
    for (const code of [3, 5, 10, 12]) {
      const mine = authentication();
      mine.request(10, offer);
      expect(mine.request(code, empty).kind).toBe("failed");
    }
    const { mine, serverFirst } = untilFinal();
    expect(mine.request(11, serverFirst).kind).toBe("failed");
  });

  test.each([
    [2, "Kerberos V5"],
    [7, "GSSAPI"],
    [9, "SSPI"],
    [99, "authentication method 99"],
  ])("that asks for method %i is refused by name", (code, name) => {
    const { message, hint } = failure(authentication().request(code, empty));
    expect(message).toBe(`server asks for ${name}, which pgsteer does not support`);
    expect(hint).toContain("pg_hba.conf");
  });

  test.each([
    ["nothing", empty],
    ["no name", Buffer.from("\0")],
    ["no end", Buffer.from("SCRAM-SHA-256")],
    ["one terminator", Buffer.from("SCRAM-SHA-256\0")],
    ["only what we do not speak", Buffer.from("SCRAM-SHA-256-PLUS\0\0")],
    ["a list without end", Buffer.from(`${"X\0".repeat(1000)}SCRAM-SHA-256\0\0`)],
  ])("that offers %s for SASL is refused", (_what, payload) => {
    expect(authentication().request(10, payload).kind).toBe("failed");
  });

  test("is told apart from our own lack of a password", () => {
    for (const secret of [null, { kind: "plain", password: "" } as const]) {
      for (const [code, payload] of [
        [3, empty],
        [5, Buffer.alloc(4)],
        [10, offer],
      ] as const) {
        const { message, hint } = failure(authentication(secret).request(code, payload));
        expect(message).toBe(`server asks for the password of user "${USER}", but none is known`);
        expect(hint).toContain("userlist");
      }
    }
    expect(failure(authentication(md5).request(10, offer)).message).toContain("only an md5 hash");
    expect(failure(authentication(md5).request(3, empty)).message).toContain("only an md5 hash");
    expect(failure(authentication(scram).request(10, offer)).message).toContain("only a SCRAM verifier");
    expect(failure(authentication(scram).request(5, Buffer.alloc(4))).message).toContain("only a SCRAM verifier");
  });

  test("learns nothing of the password from an error", () => {
    const secret: Secret = { kind: "plain", password: "very-secret" };
    for (const code of [2, 7, 11, 12, 99]) {
      expect(JSON.stringify(failure(authentication(secret).request(code, empty)))).not.toContain("very-secret");
    }
  });
});

/** A login against the other role, whose server has a certificate to bind to or none; `secret` is what the server keeps. */
function against(
  mine: ServerAuthentication,
  channelBinding: Buffer | null,
  change: (offer: Buffer) => Buffer = (offered) => offered,
  secret: Secret = scram,
): { readonly end: string; readonly mine: string } {
  const other = { method: "scram-sha-256", user: USER, random: randomBytes, mockKey: randomBytes(32) } as const;
  const server = new ClientAuthentication({ ...other, secret, channelBinding });
  let step: AuthStep = server.start();
  let isOffer = true;
  while (step.kind === "send") {
    const said = mine.request(step.code, isOffer ? change(step.payload) : step.payload);
    isOffer = false;
    if (said.kind === "failed") return { end: "given up", mine: said.error.message };
    if (said.kind !== "send") throw new Error(`unexpected step ${said.kind}`);
    step = server.answer(said.body);
  }
  if (step.kind === "failed") return { end: step.error.message, mine: "" };
  const last = step.final === undefined ? { kind: "wait" } : mine.request(12, step.final);
  return { end: step.kind, mine: last.kind === "wait" ? mine.request(0, empty).kind : last.kind };
}

describe("the keys that a client has proven", () => {
  const withKeys = (keys: ServerSecret = proven) =>
    new ServerAuthentication({ user: USER, secret: keys, random: randomBytes });

  test("log in to a server that keeps the same secret, as the password does", () => {
    expect(against(withKeys(), null)).toEqual({ end: "ok", mine: "ok" });
  });

  test("are not used where the server keeps another secret, of the same password either", () => {
    const salted = Buffer.from("fedcba9876543210");
    for (const [kept, iterations] of [
      [salted, 4096],
      [salt, 5000],
    ] as const) {
      const other: Secret = { kind: "scram", iterations, salt: kept, ...deriveScramKeys("pw", kept, iterations) };
      const { end, mine } = against(withKeys(), null, undefined, other);
      expect([end, mine]).toEqual([
        "given up",
        `server keeps another SCRAM secret of user "${USER}" than pgsteer knows`,
      ]);
    }
  });

  test("find out a server that does not know the secret", () => {
    const mine = withKeys();
    const { final } = untilFinal(mine);
    final[5] = (final[5] ?? 0) ^ 1;
    expect(failure(mine.request(12, final)).message).toMatch(/malformed|does not know the password/);
  });

  test("are of no use once they are wiped", () => {
    const wiped = new ProvenKeys(scram, Buffer.alloc(32));
    wiped.wipe();
    expect(against(withKeys(wiped), null).end).toBe("given up");
  });

  test("are no password, and no md5 hash", () => {
    expect(failure(withKeys().request(3, empty)).message).toContain("only SCRAM keys");
    expect(failure(withKeys().request(5, Buffer.alloc(4))).message).toContain("only SCRAM keys");
  });

  test("are what is missing where only a verifier is known, and the hint says how to get them", () => {
    const { message, hint } = failure(withKeys(scram).request(10, offer));
    expect(message).toContain("only a SCRAM verifier");
    expect(hint).toContain("scram-sha-256 or password");
  });
});

describe("channel binding", () => {
  const rules = (channelBinding: "disable" | "prefer" | "require") => ({ ...usualRules, channelBinding });
  const bound = (mode: "disable" | "prefer" | "require", channel = overTls, secret: ServerSecret = plain) =>
    new ServerAuthentication({ user: USER, secret, random: randomBytes, channel, rules: rules(mode) });
  const withoutPlus = () => offer;

  test("is used where both sides can, unless it is disabled", () => {
    for (const mode of ["prefer", "require"] as const) {
      expect(bound(mode).request(10, boundOffer)).toMatchObject({
        kind: "send",
        body: expect.toSatisfy((body: Buffer) => body.toString("latin1").startsWith("SCRAM-SHA-256-PLUS\0")),
      });
      expect(against(bound(mode), endPoint)).toEqual({ end: "ok", mine: "ok" });
      expect(against(bound(mode, overTls, proven), endPoint)).toEqual({ end: "ok", mine: "ok" });
    }
    const mine = bound("disable");
    expect(against(mine, endPoint)).toEqual({ end: "ok", mine: "ok" });
  });

  test("finds out another certificate than the server's own", () => {
    expect(against(bound("prefer"), Buffer.alloc(32, 1)).end).toBe("SCRAM channel binding check failed");
  });

  test("finds out that its offer was taken away: we say that we could", () => {
    expect(against(bound("prefer"), endPoint, withoutPlus).end).toBe("SCRAM channel binding negotiation error");
    expect(against(bound("disable"), endPoint, withoutPlus)).toEqual({ end: "ok", mine: "ok" });
    expect(against(bound("prefer"), null)).toEqual({ end: "ok", mine: "ok" });
  });

  test("is insisted on where it is required", () => {
    const why = (step: ServerAuthStep) => failure(step).message;
    expect(why(bound("require").request(10, offer))).toBe(
      "channel_binding is require, but the server does not offer it",
    );
    expect(why(bound("require", { ...overTls, binding: null }).request(10, boundOffer))).toBe(
      "channel_binding is require, but the server's certificate cannot be bound to",
    );
    for (const code of [0, 3, 5]) expect(why(bound("require").request(code, Buffer.alloc(4)))).toContain("is require");
  });

  test("is not offered in clear by anybody honest", () => {
    expect(failure(authentication().request(10, boundOffer)).message).toContain("without TLS");
  });
});
