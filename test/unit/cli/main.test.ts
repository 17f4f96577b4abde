import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const main = join(import.meta.dirname, "..", "..", "..", "src", "cli", "main.ts");
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "pgsteer-cli-"));
});

afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

function cli(...args: string[]): Promise<{ code: unknown; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { cwd: directory, timeout: 60_000 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : error.code, out, err });
    });
  });
}

function file(text: string): string {
  const path = join(directory, "pgsteer.yaml");
  writeFileSync(path, text);
  writeFileSync(join(directory, "users.txt"), '"app" "secret-password"\n');
  return path;
}

const valid = `clusters:
  main: { source: static, static: { hosts: ["127.0.0.1:1"] }, probe: { user: app } }
auth: { file: users.txt }
`;

describe("the command line", () => {
  test("tells its version, which is the package's", async () => {
    const { version } = JSON.parse(readFileSync(join(main, "..", "..", "..", "package.json"), "utf8"));
    expect(await cli("--version")).toEqual({ code: 0, out: `${version}\n`, err: "" });
  });

  test("documents the exit codes of each command", async () => {
    for (const command of ["run", "check", "status", "replay", "events", "switchover", "pause", "resume"]) {
      const { code, out } = await cli(command, "--help");
      expect(code).toBe(0);
      expect(out).toContain("Exit codes:");
    }
  });

  test.each([
    ["no command", [], /Usage: pgsteer/],
    ["an unknown command", ["rnu"], /unknown command 'rnu'/],
    ["an unknown option", ["status", "--bogus"], /unknown option '--bogus'/],
    ["run without anything to run", ["run"], /name a configuration file/],
    ["run with a file and a URL", ["run", "-c", "x", "postgres://a:b@c/d"], /not both/],
    ["check without a file", ["check"], /--config/],
    ["status of something that is no URL", ["status", "--url", "what"], /is not a URL/],
    ["events of something that is no URL", ["events", "what"], /is not a URL/],
    ["events from a file and a URL", ["events", "-c", "x", "http://127.0.0.1:1"], /not both/],
    ["no events at all", ["events", "--limit", "0"], /is not a number of events/],
    ["switchover without a file", ["switchover"], /--config/],
    ["switchover with a deadline that is none", ["switchover", "-c", "x", "--deadline", "soon"], /write a duration/],
  ])("exits with 64 on %s", async (_what, args, message) => {
    const { code, err } = await cli(...args);
    expect(code).toBe(64);
    expect(err).toMatch(message);
  });

  test("replay names a recording that it cannot read", async () => {
    expect(await cli("replay", "none.jsonl")).toMatchObject({ code: 1, err: expect.stringContaining("no such file") });
  });

  test("check prints every problem with place and remedy", async () => {
    const path = file(`${valid}pool:\n  default_pool_sise: 3\nhttp: { port: 70000 }\n`);
    const { code, out, err } = await cli("check", "-c", path);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toContain(`${path}:5:22: pool.default_pool_sise: `);
    expect(err).toMatch(/\n {4}remedy: .*default_pool_size/);
    expect(err).toContain(":6:15: http.port: ");
    expect(err).toContain("2 problems");
  });

  test("check says that a file is valid, what it makes, and what is odd about it", async () => {
    const path = file(`${valid}client_tls: { cert_file: x }\n`);
    const { code, out } = await cli("check", "-c", path);
    expect(code).toBe(0);
    expect(out).toContain("is valid: cluster main");
    expect(out).toContain("listener write: 127.0.0.1:5000, route write");
    expect(out).toMatch(/^warning: .*client_tls/m);
    expect(out).not.toContain("secret-password");
  });

  test("check --connect fails, and says where, when nothing is there", async () => {
    const { code, out } = await cli("check", "--connect", "-c", file(valid));
    expect(code).toBe(1);
    expect(out).toMatch(/PROBLEM main: member .*127\.0\.0\.1:1: .*ECONNREFUSED/);
    expect(out).toMatch(/PROBLEM main: no leader/);
  });

  test.each(["switchover", "pause", "resume"])(
    "%s says that it needs etcd as source, and exits with 78",
    async (command) => {
      const { code, err } = await cli(command, "-c", file(valid));
      expect([code, err]).toEqual([78, expect.stringContaining("its source is static, and this command needs etcd")]);
    },
  );

  test("switchover wants to know which cluster, where there are several", async () => {
    const several = valid.replace(
      "clusters:\n",
      'clusters:\n  other: { source: static, static: { hosts: ["127.0.0.1:1"] } }\n',
    );
    const listeners = "listeners:\n  - { name: w, port: 0, route: write, cluster: main }\n";
    const { code, err } = await cli("switchover", "-c", file(`${several}${listeners}`));
    expect([code, err]).toEqual([64, expect.stringContaining("has several clusters: name one of")]);
  });

  test("run does not start with a configuration that is wrong, or not there, and exits with 78", async () => {
    const wrong = await cli("run", "-c", file("clusters: {}"));
    expect(wrong.code).toBe(78);
    expect(wrong.err).toContain("remedy: ");
    const missing = await cli("run", "-c", "none.yaml");
    expect([missing.code, missing.err]).toEqual([78, expect.stringContaining("none.yaml: there is no such file")]);
    const url = await cli("run", "postgres://user:secret-password@/db");
    expect(url.code).toBe(78);
    expect(url.err).not.toContain("secret-password");
  });

  test("run names the setting of a port that is taken, in one line, and exits with 1", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen({ host: "127.0.0.1", port: 0 }, resolve));
    try {
      const address = taken.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      const listeners = "listeners:\n  - { name: w, port: 0, route: write }\n";
      const other = await cli("run", "-c", file(`${valid}${listeners}http: { port: ${port} }\n`));
      expect(other.code).toBe(1);
      const lines = other.out.split("\n").filter((line) => line.includes('"fatal"'));
      expect(lines).toHaveLength(1);
      expect(lines[0]).toContain(`cannot listen on 127.0.0.1:${port} (http)`);
    } finally {
      taken.close();
    }
  });

  test("status exits with 1 and a remedy when nobody answers, and finds the address in the file", async () => {
    const { code, err } = await cli("status", "-c", file(`${valid}http: { address: 0.0.0.0, port: 1 }\n`));
    expect(code).toBe(1);
    expect(err).toContain("pgsteer does not answer at http://127.0.0.1:1: ");
    expect(err).toContain("remedy: ");
    const off = await cli("status", "-c", file(`${valid}http: { enabled: false }\n`));
    expect([off.code, off.err]).toEqual([1, expect.stringContaining("http.enabled is false")]);
    expect((await cli("status", "-c", "none.yaml")).err).toContain("there is no such file");
  });

  test("events exits with 1 and a remedy when nobody answers, followed or not", async () => {
    const asked = [cli("events", "http://127.0.0.1:1"), cli("events", "http://127.0.0.1:1", "--follow")];
    for (const { code, out, err } of await Promise.all(asked)) {
      expect([code, out]).toEqual([1, ""]);
      expect(err).toContain("pgsteer does not answer at http://127.0.0.1:1: ");
      expect(err).toContain("remedy: ");
    }
  });

  test("status says so when something else answers", async () => {
    const other = createServer((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    await new Promise<void>((resolve) => other.listen({ host: "127.0.0.1", port: 0 }, resolve));
    try {
      const address = other.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      const { code, err } = await cli("status", "--url", `http://127.0.0.1:${port}`);
      expect(code).toBe(1);
      expect(err).toContain("is this pgsteer?");
    } finally {
      other.close();
    }
  });
});
