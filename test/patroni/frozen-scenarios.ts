// A leader whose Patroni is frozen: its key expires, another member takes over, and its PostgreSQL goes on taking writes from whoever
// asks. Through pgsteer none may reach it. Up to Patroni 3.0.2 such a leader may put its key back when it thaws.

import { readFileSync } from "node:fs";
import { recordLeadership } from "../support/leadership.ts";
import { RawClient } from "../support/raw-client.ts";
import { sleep, waitFor } from "../support/time.ts";
import { check, equal } from "./expect.ts";
import { plain } from "./leader-scenarios.ts";
import type { Scenario, Site } from "./site.ts";
import type { Traffic } from "./traffic.ts";

/** Clients with a transaction open on the leader when it is deposed. */
const OPEN_TRANSACTIONS = 10;

/** Those clients; each wants to write once more after the change. */
async function openTransactions(site: Site, traffic: Traffic): Promise<RawClient[]> {
  const clients: RawClient[] = [];
  for (let index = 1; index <= OPEN_TRANSACTIONS; index += 1) {
    const client = await RawClient.login(site.pgsteer.login("write"));
    await client.simple("BEGIN");
    equal("in a transaction", await client.simple(insert(traffic, -index)), ["C INSERT 0 1", "Z T"]);
    clients.push(client);
  }
  return clients;
}

/** Writes that begin after the new key, before they are looked for on the old leader. */
const WRITES_AT_LEAST = 200;

const insert = (traffic: Traffic, id: number): string =>
  `INSERT INTO ${traffic.table} (id, client_time) VALUES (${id}, 0)`;

interface Deposed {
  readonly old: string;
  /** On which it led. */
  readonly timeline: number;
  readonly successor: string;
  /** When the successor's name was seen in the key. */
  readonly keyPut: number;
}

/** Freezes the leader's Patroni and waits for its successor to be served. */
async function depose(site: Site, traffic: Traffic): Promise<Deposed> {
  const { cluster } = site;
  const old = await cluster.requireLeader();
  const timeline = (await traffic.watch.now()).leader.timeline ?? 0;
  let keyPut = 0;
  let successor = "";
  const endWatch = await cluster.etcd.watch(`${cluster.prefix}leader`, ({ value, at }) => {
    if (value === null || value === old || keyPut > 0) return;
    keyPut = at;
    successor = value;
  });
  cluster.freezePatroni(old);
  try {
    await waitFor(() => keyPut > 0, { timeoutMs: 60_000, intervalMs: 2, what: "another name in the leader key" });
  } finally {
    endWatch();
  }
  await traffic.watch.until(`${successor} writable`, ({ leader }) => leader.member === successor);
  await traffic.writer.nextAcknowledged();
  return { old, timeline, successor, keyPut };
}

/** Writes through pgsteer that began after the new key, and how many of them are on the deposed member. */
async function strays(traffic: Traffic, { old, keyPut }: Deposed): Promise<{ sent: number; strayed: number[] }> {
  const later = new Set(traffic.writer.attempts.filter(({ start }) => start >= keyPut).map(({ id }) => id));
  const there = (await traffic.rowsOn(old)).map(({ id }) => id);
  // Rows with negative numbers are those of the open transactions: none of them may have been committed.
  return { sent: later.size, strayed: there.filter((id) => later.has(id) || id < 0) };
}

/** /topology has at no time shown the old leader as one that takes writes, on the timeline on which it was deposed. */
function neverServed(traffic: Traffic, { old, timeline, keyPut }: Deposed): void {
  const served = traffic.watch.sights.find(({ at, cluster: { leader } }) => {
    return at > keyPut && leader.state === "writable" && leader.member === old && (leader.timeline ?? 0) <= timeline;
  });
  check(served === undefined, `the deposed ${old} was served on timeline ${timeline}`);
}

/** What pgsteer's log says of the change: the old member's connections cut before the new one is served, on a later epoch. */
function checkLog(site: Site, { old, successor }: Deposed): void {
  const lines = readFileSync(site.pgsteer.log, "utf8").split("\n");
  const cut = lines.findLastIndex((line) => line.includes(`"member":"${old}"`) && line.includes("leader deposed"));
  const served = lines.findLastIndex(
    (line) => line.includes(`"leader":"${successor}"`) && line.includes("leader is writable"),
  );
  check(cut >= 0 && served > cut, `the log does not say that ${old} was cut before ${successor} was served`);
  const epochs = lines.flatMap(
    (line) => /"leader":"(\w+)","epoch":(\d+).*leader is writable/.exec(line)?.slice(1, 3) ?? [],
  );
  const [before, after] = [epochs.lastIndexOf(old), epochs.lastIndexOf(successor)].map((at) => Number(epochs[at + 1]));
  check((after ?? 0) > (before ?? 0), `${successor} has epoch ${after}, ${old} had ${before}`);
}

