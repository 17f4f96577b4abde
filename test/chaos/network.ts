// A network of its own for a run: every server lives in a network namespace behind one bridge, so that any two of them can be cut
// off from each other, silently and one way or both, by a routing rule (ip-rule(8), type blackhole) for what arrives. Nothing of it
// can be reached from outside, and all of it is gone with its processes. Needs root; the run itself has to be in a namespace of its own.

import { readlinkSync } from "node:fs";
import { type Host, LOCAL_HOST } from "../support/host.ts";
import type { ProcessGroup } from "../support/processes.ts";
import { runProgram } from "../support/programs.ts";
import { waitFor } from "../support/time.ts";

const BRIDGE = "chaos0";
const TIMED_OUT = 124;
const FOREVER_S = 86_400;

/** Where servers live, and whether those places can be cut off from each other. */
export interface Network {
  /** Why there are no partitions; null when there are. */
  readonly missing: string | null;
  host(name: string): Host;
  /** Drops what comes from `from` at `to`. */
  cut(from: string, to: string): Promise<void>;
  mend(from: string, to: string): Promise<void>;
}

/** All on 127.0.0.1: nothing can be cut. */
export function noNetwork(missing: string): Network {
  return {
    missing,
    host: () => LOCAL_HOST,
    cut: async () => {},
    mend: async () => {},
  };
}

async function run(command: string, ...args: readonly string[]): Promise<void> {
  const { code, stderr } = await runProgram(command, args, { timeoutMs: 10_000 });
  if (code !== 0) throw new Error(`${command} ${args.join(" ")}: ${stderr.trim()}`);
}

async function inside({ namespaceOf }: Host, ...command: readonly string[]): Promise<void> {
  await run("nsenter", "-t", String(namespaceOf), "-n", ...command);
}

/** Makes the bridge, and a namespace behind it for each name. */
export async function makeNetwork(group: ProcessGroup, names: readonly string[]): Promise<Network> {
  await run("ip", "link", "set", "lo", "up");
  await run("ip", "link", "add", BRIDGE, "type", "bridge");
  await run("ip", "addr", "add", "10.77.0.1/24", "dev", BRIDGE);
  await run("ip", "link", "set", BRIDGE, "up");
  const hosts = new Map<string, Host>();
  for (const [index, name] of names.entries()) hosts.set(name, await makeHost(group, name, index));
  const host = (name: string): Host => {
    const found = hosts.get(name);
    if (found === undefined) throw new Error(`there is no host ${name}`);
    return found;
  };
  const rule = async (what: "add" | "del", from: string, to: string): Promise<void> => {
    const match = ["priority", "10", "from", host(from).address, "iif", "eth0", "type", "blackhole"];
    await inside(host(to), "ip", "rule", what, ...match);
  };
  const network: Network = {
    missing: null,
    host,
    cut: (from, to) => rule("add", from, to),
    mend: (from, to) => rule("del", from, to),
  };
  const [one, other] = names;
  if (one !== undefined && other !== undefined) await prove(network, one, other);
  return network;
}

/** What is cut is silent, one way suffices for that, and what is mended answers: else a run would prove nothing. */
async function prove(network: Network, one: string, other: string): Promise<void> {
  const answers = async (): Promise<boolean> => {
    // Nobody listens there: a refusal is an answer, and without one timeout(1) ends it with its own status.
    const knock = `: < /dev/tcp/${network.host(other).address}/1`;
    const pid = String(network.host(one).namespaceOf);
    const { code } = await runProgram("nsenter", ["-t", pid, "-n", "timeout", "1", "bash", "-c", knock]);
    return code !== TIMED_OUT;
  };
  await waitFor(answers, { timeoutMs: 10_000, what: `${one} reaches ${other}` });
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    await network.cut(from, to);
    if (await answers()) throw new Error("what is cut off still arrives");
    await network.mend(from, to);
    if (!(await answers())) throw new Error("what is mended does not arrive");
  }
}

/** A process that does nothing holds the namespace; servers join it. */
async function makeHost(group: ProcessGroup, name: string, index: number): Promise<Host> {
  const holder = await group.start("unshare", ["--net", "sleep", String(FOREVER_S)], { name: `host-${name}` });
  const namespace = (pid: number | "self") => readlinkSync(`/proc/${pid}/ns/net`);
  await waitFor(() => namespace(holder.pid) !== namespace("self"), {
    timeoutMs: 5000,
    intervalMs: 5,
    what: `${name} has a network namespace`,
  });
  const host = { address: `10.77.0.${index + 10}`, namespaceOf: holder.pid };
  const end = `chaos-v${index}`;
  await run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", String(holder.pid));
  await run("ip", "link", "set", end, "master", BRIDGE, "up");
  await inside(host, "ip", "link", "set", "lo", "up");
  await inside(host, "ip", "addr", "add", `${host.address}/24`, "dev", "eth0");
  await inside(host, "ip", "link", "set", "eth0", "up");
  // The kernel looks up local addresses first of all; our rules have to come before that.
  await inside(host, "ip", "rule", "add", "priority", "100", "lookup", "local");
  await inside(host, "ip", "rule", "del", "priority", "0");
  return host;
}
