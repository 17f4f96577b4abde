// User name maps: who may log in as whom.

import { describe, expect, test } from "vitest";
import { readIdentFile } from "../../../src/auth/ident-map.ts";
import { ACCESS_LINES_MAX } from "../../../src/core/limits.ts";

const read = (text: string) => readIdentFile("/ident", { readFile: () => text, listFiles: () => [] });

function allows(text: string, map: string, systemName: string, user: string): boolean {
  const file = read(text);
  if (!file.ok) throw new Error(JSON.stringify(file.problems));
  return file.maps.allows(map, systemName, user);
}

describe("a user name map", () => {
  test("lets the names log in as the users beside them, and nobody else", () => {
    const text = 'm ada alice\nm ada bob\nother ada root\nm "Two Words" all\nq x "all"\n';
    expect(allows(text, "m", "ada", "alice")).toBe(true);
    expect(allows(text, "m", "ada", "bob")).toBe(true);
    expect(allows(text, "m", "ada", "root")).toBe(false);
    expect(allows(text, "m", "eve", "alice")).toBe(false);
    expect(allows(text, "nowhere", "ada", "alice")).toBe(false);
    expect(allows(text, "m", "Two Words", "whoever")).toBe(true);
    expect(allows(text, "q", "x", "whoever")).toBe(false);
    expect(allows(text, "q", "x", "all")).toBe(true);
  });

  test("puts in what the first group of a regular expression took", () => {
    const text = "m /^(.*)@corp\\.example$ \\1\nm /^(.*)@guests$ guest_\\1\nm /^admin all\nm /^ops$ /^ops_\n";
    expect(allows(text, "m", "ada@corp.example", "ada")).toBe(true);
    expect(allows(text, "m", "ada@corp.example", "bob")).toBe(false);
    expect(allows(text, "m", "ada@guests", "guest_ada")).toBe(true);
    expect(allows(text, "m", "all@corp.example", "whoever")).toBe(false);
    expect(allows(text, "m", "administrator", "whoever")).toBe(true);
    expect(allows(text, "m", "ops", "ops_night")).toBe(true);
    expect(allows(text, "m", "$&@corp.example", "$&")).toBe(true);
    // What a group took is a name, never an expression.
    expect(allows(text, "m", "/.@corp.example", "x")).toBe(false);
  });

  test("ends its search at a \\1 that has nothing to stand for", () => {
    expect(allows("m /^ada \\1\nm ada alice\n", "m", "ada", "alice")).toBe(false);
  });

  test("names each line that it cannot take", () => {
    const file = read("m ada\nm ada alice\nm a,b alice\nm ada +admins\nm /( alice\n");
    expect(file.ok ? [] : file.problems.map(({ line, message }) => `${line} ${message}`)).toEqual([
      "1 ends before its user",
      "3 has several words as system name",
      "4 has +admins, which asks who is a member of which role; pgsteer does not know that",
      "5 has the regular expression /(, which lacks a closing parenthesis",
    ]);
  });

  test("is refused when it is too long", () => {
    expect(read("m ada alice\n".repeat(ACCESS_LINES_MAX)).ok).toBe(true);
    expect(read("m ada alice\n".repeat(ACCESS_LINES_MAX + 1)).ok).toBe(false);
  });
});
