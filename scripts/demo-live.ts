// The demonstration for a person: what to type, and a view of who serves which route while they type it. What is shown is
// asked for through pgsteer's own ports and from etcd, so that it is evidence rather than opinion.

import { z } from "zod";
import { type LeadershipRecord, recordLeadership } from "../test/support/leadership.ts";
import { type Connection, connect, query } from "../test/support/sql.ts";
import { now, sleep, waitFor } from "../test/support/time.ts";
import { type Gap, Writer } from "../test/support/writer.ts";
import { describeChange } from "./demo-report.ts";
import type { Demo } from "./demo-state.ts";

type Say = (line: string) => void;

const ROUTES = ["auto", "write", "read"] as const;
/** A pause between two acknowledged writes that is longer than this is told as an event. */
const GAP_WORTH_TELLING_MS = 150;

const memberKey = z.object({ state: z.string(), role: z.string(), timeline: z.number().optional() });

/** Prints what can be tried. */
export async function printInstructions(demo: Demo, say: Say): Promise<void> {
  const { ports, httpUrl, configurationFile } = demo.pgsteer;
  const psql = (port: number) => `PGPASSWORD=app-secret psql -h 127.0.0.1 -p ${port} -U app app`;
  const leader = await demo.cluster.requireLeader();
  const api = demo.cluster.member(leader).apiUrl;
  say("");
  say(`reads and writes on one port:   ${psql(ports.auto)}`);
  say(`always the leader:              ${psql(ports.write)}`);
  say(`replicas:                       ${psql(ports.read)}`);
  say("                                then: SELECT inet_server_port(), pg_is_in_recovery();");
  say(`status in a terminal:           npm run pgsteer -- status --url ${httpUrl}`);
  say(`status for programs:            curl ${httpUrl}/topology`);
  say("switchover:                     npm run demo -- switchover");
  say(`                                or: curl -d '{"leader":"${leader}"}' ${api}/switchover`);
  say("crash of the leader's postgres: npm run demo -- crash");
  say(`configuration:                  ${configurationFile}`);
  say("stop all of it:                 Ctrl-C here");
  say("");
}

