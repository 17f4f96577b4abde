// What a server may ask for before it gets an answer.

import { describe, expect, test } from "vitest";
import { localChannel, parseRequireAuth, refusedRequest, usualRules } from "../../../src/auth/server-rules.ts";

const network = { tls: false, readable: true, binding: null };
const codes = [0, 3, 5, 7, 9, 10];

describe("a server's first request", () => {
  test("may be any where nothing is set, but for a password in clear over a network", () => {
    for (const code of codes) expect(refusedRequest(usualRules, localChannel, code)).toBeNull();
    expect(codes.filter((code) => refusedRequest(usualRules, network, code) !== null)).toEqual([3]);
    expect(refusedRequest(usualRules, network, 3)).toBe(
      "server asks for the password in clear, over a connection without TLS",
    );
    expect(refusedRequest(usualRules, { ...network, tls: true, readable: false }, 3)).toBeNull();
    expect(refusedRequest({ ...usualRules, allowClearText: true }, network, 3)).toBeNull();
  });

  test("has to be one that require_auth names", () => {
    const rules = { ...usualRules, requireAuth: parseRequireAuth("scram-sha-256, none") };
    expect(codes.filter((code) => refusedRequest(rules, localChannel, code) === null)).toEqual([0, 10]);
    expect(refusedRequest(rules, localChannel, 5)).toBe(
      "require_auth allows scram-sha-256, none, but the server asks for md5 authentication",
    );
  });

  test("has to be one that can be bound where channel_binding is require", () => {
    const rules = { ...usualRules, channelBinding: "require" } as const;
    expect(codes.filter((code) => refusedRequest(rules, localChannel, code) === null)).toEqual([10]);
    expect(refusedRequest(rules, localChannel, 0)).toBe(
      "channel_binding is require, but the server does not ask who we are",
    );
  });
});

describe("require_auth", () => {
  test.each([
    ["password", ["password"]],
    ["md5,scram-sha-256", ["md5", "scram-sha-256"]],
    ["!password, !md5", ["gss", "sspi", "scram-sha-256", "none"]],
    ["", null],
    ["scram", null],
    ["md5,md5", null],
    ["md5,!password", null],
  ])("%j is read as libpq reads it", (written, methods) => {
    const parsed = parseRequireAuth(written);
    expect(parsed === null ? null : [...parsed]).toEqual(methods);
  });
});
