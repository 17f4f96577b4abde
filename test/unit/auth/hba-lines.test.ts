import { describe, expect, test } from "vitest";
import { readLines } from "../../../src/auth/hba-lines.ts";
import { fault } from "../../../src/auth/hba-names.ts";
import { ACCESS_LINES_MAX } from "../../../src/core/limits.ts";

const terms = { called: "rules", remedy: "write fewer" };

const read = (text: string) =>
  readLines("/f", { readFile: () => text, listFiles: () => [] }, terms, ({ fields }) =>
    fields[0]?.[0]?.text === "bad" ? fault("is bad", "be good") : { ok: true, value: fields.length },
  );

describe("lines of a file", () => {
  test("come to what each says, and what is wrong with each", () => {
    expect(read("one two\nbad\n\nthree\nbad\n")).toEqual({
      values: [2, 1],
      problems: [2, 5].map((line) => ({ file: "/f", line, message: "is bad", remedy: "be good" })),
    });
  });

  test("are as many as anybody writes, and no more", () => {
    expect(read("x\n".repeat(ACCESS_LINES_MAX)).problems).toEqual([]);
    const { values, problems } = read("x\n".repeat(ACCESS_LINES_MAX + 2));
    expect(values.length).toBe(ACCESS_LINES_MAX);
    expect(problems).toEqual([
      {
        file: "/f",
        line: ACCESS_LINES_MAX + 1,
        message: `is beyond the limit of ${ACCESS_LINES_MAX} rules`,
        remedy: "write fewer",
      },
    ]);
  });
});
