// The error table: well-formed, in use, and in PostgreSQL's style.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type ErrorCode, errorTable, ProxyError } from "../../../src/core/errors.ts";

const root = join(import.meta.dirname, "../../../src");
const sources = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts"))
  .map((path) => readFileSync(join(root, path), "utf8"))
  .join("\n");

/** The table's own keys stand without quotes: a code in quotes is a use of it. */
const codes = Object.keys(errorTable) as ErrorCode[];

describe("the error table", () => {
  test.each(codes)("gives %s an SQLSTATE of five characters, and somebody uses it", (code) => {
    expect(errorTable[code].sqlstate).toMatch(/^[0-9A-Z]{5}$/);
    expect(sources.includes(`"${code}"`), `nothing in src/ uses ${code}: remove the row`).toBe(true);
  });

  test("never invites to repeat what has an unknown outcome", () => {
    expect(errorTable.outcome_unknown).toEqual({ sqlstate: "08007", severity: "FATAL", retryable: false });
  });

  test("speaks of what drivers know how to retry with the SQLSTATE that they know", () => {
    expect(errorTable.leader_changed).toEqual({ sqlstate: "40001", severity: "ERROR", retryable: true });
    expect(errorTable.terminated.sqlstate).toBe("57P01");
    expect(errorTable.password_failed.sqlstate).toBe("28P01");
  });
});

describe("ProxyError", () => {
  test("takes all but its words from the table", () => {
    const cause = new Error("why");
    const error = new ProxyError("query_wait_timeout", "no leader", { detail: "d", hint: "h", cause });
    expect(error).toMatchObject({
      ...errorTable.query_wait_timeout,
      code: "query_wait_timeout",
      detail: "d",
      hint: "h",
      cause,
    });
    expect(new ProxyError("query_wait_timeout", "no leader")).toMatchObject({ detail: null, hint: null });
  });

  test("passes a server's own SQLSTATE on", () => {
    expect(new ProxyError("server_login_failed", "m", { sqlstate: "28P01" }).sqlstate).toBe("28P01");
  });

  test("is thrown everywhere with words in PostgreSQL's style: lower case, no final stop", () => {
    const thrown = sources.matchAll(/new ProxyError\(\s*"\w+",\s*(["`])((?:(?!\1).)*)\1/g);
    const messages = [...thrown].map((match) => match[2] ?? "");
    expect(messages.length).toBeGreaterThan(15);
    for (const message of messages) expect(message, message).toMatch(/^(?:[^A-Z]|[A-Z]{2}).*[^.\s]$/s);
  });
});
