// Members that are read from, or not: lag, departure, tags, a replica of a replica.

import { APPLICATION } from "../support/cluster.ts";
import { now } from "../support/time.ts";
import { check, equal } from "./expect.ts";
import { plain } from "./leader-scenarios.ts";
import type { Scenario, Setup, Site } from "./site.ts";
import type { Traffic } from "./traffic.ts";

const tagged: Setup = {
  name: "tagged members",
  cluster: { patroni: { tags: { node2: { noloadbalance: true }, node3: { nofailover: true } } } },
};
const unstreamed: Setup = {
  name: "a member that does not stream",
  cluster: { patroni: { tags: { node3: { nostream: true } } } },
};
const cascade: Setup = {
  name: "a replica of a replica",
  cluster: { patroni: { tags: { node3: { replicatefrom: "node2" } } } },
};

/** More WAL than the read port's limit of 16 MiB. */
const LAG_ROWS = 40_000;

/** Writes WAL on the leader, past any limit of lag. */
async function writeMuch(site: Site): Promise<void> {
  const leader = await site.cluster.requireLeader();
  const statement = `CREATE TABLE IF NOT EXISTS much (filler text);
    INSERT INTO much SELECT repeat(md5(n::text), 32) FROM generate_series(1, ${LAG_ROWS}) n`;
  await site.cluster.sql(leader, statement, [], APPLICATION.database);
}

const serving = (traffic: Traffic, name: string, serves: boolean) =>
  traffic.watch.until(`${name} ${serves ? "serves" : "does not serve"} reads`, ({ members }) => {
    const member = members.find((each) => each.name === name);
    return member !== undefined && member.serves.some(({ listener }) => listener === "read") === serves;
  });

const lagging: Scenario = {
  name: "a lagging replica leaves and comes back",
  setup: plain,
  async run(site, traffic) {
    const { cluster } = site;
    const [late = "", other = ""] = await cluster.replicas();
    equal("members that answer reads", await traffic.readers(), [late, other].toSorted());
    cluster.addLag(late);
    try {
      await writeMuch(site);
      const shown = await serving(traffic, late, false);
      const reason = shown.members.find(({ name }) => name === late)?.not_serving ?? "";
      check(reason.includes("bytes behind"), () => `why it serves nothing: ${reason}`);
      equal("members that answer reads", await traffic.readers(), [other]);
    } finally {
      cluster.removeLag(late);
    }
    await serving(traffic, late, true);
    equal("members that answer reads", await traffic.readers(), [late, other].toSorted());
    traffic.undisturbed();
    return `left with its lag and came back; ${traffic.summary()}`;
  },
};

const removed: Scenario = {
  name: "a member is removed, and comes back",
  setup: plain,
  async run(site, traffic) {
    const { cluster } = site;
    const [gone = "", other = ""] = await cluster.replicas();
    await cluster.stopMember(gone);
    await traffic.watch.until(`no ${gone}`, ({ members }) => !members.some(({ name }) => name === gone));
    equal("members that answer reads", await traffic.readers(), [other]);
    await cluster.startMember(gone);
    await site.settle(traffic);
    equal("members that answer reads", await traffic.readers(), [gone, other].toSorted());
    traffic.undisturbed();
    return `0 errors; ${traffic.summary()}`;
  },
};

const tags: Scenario = {
  name: "tags noloadbalance and nofailover",
  setup: tagged,
  async run(site, traffic) {
    const { cluster } = site;
    equal("the leader", await cluster.requireLeader(), "node1");
    const shown = await traffic.watch.until("node3 readable", ({ members }) =>
      members.some(({ name, readable }) => name === "node3" && readable),
    );
    const node2 = shown.members.find(({ name }) => name === "node2");
    equal("node2", [node2?.noloadbalance, node2?.readable, node2?.reason], [true, false, "is tagged noloadbalance"]);
    equal("members that answer reads", await traffic.readers(), ["node3"]);
    // The only one that may: and as leader it serves writes, tag or not.
    const secondAgo = now() - 1000;
    await cluster.killNode("node1");
    await traffic.watch.until(
      "node2 writable",
      ({ leader }) => leader.state === "writable" && leader.member === "node2",
    );
    await traffic.writer.nextAcknowledged();
    equal("members that answer reads", await traffic.readers(), ["node3"]);
    traffic.onlyInFlight();
    await traffic.nothingWrong(secondAgo, now());
    await cluster.startMember("node1");
    await cluster.waitHealthy();
    await serving(traffic, "node1", true);
    equal("members that answer reads", await traffic.readers(), ["node1", "node3"]);
    traffic.readsUndisturbed();
    return `node2 never read from, node3 never leader; ${traffic.summary()}`;
  },
};

const nostream: Scenario = {
  name: "tag nostream",
  setup: unstreamed,
  only: { majors: [4], why: "the tag came with 4.0" },
  async run(site, traffic) {
    const shown = await traffic.watch.until("node3 without a stream", ({ members }) =>
      members.some(({ name, streaming, readable }) => name === "node3" && streaming === false && !readable),
    );
    equal("its reason", shown.members.find(({ name }) => name === "node3")?.reason, "does not stream");
    equal("members that answer reads", await traffic.readers(), ["node2"]);
    await site.cluster.switchover("node2");
    await site.cluster.waitHealthy();
    await serving(traffic, "node1", true);
    await traffic.writer.nextAcknowledged();
    // A change of leader gives every replica some time to find its stream again.
    await serving(traffic, "node3", false);
    equal("members that answer reads", await traffic.readers(), ["node1"]);
    traffic.undisturbed();
    await traffic.nothingWrong();
    return `not read from, but for the grace after a change of leader; ${traffic.summary()}`;
  },
};

const cascading: Scenario = {
  name: "a cascading replica, whose upstream dies",
  setup: cascade,
  async run(site, traffic) {
    const { cluster } = site;
    equal("the leader", await cluster.requireLeader(), "node1");
    const downstream = async (name: string): Promise<unknown[]> => {
      const { rows } = await cluster.sql(name, "SELECT application_name FROM pg_stat_replication ORDER BY 1");
      return rows.map((row) => row["application_name"]);
    };
    await cluster.waitFor(async () => (await downstream("node2")).includes("node3"), 30_000, "node3 follows node2");
    const shown = await site.settle(traffic).then(() => traffic.watch.now());
    const node3 = shown.members.find(({ name }) => name === "node3");
    equal("node3", [node3?.readable, node3?.streaming], [true, true]);
    check(node3?.lag_bytes !== null, "node3's lag is unknown");
    equal("members that answer reads", await traffic.readers(), ["node2", "node3"]);
    await cluster.killNode("node2");
    equal("members that answer reads", await traffic.readers(), ["node3"]);
    // Patroni lets it follow the leader once its upstream's key is gone.
    await cluster.waitFor(async () => (await downstream("node1")).includes("node3"), 60_000, "node3 follows node1");
    await cluster.startMember("node2");
    await cluster.waitFor(async () => (await downstream("node2")).includes("node3"), 60_000, "node3 follows node2");
    await site.settle(traffic);
    equal("members that answer reads", await traffic.readers(), ["node2", "node3"]);
    traffic.undisturbed();
    await traffic.nothingWrong();
    return `0 errors; ${traffic.summary()}`;
  },
};

export const replicaScenarios: readonly Scenario[] = [lagging, removed, tags, nostream, cascading];
