// What /topology says over time: asked every few milliseconds, kept wherever it changed. Scenarios ask it about order and states, never
// about durations.

import { type ClusterDocument, topologySchema } from "../../src/admin/topology-document.ts";
import { now, sleep, waitFor } from "../support/time.ts";

const PERIOD_MS = 20;
const ANSWER_TIMEOUT_MS = 5000;

/** One state of the cluster as pgsteer showed it, first seen at `at`. */
export interface Sight {
  readonly at: number;
  readonly cluster: ClusterDocument;
}

export class TopologyWatch {
  /** Whenever leader, source, pause, or a member's readability changed. */
  readonly sights: Sight[] = [];
  readonly #url: string;
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();
  #last = "";

  constructor(httpUrl: string) {
    this.#url = `${httpUrl}/topology`;
  }

  /** Resolves when there is a first sight. */
  async start(): Promise<void> {
    this.#take(await this.now());
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  /** What it says at this moment. */
  async now(): Promise<ClusterDocument> {
    const response = await fetch(this.#url, { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
    const [cluster] = topologySchema.parse(await response.json()).clusters;
    if (cluster === undefined) throw new Error("/topology shows no cluster");
    return cluster;
  }

  /** Waits until /topology satisfies `look`, and returns that. */
  async until(what: string, look: (cluster: ClusterDocument) => boolean, timeoutMs = 60_000): Promise<ClusterDocument> {
    let last: ClusterDocument | null = null;
    const find = async (): Promise<ClusterDocument | null> => {
      last = await this.now();
      this.#take(last);
      return look(last) ? last : null;
    };
    return waitFor(find, { timeoutMs, what: `/topology shows ${what}` }).catch((cause: unknown) => {
      throw new Error(`/topology does not show ${what}, but ${last === null ? "nothing" : outline(last)}`, { cause });
    });
  }

  /** States of the leader in their order since `since`: `writable node1`, `elected node2`, `none`; repetitions left out. */
  leaders(since = 0): string[] {
    const first = Math.max(
      0,
      this.sights.findLastIndex(({ at }) => at <= since),
    );
    const lines = this.sights.slice(first).map(({ cluster }) => leaderLine(cluster));
    return lines.filter((line, index) => line !== lines[index - 1]);
  }

  #take(cluster: ClusterDocument): void {
    const key = outline(cluster);
    if (key === this.#last) return;
    this.#last = key;
    this.sights.push({ at: now(), cluster });
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      await sleep(PERIOD_MS);
      try {
        this.#take(await this.now());
      } catch {
        // Whoever needs an answer asks for it and hears of the failure.
      }
    }
  }
}

export const leaderLine = ({ leader }: ClusterDocument): string =>
  leader.member === null ? leader.state : `${leader.state} ${leader.member}`;

/** A cluster's state in one line. */
export function outline(cluster: ClusterDocument): string {
  const { leader, source, paused, members } = cluster;
  const shown = members.map(({ name, role, readable, reason, not_serving: not }) =>
    readable && not === "" ? `${name}=${role}` : `${name}=${role} (${reason || not})`,
  );
  const parts = [`${leaderLine(cluster)} epoch ${leader.epoch ?? "-"} ${leader.reason}`, ...shown];
  return `${parts.join("; ")}; ${source.kind} ${source.connected ? "connected" : "lost"}${paused ? "; paused" : ""}`;
}
