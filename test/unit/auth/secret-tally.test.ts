// What those are shown who do not exist: what most others are shown.

import { describe, expect, test } from "vitest";
import type { Secret } from "../../../src/auth/secret.ts";
import { PRETENDED_ITERATIONS_MAX, SecretTally } from "../../../src/auth/secret-tally.ts";

const scram = (iterations: number): Secret => {
  const key = Buffer.alloc(32);
  return { kind: "scram", iterations, salt: Buffer.alloc(16), storedKey: key, serverKey: key };
};
const plain: Secret = { kind: "plain", password: "x" };
const md5: Secret = { kind: "md5", hash: "md5" };

describe("an unknown user", () => {
  test.each([
    ["as PostgreSQL makes them, where nothing is known", [], { scram: true, iterations: 4096 }],
    ["as most are", [scram(8192), scram(4096), scram(8192)], { scram: true, iterations: 8192 }],
    ["as passwords are by SCRAM", [plain, plain, scram(8192)], { scram: false, iterations: 4096 }],
    ["a hash among hashes, which SCRAM does not count", [md5, md5, scram(8192)], { scram: false, iterations: 8192 }],
    ["of which nobody has as many as none can log in by", [scram(0x7fff_ffff)], { scram: true, iterations: 4096 }],
  ])("has a secret %s", (_what, secrets, pretence) => {
    expect(new SecretTally(secrets).pretence).toEqual(pretence);
  });

  test("never has so many iterations that guesses cost much", () => {
    const tally = new SecretTally([
      scram(PRETENDED_ITERATIONS_MAX + 1),
      scram(PRETENDED_ITERATIONS_MAX + 1),
      scram(5000),
    ]);
    expect(tally.pretence).toEqual({ scram: true, iterations: 5000 });
  });

  test("has what those have who are there now", () => {
    const tally = new SecretTally([scram(8192), scram(8192), md5, md5, md5]);
    for (const gone of [scram(8192), md5, md5, scram(9999)]) tally.remove(gone);
    tally.add(scram(5000));
    tally.add(scram(5000));
    expect(tally.pretence).toEqual({ scram: true, iterations: 5000 });
  });

  test("is not counted by more kinds than there can be in earnest", () => {
    const tally = new SecretTally();
    for (let iterations = 5000; iterations < 6000; iterations += 1) tally.add(scram(iterations));
    tally.add(scram(5999));
    tally.add(scram(5999));
    expect(tally.pretence.iterations).toBe(5000);
  });
});
