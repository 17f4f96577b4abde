// The startup parameter `options`, by PostgreSQL's rules: pg_split_opts() cuts it into words, ParseLongOption() reads them.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ProxyError } from "../../../src/core/errors.ts";
import { parseStartupOptions } from "../../../src/proxy/startup-options.ts";

const parsed = (options: string): Record<string, string> => Object.fromEntries(parseStartupOptions(options));

describe("startup options", () => {
  test.each<[string, Record<string, string>]>([
    ["", {}],
    ["   ", {}],
    ["-c a=b", { a: "b" }],
    ["-ca=b", { a: "b" }],
    ["--a=b", { a: "b" }],
    ["-c a=b -c c=d --e=f", { a: "b", c: "d", e: "f" }],
    ["-c a=b -c a=c", { a: "c" }],
    ["--work-mem=1MB", { work_mem: "1MB" }],
    ["-c work-mem=1MB", { work_mem: "1MB" }],
    ["-c a=x-y", { a: "x-y" }],
    ["-c a=b=c", { a: "b=c" }],
    ["-c a=", { a: "" }],
    ["\t-c\n a=b\r\f\v", { a: "b" }],
    [String.raw`-c a=two\ words`, { a: "two words" }],
    [String.raw`-c a=back\\slash\\\ es`, { a: String.raw`back\slash\ es` }],
    [String.raw`-c search_path=a,\ "B"`, { search_path: 'a, "B"' }],
    ["-c some.var=x", { "some.var": "x" }],
  ])("%j", (options, settings) => {
    expect(parsed(options)).toEqual(settings);
  });

  test("leave the bytes of a value alone, whatever its encoding makes of them", () => {
    for (const text of ["voilà", "Å ngström".replace(" ", ""), "日本"]) {
      const bytes = Buffer.from(text).toString("latin1");
      expect(parsed(`-c application_name=${bytes} -c a=b`)).toEqual({ application_name: bytes, a: "b" });
    }
  });

  test.each(["-c", "-c a", "-c =b", "--a", "--", "-e", "-d 2", "a=b", "-c a=b stray", "\\"])("refuse %j", (options) => {
    expect(() => parseStartupOptions(options)).toThrow(ProxyError);
    try {
      parseStartupOptions(options);
    } catch (error) {
      expect(error).toMatchObject({ sqlstate: "42601", severity: "FATAL" });
    }
  });

  test("give back every value that was escaped as PostgreSQL's documentation says", () => {
    const value = fc.string({ unit: fc.constantFrom(..."ab=-\\ \t\n'\"\u00a0\u0085é") });
    const name = fc.stringMatching(/^[a-z]{1,6}$/);
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key }), (settings) => {
        const escaped = (text: string) => text.replace(/[\\ \t\n]/g, "\\$&");
        const options = settings.map(([key, text], index) =>
          index % 2 === 0 ? `-c ${key}=${escaped(text)}` : `--${key}=${escaped(text)}`,
        );
        expect([...parseStartupOptions(options.join(" "))]).toEqual(settings);
      }),
      { seed: 8 },
    );
  });
});
