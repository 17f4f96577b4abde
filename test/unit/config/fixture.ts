// Files around a configuration, in memory, and short ways to write a file with one mistake in it.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { Config, LoadedConfig, Problem } from "../../../src/config/config.ts";
import type { CommandOutput } from "../../../src/config/files.ts";
import { loadConfig } from "../../../src/config/load.ts";

/** Name → content; certificates come by `makeCertificates`. */
export const files = new Map<string, string>([
  ["/etc/pgsteer/userlist.txt", '"app" "pw"\n"pgsteer" "probe-pw"\n'],
  ["/etc/pgsteer/broken.txt", '"app" "pw"\napp hunter2\n"app" "other"\n'],
  [
    "/etc/pgsteer/verifiers.txt",
    `"app" "SCRAM-SHA-256$4096:AAAA$${"A".repeat(43)}=:${"A".repeat(43)}="\n"old" "md5${"0".repeat(32)}"\n`,
  ],
  ["/etc/pgsteer/none.txt", "; nobody\n"],
  ["/run/secrets/etcd", "from-file\n"],
  ["/etc/pgsteer/empty", "\n"],
  ["/etc/pgsteer/cut.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
]);

/** Makes one.crt, one.key, two.crt, two.key and rsa.key before the tests of the importing file. */
export function makeCertificates(): void {
  beforeAll(() => {
    const directory = mkdtempSync(join(tmpdir(), "pgsteer-config-"));
    const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: directory, stdio: "pipe" });
    try {
      for (const name of ["one", "two"]) {
        const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
        openssl("req", "-x509", ...key, "-out", `${name}.crt`, "-subj", `/CN=${name}`, "-days", "2");
        for (const kind of ["key", "crt"]) {
          files.set(`/etc/pgsteer/${name}.${kind}`, readFileSync(join(directory, `${name}.${kind}`), "utf8"));
        }
      }
      const rsa = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048");
      files.set("/etc/pgsteer/rsa.key", rsa.toString());
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
}

function readFile(path: string): string {
  const content = files.get(path);
  if (content !== undefined) return content;
  const code = path.includes("forbidden") ? "EACCES" : path.includes("directory") ? "EISDIR" : "ENOENT";
  throw Object.assign(new Error(`${code}: ${path}`), { code });
}

function listFiles(directory: string): string[] {
  const inside = [...files.keys()].filter((path) => path.startsWith(`${directory}/`));
  return inside.map((path) => path.slice(directory.length + 1)).filter((name) => !name.includes("/"));
}

/** `printer` prints its arguments, a line each; there is no other program. */
function runCommand([program = "", ...lines]: readonly string[]): CommandOutput {
  return program === "printer" ? { ok: true, text: `${lines.join("\n")}\n` } : { ok: false, reason: "does not exist" };
}

/** As `/etc/pgsteer/pgsteer.yaml`. */
export function load(text: string): LoadedConfig {
  return loadConfig(text, "/etc/pgsteer/pgsteer.yaml", readFile, { ETCD_PASSWORD: "from-env" }, listFiles, runCommand);
}

export function configOf(text: string): Config {
  const loaded = load(text);
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems, null, 1));
  return loaded.config;
}

export function problemsOf(text: string): readonly Problem[] {
  const loaded = load(text);
  return loaded.ok ? [] : loaded.problems;
}

/** Valid sections, to put a bad one beside. */
export const clusters = "clusters: { demo: { source: static, static: { hosts: [h] } } }\n";
export const auth = "auth: { file: userlist.txt }\n";
export const rest = clusters + auth;

/** A whole file whose cluster demo has these settings, from line 4 on. */
export const cluster = (settings: string) => `${auth}clusters:\n  demo:\n    ${settings}\n`;
/** The same with an etcd section, in line 5, that has these settings. */
export const etcd = (settings: string) =>
  cluster(`source: etcd\n    etcd: { endpoints: ["http://e:2379"], ${settings} }`);
/** The same with a static source, and these settings from line 6 on. */
export const fixed = (settings: string) => cluster(`source: static\n    static: { hosts: [h] }\n    ${settings}`);
/** A whole file with a listener, in line 4, that has these settings. */
export const listener = (settings: string) => `${rest}listeners:\n  - { name: a, port: 1, ${settings} }\n`;

/** What is wrong, the file, and then line, key, message and remedy of its only problem. */
export type Mistake = [what: string, text: string, line: number, key: string, message: RegExp, remedy: RegExp];

export function describeMistakes(subject: string, mistakes: readonly Mistake[]): void {
  describe(`a mistake ${subject} is named by line, key and remedy`, () => {
    test.each(mistakes)("%s", (_what, text, line, key, message, remedy) => {
      const problems = problemsOf(text);
      expect(problems.map((problem) => [problem.line, problem.key])).toEqual([[line, key]]);
      expect(problems[0]?.message).toMatch(message);
      expect(problems[0]?.remedy).toMatch(remedy);
    });
  });
}
