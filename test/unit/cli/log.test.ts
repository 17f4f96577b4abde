import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LogOutput } from "../../../src/cli/log-output.ts";
import { freePort } from "../../support/ports.ts";

let directory: string;
const children: ChildProcess[] = [];
const open: number[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pgsteer-log-"));
});

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const fd of open.splice(0)) closeSync(fd);
  rmSync(directory, { recursive: true, force: true });
});

/** A pipe that does not block, open on both sides. */
function pipe(): number {
  const path = join(directory, "fifo");
  execFileSync("sh", ["-c", 'mkfifo "$0"', path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  open.push(fd);
  return fd;
}

function readAll(fd: number): string {
  const buffer = Buffer.alloc(1_048_576);
  return buffer.toString("utf8", 0, readSync(fd, buffer));
}

describe("the log's output", () => {
  test("writes a line before the call returns", () => {
    const fd = pipe();
    new LogOutput(fd).write("one\n");
    expect(readAll(fd)).toBe("one\n");
  });

  test("drops lines while nobody reads, and says how many once somebody does", () => {
    const fd = pipe();
    const output = new LogOutput(fd);
    expect(() => {
      for (;;) writeSync(fd, "x".repeat(4096));
    }).toThrow("EAGAIN");
    for (const line of ["lost 1\n", "lost 2\n", "lost 3\n"]) output.write(line);
    expect(readAll(fd)).not.toContain("lost");
    output.write("found\n");
    output.write("again\n");
    expect(readAll(fd)).toBe("\n3 lines of the log were dropped: nobody took them\nfound\nagain\n");
  });

  test("survives a descriptor that is closed", () => {
    const path = join(directory, "file");
    const fd = openSync(path, "w");
    closeSync(fd);
    expect(() => new LogOutput(fd).write("x\n")).not.toThrow();
  });
});

describe("a pgsteer whose log nobody reads any more", () => {
  const main = join(import.meta.dirname, "..", "..", "..", "src", "cli", "main.ts");

  /** Starts one, and closes its standard output once it runs. */
  async function unread(format: string, node: readonly string[] = []) {
    const port = await freePort();
    const file = join(directory, "pgsteer.yaml");
    const cluster = '{ source: static, static: { hosts: ["127.0.0.1:1"] }, probe: { user: app } }';
    const listeners = "[{ name: w, port: 0, route: write }]";
    const sections = {
      clusters: `{ main: ${cluster} }`,
      listeners,
      auth: "{ type: trust }",
      http: `{ port: ${port} }`,
    };
    const lines = Object.entries({ ...sections, log: `{ format: ${format} }` }).map(
      ([name, value]) => `${name}: ${value}\n`,
    );
    writeFileSync(file, lines.join(""));
    const child = spawn(process.execPath, [...node, main, "run", "-c", file], { stdio: ["ignore", "pipe", "ignore"] });
    children.push(child);
    const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    await new Promise<void>((resolve) => {
      let text = "";
      child.stdout.on("data", (chunk) => {
        text += chunk.toString();
        if (text.includes("pgsteer is running")) resolve();
      });
    });
    child.stdout.destroy();
    return { child, exited, url: `http://127.0.0.1:${port}` };
  }

  test.each(["json", "pretty"])("goes on, and can be stopped (%s)", async (format) => {
    const { child, exited, url } = await unread(format);
    child.kill("SIGHUP");
    expect((await fetch(`${url}/livez`)).status).toBe(200);
    child.kill("SIGTERM");
    expect(await exited).toBe(0);
  });

  test.each(["json", "pretty"])("still ends with 70 at a bug (%s)", async (format) => {
    const bug = 'process.on("SIGUSR2", () => { throw new Error("a bug") })';
    const { child, exited } = await unread(format, ["--import", `data:text/javascript,${bug}`]);
    child.kill("SIGUSR2");
    expect(await exited).toBe(70);
  });
});