/** Shows the state each second, as a picture on a terminal and as a line per change elsewhere, until `stopping` is aborted. */
export async function runLive(demo: Demo, say: Say, stopping: AbortSignal): Promise<void> {
  const writer = new Writer(demo.pgsteer.login("write"));
  const record = await recordLeadership(demo.cluster, { periodMs: 10 });
  const watchers = new RouteWatchers(demo);
  writer.start();
  const screen = new Screen(say);
  let told = now();
  try {
    while (!stopping.aborted) {
      const gap = writer.gap(told);
      if (gap !== null && gap.ms >= GAP_WORTH_TELLING_MS) {
        screen.event(await tellGap(gap, record));
        told = gap.to;
      }
      screen.show(await describeState(demo, watchers, writer));
      writer.forget(3000);
      await Promise.race([sleep(1000), aborted(stopping)]);
    }
  } finally {
    watchers.close();
    await Promise.race([Promise.all([writer.stop(), record.stop()]), sleep(1000)]);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

async function tellGap(gap: Gap, record: LeadershipRecord): Promise<string[]> {
  const before = record.windows.findLast(({ first }) => first < gap.from)?.member ?? "the leader";
  const find = () => record.change(gap.from, before);
  const change = await waitFor(find, { timeoutMs: 500, intervalMs: 20, what: "the direct poller" }).catch(() => null);
  const time = new Date(gap.to).toISOString().slice(11, 19);
  if (change === null)
    return [`${time} ${gap.ms.toFixed(0)} ms without an acknowledged write, and no change of leader`];
  const what = change.to === before ? `${before} was away and came back` : `${before} → ${change.to}`;
  return [`${time} ${what}`, ...describeChange(change, gap)];
}

async function describeState(demo: Demo, watchers: RouteWatchers, writer: Writer): Promise<string[]> {
  const served = await watchers.look();
  const lines = ROUTES.map((route) => `${route.padEnd(6)}:${demo.pgsteer.ports[route]}  →  ${served[route]}`);
  lines.push("");
  const keys = await demo.cluster.etcd.list(demo.cluster.prefix).catch(() => null);
  if (keys === null) lines.push("etcd does not answer");
  const leader = keys?.get(`${demo.cluster.prefix}leader`)?.value;
  for (const { name, port } of demo.cluster.members) {
    const key = keys?.get(`${demo.cluster.prefix}members/${name}`)?.value;
    const parsed = key === undefined ? undefined : memberKey.safeParse(JSON.parse(key)).data;
    const role = name === leader ? "leader" : (parsed?.role ?? "no member key");
    const rest = parsed === undefined ? "" : `${parsed.state.padEnd(10)} timeline ${parsed.timeline ?? "?"}`;
    lines.push(`${name} :${port}  ${role.padEnd(14)} ${rest}`);
  }
  const last = writer.attempts.findLast(({ outcome }) => outcome === "ok");
  const age = last === undefined ? "none yet" : `${Math.max(0, now() - last.end).toFixed(0)} ms ago`;
  lines.push("", `heartbeat: a row every 10 ms through :${demo.pgsteer.ports.write}; last acknowledged ${age}`);
  return lines;
}

/** One connection per route that asks who answers. */
class RouteWatchers {
  readonly #demo: Demo;
  readonly #connections = new Map<string, Connection>();

  constructor(demo: Demo) {
    this.#demo = demo;
  }

  async look(): Promise<Record<(typeof ROUTES)[number], string>> {
    const [auto, write, read] = await Promise.all(ROUTES.map((route) => this.#ask(route)));
    return { auto: auto ?? "", write: write ?? "", read: read ?? "" };
  }

  close(): void {
    for (const connection of this.#connections.values()) connection.destroy();
  }

  async #ask(route: (typeof ROUTES)[number]): Promise<string> {
    try {
      const connection = this.#connections.get(route) ?? (await connect(this.#demo.pgsteer.login(route), 900));
      this.#connections.set(route, connection);
      const { rows } = await query(connection, "SELECT inet_server_port() AS port, pg_is_in_recovery() AS r", [], 900);
      const member = this.#demo.cluster.members.find(({ port }) => port === rows[0]?.["port"]);
      return `${member?.name ?? "?"} (${rows[0]?.["r"] === true ? "a replica" : "takes writes"})`;
    } catch (error) {
      this.#connections.get(route)?.destroy();
      this.#connections.delete(route);
      return `no answer (${error instanceof Error ? error.message : String(error)})`;
    }
  }
}

/** Redraws in place on a terminal; elsewhere prints only what has changed. */
class Screen {
  readonly #say: Say;
  readonly #terminal = process.stdout.isTTY === true;
  #drawn = 0;
  #last = "";

  constructor(say: Say) {
    this.#say = say;
  }

  /** Lines that stay. */
  event(lines: readonly string[]): void {
    this.#erase();
    for (const line of lines) this.#say(line);
    this.#say("");
  }

  /** Lines that the next picture replaces. */
  show(lines: readonly string[]): void {
    if (!this.#terminal) {
      // The age in the last line changes each time, and so does the replica whose turn it is: neither is worth a line.
      const shown = lines.slice(0, -1).filter((line) => line !== "");
      const text = shown
        .join(" | ")
        .replaceAll(/\S+ \(a replica\)/g, "a replica")
        .replaceAll(/\s+/g, " ");
      if (text !== this.#last) this.#say(text);
      this.#last = text;
      return;
    }
    this.#erase();
    const width = process.stdout.columns || 120;
    for (const line of lines) process.stdout.write(`${line.slice(0, width - 1)}\n`);
    this.#drawn = lines.length;
  }

  #erase(): void {
    // Cursor up and clear to the end of the screen (ECMA-48).
    if (this.#drawn > 0) process.stdout.write(`\x1b[${this.#drawn}A\x1b[J`);
    this.#drawn = 0;
  }
}
