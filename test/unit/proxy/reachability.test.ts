// Members that answer a connection attempt with neither yes nor no: found by trying, and told from those that refuse or are slow.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { HOST_SILENT_MS } from "../../../src/core/limits.ts";
import { millis } from "../../../src/core/units.ts";
import { Reachability } from "../../../src/proxy/reachability.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { freePort } from "../../support/ports.ts";
import { sleep, waitFor } from "../../support/time.ts";
import { member, topology } from "../routing/fixture.ts";

let clock: FakeClock;
let reachability: Reachability;
let given: string[];
const sockets: Socket[] = [];
const servers: Server[] = [];
let silent: ChildProcess | null = null;

beforeEach(() => {
  clock = new FakeClock();
  given = [];
  reachability = new Reachability(clock, (name) => given.push(name));
});

afterEach(() => {
  reachability.close();
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
  silent?.kill("SIGKILL");
  silent = null;
});

/** The member's probes fail, or succeed, at this port. */
const follow = (port: number, state = "unreachable"): void =>
  reachability.follow(topology({ kind: "none", reason: "" }, member("node1", { port, state, readable: false })));

/** A port whose queue of connections is full, for the process behind it stands still: attempts get no answer. */
async function silentPort(): Promise<number> {
  const program = `const s = require("net").createServer();
    s.listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => console.log(s.address().port));`;
  silent = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  const { stdout } = silent;
  if (stdout === null) throw new Error("no output");
  const [line] = await once(stdout, "data");
  silent.kill("SIGSTOP");
  const port = Number(line);
  let connected = 0;
  for (let count = 0; count < 8; count += 1) {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.on("error", () => {});
    socket.on("connect", () => {
      connected += 1;
    });
    sockets.push(socket);
    await sleep(20);
  }
  expect(connected).toBeLessThan(8);
  return port;
}

async function attempts(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) {
    await sleep(20);
    await clock.advance(millis(HOST_SILENT_MS));
    await sleep(20);
    await clock.advance(millis(HOST_SILENT_MS));
  }
}

test("a host that does not answer is given up after two attempts of HOST_SILENT_MS, once", async () => {
  follow(await silentPort());
  await attempts(1);
  expect(given).toEqual([]);
  await attempts(5);
  expect(given).toEqual(["node1"]);
});

test("it is tried again after its probes have succeeded, and at another address", async () => {
  const port = await silentPort();
  follow(port);
  await attempts(3);
  follow(port, "running");
  await attempts(3);
  expect(given).toEqual(["node1"]);
  follow(port);
  await attempts(3);
  expect(given).toEqual(["node1", "node1"]);
});

test("one that refuses, or takes connections and says nothing, is left alone", async () => {
  follow(await freePort());
  await attempts(4);
  const slow = createServer((socket) => sockets.push(socket));
  servers.push(slow);
  slow.listen(0, "127.0.0.1");
  await once(slow, "listening");
  const address = slow.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  follow(port);
  await waitFor(() => sockets.length > 0, { timeoutMs: 10_000, intervalMs: 2, what: "it was tried" });
  await attempts(4);
  expect(given).toEqual([]);
});

test("nothing is tried while the probes succeed, or once all is closed", async () => {
  const port = await silentPort();
  follow(port, "running");
  await attempts(3);
  follow(port);
  reachability.close();
  await attempts(3);
  expect(given).toEqual([]);
});
