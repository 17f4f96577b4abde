// Keys that clients have shown: kept by user, bounded, dropped with the secret that they belong to, and shown to nobody.

import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { KeyRing, ProvenKeys } from "../../../src/auth/proven-keys.ts";
import { deriveScramKeys } from "../../../src/auth/scram.ts";
import type { Secret } from "../../../src/auth/secret.ts";
import { PROVEN_KEYS_MAX } from "../../../src/core/limits.ts";

type Scram = Secret & { kind: "scram" };

function secretOf(password: string, salt: Buffer = Buffer.alloc(16, 1), iterations = 4096): Scram {
  const { storedKey, serverKey } = deriveScramKeys(password, salt, iterations);
  return { kind: "scram", iterations, salt, storedKey, serverKey };
}

const secret = secretOf("one");
const newKeys = (of: Scram = secret): ProvenKeys => new ProvenKeys(of, Buffer.alloc(32, 7));

describe("proven keys", () => {
  test("belong to the secret with the same salt, iterations and stored key, and to no other", () => {
    const keys = newKeys();
    expect(keys.belongTo({ ...secret, salt: Buffer.from(secret.salt), storedKey: Buffer.from(secret.storedKey) })).toBe(
      true,
    );
    const others: (Secret | null)[] = [
      null,
      { kind: "plain", password: "one" },
      { kind: "md5", hash: "md5" },
      secretOf("two"),
      secretOf("one", Buffer.alloc(16, 2)),
      secretOf("one", secret.salt, 4097),
    ];
    expect(others.filter((other) => keys.belongTo(other))).toEqual([]);
  });

  test("show their client key neither in JSON nor when they are inspected, and are overwritten when they are wiped", () => {
    const bytes: Buffer = Buffer.alloc(32, 7);
    const keys = new ProvenKeys(secret, bytes);
    for (const text of [JSON.stringify(keys), inspect(keys, { depth: 9, showHidden: true })]) {
      expect(text).not.toMatch(/0707|7,7|07 07|BwcH/);
    }
    expect(keys.clientKey).toBe(bytes);
    keys.wipe();
    expect([keys.clientKey, bytes.every((byte) => byte === 0)]).toEqual([null, true]);
  });
});

describe("a ring of keys", () => {
  test("finds a user's keys for the secret that they belong to", () => {
    const ring = new KeyRing();
    const keys = newKeys();
    ring.add("app", keys);
    expect([ring.find("app", secret), ring.find("other", secret)]).toEqual([keys, null]);
  });

  test("drops them when the secret has changed, for good", () => {
    const ring = new KeyRing();
    const keys = newKeys();
    ring.add("app", keys);
    expect(ring.find("app", secretOf("two"))).toBeNull();
    expect([ring.find("app", secret), keys.clientKey, ring.size]).toEqual([null, null, 0]);
  });

  test("replaces them, and drops only those that are meant", () => {
    const ring = new KeyRing();
    const [first, second] = [newKeys(secretOf("former")), newKeys()];
    ring.add("app", first);
    ring.add("app", second);
    expect([first.clientKey, ring.find("app", secret)]).toEqual([null, second]);
    ring.drop("app", first);
    ring.drop("app", secret);
    expect(ring.find("app", secret)).toBe(second);
    ring.drop("app", second);
    expect([ring.find("app", secret), second.clientKey]).toEqual([null, null]);
  });

  test("keeps what it has when the same is proven again: a login to a server may be at work with it", () => {
    const ring = new KeyRing();
    const [keys, same] = [newKeys(), newKeys()];
    for (const each of [keys, keys, same]) ring.add("app", each);
    expect([ring.find("app", secret), keys.clientKey === null, same.clientKey]).toEqual([keys, false, null]);
  });

  test("is reviewed when the userlist is read again", () => {
    const ring = new KeyRing();
    const [stays, goes] = [newKeys(), newKeys()];
    ring.add("stays", stays);
    ring.add("goes", goes);
    ring.review((user, keys) => user === "stays" && keys === stays);
    expect([ring.find("stays", secret), goes.clientKey, ring.size]).toEqual([stays, null, 1]);
  });

  test("holds PROVEN_KEYS_MAX; those that were unused for longest go first", () => {
    const ring = new KeyRing();
    const first = newKeys();
    ring.add("first", first);
    const second = newKeys();
    ring.add("second", second);
    for (let count = 2; count < PROVEN_KEYS_MAX; count += 1) ring.add(`user ${count}`, newKeys());
    expect(ring.find("first", secret)).toBe(first);
    ring.add("one more", newKeys());
    expect([ring.size, second.clientKey, ring.find("first", secret)]).toEqual([PROVEN_KEYS_MAX, null, first]);
  });
});
