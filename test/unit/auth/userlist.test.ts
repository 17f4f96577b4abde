// PgBouncer's userlist format, and errors that help without telling secrets.

import { describe, expect, test } from "vitest";
import { parseUserlist } from "../../../src/auth/userlist.ts";

function usersOf(text: string): Record<string, unknown> {
  const userlist = parseUserlist(text);
  if (!userlist.ok) throw new Error(JSON.stringify(userlist.problems));
  return Object.fromEntries(userlist.users);
}

describe("parseUserlist", () => {
  test("reads users and secrets", () => {
    expect(usersOf('"app" "pw"\n  "other"\t"x y"\r\n')).toEqual({
      app: { kind: "plain", password: "pw" },
      other: { kind: "plain", password: "x y" },
    });
  });

  test("undoubles quotes", () => {
    expect(usersOf('"a""b" "c""""d"')).toEqual({ 'a"b': { kind: "plain", password: 'c""d' } });
  });

  test("skips comments, empty lines, a byte order mark, and what stands behind the secret", () => {
    expect(usersOf('\uFEFF; "no" "no"\n\n  ;x\n"u" "p" "ignored" more')).toEqual({
      u: { kind: "plain", password: "p" },
    });
  });

  test("keeps a semicolon inside quotes", () => {
    expect(usersOf('"u" ";p"')).toEqual({ u: { kind: "plain", password: ";p" } });
  });

  test("recognises hashes", () => {
    expect(usersOf(`"u" "md5${"0".repeat(32)}"`)).toEqual({ u: { kind: "md5", hash: `md5${"0".repeat(32)}` } });
  });

  test.each([
    ["an unquoted secret", '"user" topsecret'],
    ["an unquoted user", 'user "topsecret"'],
    ["a missing closing quote", '"user" "topsecret'],
    ["a missing secret", '"user"'],
    ["no space between the two", '"user""topsecret"'],
    ["an empty user", '"" "topsecret"'],
    ["an endless user", `"${"u".repeat(128)}" "topsecret"`],
    ["an endless secret", `"u" "${"topsecret".repeat(300)}"`],
  ])("names the line of %s, and not what it says", (_what, line) => {
    const userlist = parseUserlist(`"first" "fine"\n${line}\n`);
    if (userlist.ok) throw new Error("accepted");
    expect(userlist.problems).toHaveLength(1);
    expect(userlist.problems[0]?.line).toBe(2);
    expect(userlist.problems[0]?.remedy).not.toBe("");
    expect(JSON.stringify(userlist)).not.toContain("topsecret");
  });

  test("finds a user that is listed twice", () => {
    const userlist = parseUserlist('"u" "a"\n"v" "b"\n"u" "c"\n');
    expect(userlist).toMatchObject({ ok: false, problems: [{ line: 3, message: "names the same user as line 1" }] });
  });

  test("reports every bad line", () => {
    const userlist = parseUserlist("x\ny\n");
    expect(userlist).toMatchObject({ ok: false, problems: [{ line: 1 }, { line: 2 }] });
  });
});