const splitBrain: Scenario = {
  name: "Patroni frozen until its key expires, PostgreSQL writing on (split brain)",
  setup: plain,
  spoils: true,
  async run(site, traffic) {
    const { cluster } = site;
    const record = await recordLeadership(cluster);
    const witnesses = await openTransactions(site, traffic);
    try {
      const deposed = await depose(site, traffic);
      // It has teeth only because the old leader takes the writes of others.
      const direct = () => record.staleWrites().find(({ member, ms }) => member === deposed.old && ms > 2000);
      await waitFor(direct, { timeoutMs: 10_000, what: `${deposed.old} goes on writing` });
      const attempts = () => traffic.writer.attempts.filter(({ start }) => start >= deposed.keyPut).length;
      await waitFor(() => attempts() >= WRITES_AT_LEAST, { timeoutMs: 60_000, what: `${WRITES_AT_LEAST} writes` });
      for (const witness of witnesses) {
        equal("the open transaction", await witness.simple(insert(traffic, -100)), ["E ERROR 40001", "Z E"]);
        equal("its COMMIT", await witness.simple("COMMIT"), ["C ROLLBACK", "Z I"]);
      }
      const frozen = await strays(traffic, deposed);
      equal("writes through pgsteer on the deposed leader", frozen.strayed, []);
      const sent = frozen.sent + witnesses.length;
      checkLog(site, deposed);
      traffic.onlyInFlight();
      cluster.thawPatroni(deposed.old);
      const fate = await decided(site, deposed);
      const thawed = traffic.writer.attempts.length;
      await sleep(2000);
      neverServed(traffic, deposed);
      const others = Math.round(direct()?.ms ?? 0);
      const more = traffic.writer.attempts.length - thawed;
      return `0 of ${sent} writes reached the old primary, which took others' for ${others} ms; thawed it ${fate}, ${more} writes more`;
    } finally {
      for (const witness of witnesses) witness.destroy();
      await record.stop();
    }
  },
};

/** Waits until a thawed Patroni has put its key back or given up. */
async function decided(site: Site, { old }: Deposed): Promise<"leads again" | "gave up"> {
  const role = async (): Promise<string> => {
    const response = await fetch(`${site.cluster.member(old).apiUrl}/patroni`, { signal: AbortSignal.timeout(5000) });
    return /"role":\s*"(\w+)"/.exec(await response.text())?.[1] ?? "";
  };
  return waitFor(
    async () => {
      if ((await site.cluster.leader()) === old) return "leads again" as const;
      return (await role()) === "replica" ? ("gave up" as const) : null;
    },
    { timeoutMs: 60_000, what: `the thawed ${old} leads again, or has become a replica` },
  );
}

const putBack: Scenario = {
  name: "a thawed old leader puts its key back",
  setup: plain,
  spoils: true,
  only: { majors: [3], why: "mended in 3.0.3" },
  async run(site, traffic) {
    const { cluster } = site;
    let deposed = await depose(site, traffic);
    let how = "by Patroni itself";
    cluster.thawPatroni(deposed.old);
    if ((await decided(site, deposed)) === "gave up") {
      // It looked before it wrote. What it writes when it does not is known: the same is done in its place, while it is frozen.
      const member = `${cluster.prefix}members/${await site.settle(traffic)}`;
      const value = (await cluster.etcd.get(member))?.value ?? "";
      deposed = await depose(site, traffic);
      // Its own key went with its lease: without an address it would be refused for that alone.
      await cluster.etcd.put(member, value);
      await cluster.etcd.put(`${cluster.prefix}leader`, deposed.old);
      how = "in Patroni's place";
    }
    const { old } = deposed;
    const refused = "has been written already";
    const shown = await traffic.watch.until(
      `${old} refused for its timeline`,
      ({ leader }) => leader.member === old && leader.state === "elected" && leader.reason.includes(refused),
    );
    await sleep(3000);
    const { sent, strayed } = await strays(traffic, deposed);
    equal("writes through pgsteer on the old leader", strayed, []);
    neverServed(traffic, deposed);
    traffic.readsUndisturbed();
    return `put back ${how}, refused (${shown.leader.reason}); 0 of ${sent} writes reached it`;
  },
};

export const frozenScenarios: readonly Scenario[] = [splitBrain, putBack];
