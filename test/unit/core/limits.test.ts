// Every bound has a test that reaches it, by name; or is listed here with the reason why not.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as limits from "../../../src/core/limits.ts";

const tests = join(import.meta.dirname, "../..");
const texts = readdirSync(tests, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".test.ts") && !path.endsWith("limits.test.ts"))
  .map((path) => readFileSync(join(tests, path), "utf8"))
  .join("\n");

/** Bounds that no test names, and why. */
const untested: Readonly<Record<string, string>> = {
  WELCOME_PROFILES_MAX: "a size of a cache: nothing can be seen of it but memory",
  OWN_NOTICES_MAX: "beyond it a notice is lost, which changes nothing",
  GROUPS_MAX: "a size of a cache: nothing can be seen of it but memory",
  LOGIN_RETRY_INITIAL_MS: "a first delay, not a bound: its growth is core/backoff's",
  LINGER_MS: "the client is gone either way: only the time of it differs",
};

describe("the limits", () => {
  test.each(Object.keys(limits))("%s is reached by a test, or says why not", (name) => {
    const named = new RegExp(`\\b${name}\\b`).test(texts);
    const excused = name in untested;
    expect(named || excused, `write a test that reaches ${name}, or give the reason in this file`).toBe(true);
    expect(named && excused, `${name} has its test: take it out of the list`).toBe(false);
  });

  test("that are excused exist", () => {
    for (const name of Object.keys(untested)) expect(Object.keys(limits)).toContain(name);
  });

  test("are those of PostgreSQL where they are PostgreSQL's", () => {
    expect(limits.STARTUP_PACKET_BYTES_MAX).toBe(10_000);
    expect(limits.MESSAGE_BYTES_MAX).toBe(0x3fffffff - 1);
    expect(limits.AUTH_MESSAGE_BYTES_MAX).toBe(65_535);
    expect(limits.CANCEL_KEY_BYTES_MAX).toBe(256);
  });
});
