// Files of fields with all that they include. Beside PostgreSQL's own reading: test/integration/hba.test.ts.

import { describe, expect, test } from "vitest";
import { type AccessFiles, readFieldFile } from "../../../src/auth/hba-tokens.ts";
import { ACCESS_FILE_DEPTH_MAX, ACCESS_FILES_MAX } from "../../../src/core/limits.ts";

/** A file system of these texts, the directories following from them. */
function filesOf(texts: Readonly<Record<string, string>>): AccessFiles {
  const missing = (path: string, code = "ENOENT") => Object.assign(new Error(path), { code });
  return {
    readFile: (path) => {
      const text = texts[path];
      if (text === undefined) throw missing(path, path.includes("secret") ? "EACCES" : "ENOENT");
      return text;
    },
    listFiles: (path) => {
      const inside = Object.keys(texts).filter((each) => each.startsWith(`${path}/`));
      if (inside.length === 0) throw missing(path);
      return inside.map((each) => each.slice(path.length + 1)).filter((each) => !each.includes("/"));
    },
  };
}

const lines = (texts: Readonly<Record<string, string>>) =>
  readFieldFile("/etc/hba", filesOf(texts)).lines.map(
    ({ file, line, fields }) =>
      `${file}:${line} ${fields.map((field) => field.map(({ text, quoted }) => (quoted ? `"${text}"` : text)).join(",")).join(" | ")}`,
  );
const problems = (texts: Readonly<Record<string, string>>) =>
  readFieldFile("/etc/hba", filesOf(texts)).problems.map(({ file, line, message }) => `${file}:${line} ${message}`);

describe("a file of fields", () => {
  test("has words between blanks and commas, quotes, comments, and lines that go on", () => {
    const text = 'a b,c, d\te\r\n\n# none\nx#y z\n"q q" p"r s"t "a""b" ""\none \\\n  two\\\nthree\n';
    expect(lines({ "/etc/hba": text })).toEqual([
      "/etc/hba:1 a | b,c,d | e",
      "/etc/hba:4 x",
      '/etc/hba:5 "q q" | pr st | "a"b" | ""',
      "/etc/hba:6 one | twothree",
    ]);
  });

  test("takes words from other files, whatever their lines, relative to the file that names them", () => {
    const texts = {
      "/etc/hba": 'host @lists/admins "@all" m',
      "/etc/lists/admins": "alice, bob # two\n@more\n",
      "/etc/lists/more": '"carol"',
    };
    expect(lines(texts)).toEqual(['/etc/hba:1 host | alice,bob,"carol" | "@all" | m']);
  });

  test("includes files, files that may be missing, and the .conf files of a directory in order", () => {
    const texts = {
      "/etc/hba": "first\ninclude sub/one\ninclude_if_exists nowhere\ninclude_dir /etc/d\nlast",
      "/etc/sub/one": "\none\ninclude two",
      "/etc/sub/two": "two",
      "/etc/d/b.conf": "b",
      "/etc/d/a.conf": "a",
      "/etc/d/.hidden.conf": "hidden",
      "/etc/d/a.conf.bak": "old",
    };
    expect(lines(texts)).toEqual([
      "/etc/hba:1 first",
      "/etc/sub/one:2 one",
      "/etc/sub/two:1 two",
      "/etc/d/a.conf:1 a",
      "/etc/d/b.conf:1 b",
      "/etc/hba:5 last",
    ]);
  });

  test("names all that it cannot read, each by its file and line", () => {
    const texts = {
      "/etc/hba": "include gone\nhost @secret all\ninclude_dir nodir\ninclude_if_exists secret\ninclude sub/one",
      "/etc/sub/one": "\n\n@absent",
    };
    expect(problems(texts)).toEqual([
      "/etc/hba:1 asks for a file that does not exist: /etc/gone",
      "/etc/hba:2 asks for a file that may not be read by the user that runs pgsteer: /etc/secret",
      "/etc/hba:3 includes a directory that does not exist: /etc/nodir",
      "/etc/hba:4 asks for a file that may not be read by the user that runs pgsteer: /etc/secret",
      "/etc/sub/one:3 asks for a file that does not exist: /etc/sub/absent",
    ]);
    expect(problems({})).toEqual(["/etc/hba:0 is a file that does not exist: /etc/hba"]);
  });

  test("that includes itself ends at the depth that PostgreSQL allows", () => {
    expect(problems({ "/etc/hba": "include hba" })).toEqual([
      `/etc/hba:1 includes files more than ${ACCESS_FILE_DEPTH_MAX} deep`,
    ]);
    expect(problems({ "/etc/hba": "a @hba" })).toEqual([
      `/etc/hba:1 includes files more than ${ACCESS_FILE_DEPTH_MAX} deep`,
    ]);
  });

  test("that would read files without end stops, and says so once", () => {
    const found = problems({ "/etc/hba": "include hba\n".repeat(10) });
    expect(found.filter((each) => each.includes(`beyond the limit of ${ACCESS_FILES_MAX} files`))).toHaveLength(1);
  });
});
