// Regular expressions of HBA files. Beside PostgreSQL's own: test/integration/hba.test.ts.

import { describe, expect, test } from "vitest";
import { compilePattern } from "../../../src/auth/hba-pattern.ts";
import { ACCESS_PATTERN_STEPS_MAX } from "../../../src/core/limits.ts";

function match(source: string, text: string): string | null | undefined {
  const pattern = compilePattern(source);
  if (!pattern.ok) throw new Error(pattern.message);
  return pattern.match(text)?.group;
}

describe("a regular expression", () => {
  test("finds its place anywhere, and what its first group took", () => {
    expect(match("^app_(.*)$", "app_shop")).toBe("shop");
    expect(match("^app_(.*)$", "my_app_shop")).toBeUndefined();
    expect(match("db[0-9]{1,3}", "my-db42")).toBeNull();
    expect(match("^(?:x|y)(a|b)+?(c)?$", "xabc")).toBe("b");
    expect(match("^(a)?b$", "b")).toBeNull();
    expect(match("^(.*)@corp\\.example$", "ada@corp.example")).toBe("ada");
  });

  test.each([
    ["a(b", /closing parenthesis/],
    ["*a", /repeats nothing/],
    ["(a)\\1", /refers back/],
    ["(?=a)b", /ahead or behind/],
    ["(?i)a", /options/],
    ["***=a", /options/],
    ["[[.a.]]", /collating/],
    ["a{300}", /braces/],
    [`${"(".repeat(60)}a${")".repeat(60)}`, /one inside the other/],
    ["((a{100}){100}){100}", new RegExp(`more than ${ACCESS_PATTERN_STEPS_MAX} steps`)],
  ])("that is %s is refused in words", (source, words) => {
    expect(compilePattern(source)).toMatchObject({ ok: false, message: expect.stringMatching(words) });
  });

  test("takes no time that grows with more than its length and the name's", () => {
    // Each of these has an engine that goes back and tries anew busy for longer than there are stars.
    for (const source of ["^(a+)+$", "^(a|a)*$", "^(a*)*b$", "^(a?){60}a{60}$", "(x+x+)+y"]) {
      expect(match(source, `${"a".repeat(62)}!`)).toBeUndefined();
    }
  });
});
