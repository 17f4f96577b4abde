// The three forms of a secret, and what only looks like one of them.

import { describe, expect, test } from "vitest";
import { parseSecret } from "../../../src/auth/secret.ts";

const salt = Buffer.from("0123456789abcdef").toString("base64");
const key = Buffer.alloc(32, 7).toString("base64");
const otherKey = Buffer.alloc(32, 8).toString("base64");

describe("parseSecret", () => {
  test("reads an md5 hash", () => {
    const hash = `md5${"0123456789abcdef".repeat(2)}`;
    expect(parseSecret(hash)).toEqual({ kind: "md5", hash });
  });

  test("reads a SCRAM verifier", () => {
    expect(parseSecret(`SCRAM-SHA-256$4096:${salt}$${key}:${otherKey}`)).toEqual({
      kind: "scram",
      iterations: 4096,
      salt: Buffer.from("0123456789abcdef"),
      storedKey: Buffer.alloc(32, 7),
      serverKey: Buffer.alloc(32, 8),
    });
  });

  test.each([
    ["an md5 hash that is too short", "md50123"],
    ["an md5 hash in capitals, as PostgreSQL has it", `md5${"ABCDEF0123456789".repeat(2)}`],
    ["a verifier without iterations", `SCRAM-SHA-256$:${salt}$${key}:${key}`],
    ["a verifier with zero iterations", `SCRAM-SHA-256$0:${salt}$${key}:${key}`],
    ["a verifier whose key is too short", `SCRAM-SHA-256$4096:${salt}$${salt}:${key}`],
    ["a verifier whose salt is not base64", `SCRAM-SHA-256$4096:=abc$${key}:${key}`],
    ["a verifier with something behind it", `SCRAM-SHA-256$4096:${salt}$${key}:${key} `],
    ["an empty text", ""],
  ])("takes %s as a password in clear", (_what, text) => {
    expect(parseSecret(text)).toEqual({ kind: "plain", password: text });
  });
});
