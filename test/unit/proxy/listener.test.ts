// Listeners on Unix-domain sockets: what a dead process left behind is taken away, what lives is left alone.

import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { socketPath } from "../../../src/core/addresses.ts";
import { Listener } from "../../../src/proxy/listener.ts";

let directory: string;
let path: string;
const listeners: Listener[] = [];
const PORT = 6432;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pgs-"));
  path = socketPath(directory, PORT);
});

afterEach(() => {
  for (const listener of listeners.splice(0)) listener.close();
  rmSync(directory, { recursive: true, force: true });
});

function listener(name: string, unixSocketMode = 0o777): Listener {
  const where = { name, address: directory, port: PORT, unixSocketMode };
  const made = new Listener(
    where,
    (socket) => socket.on("error", () => {}).end(name),
    () => {},
  );
  listeners.push(made);
  return made;
}

/** What the listener says to whoever connects; the error's code where there is none. */
function answer(): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.on("data", (chunk: Buffer) => resolve(chunk.toString()));
    socket.on("error", (error) => resolve("code" in error ? String(error.code) : error.message));
  });
}

const failure = (promise: Promise<void>): Promise<unknown> => promise.then(() => null).catch((error: unknown) => error);

/** A socket file that nobody listens on, as after a kill. */
async function leaveBehind(): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen({ path }, resolve));
  renameSync(path, `${path}.kept`);
  await new Promise((resolve) => server.close(resolve));
  renameSync(`${path}.kept`, path);
  expect(await answer()).toBe("ECONNREFUSED");
}

describe("a listener on a Unix-domain socket", () => {
  test.each([0o777, 0o770, 0o700])("says who may connect (mode %o), and leaves nothing behind", async (mode) => {
    const one = listener("one", mode);
    await one.open();
    expect(statSync(path).mode & 0o777).toBe(mode);
    expect(one.port).toBe(PORT);
    expect(await answer()).toBe("one");
    one.close();
    expect(existsSync(path)).toBe(false);
  });

  test("takes a file over that a dead process left", async () => {
    await leaveBehind();
    await listener("next").open();
    expect(await answer()).toBe("next");
  });

  test("leaves a socket alone on which somebody answers", async () => {
    await listener("first").open();
    expect(await failure(listener("second").open())).toMatchObject({ code: "EADDRINUSE", address: path });
    expect(await answer()).toBe("first");
  });

  test("leaves a file alone that is no socket", async () => {
    writeFileSync(path, "mine");
    expect(await failure(listener("one").open())).toMatchObject({ code: "EADDRINUSE" });
    expect(readFileSync(path, "utf8")).toBe("mine");
  });

  test("can be opened again after it was closed", async () => {
    for (const name of ["one", "two"]) {
      const each = listener(name);
      await each.open();
      expect(await answer()).toBe(name);
      each.close();
    }
  });
});
