// What `pgsteer check --connect` tries: each etcd endpoint by itself, then the cluster as pgsteer would see it, with every member
// asked over SQL and over Patroni's REST API. Uses the same parts as a running pgsteer, and changes nothing anywhere.

import { setTimeout as delay } from "node:timers/promises";
import type { ClusterConfig, Config } from "../config/config.ts";
import { formatAddress } from "../core/addresses.ts";
import { systemClock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { EtcdConnection } from "../discovery/etcd-connection.ts";
import { keyPrefix } from "../discovery/options.ts";
import { PatroniRest } from "../discovery/patroni-rest.ts";
import type { Member, Topology } from "../discovery/topology.ts";
import { checkAuthQuery } from "./check-auth-query.ts";
import { composeObservers } from "./compose.ts";

const CALL_TIMEOUT_MS = 3_000;
/** By then a cluster that is well has shown its leader, and each member has answered. */
const SETTLE_TIMEOUT_MS = 8_000;
const LOOK_EVERY_MS = 50;

/** One thing that was tried, in words. */
export interface Finding {
  readonly ok: boolean;
  readonly text: string;
}

const good = (text: string): Finding => ({ ok: true, text });
const bad = (text: string): Finding => ({ ok: false, text });
const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Tries everything that the configuration names. */
export async function checkConnections(config: Config, logger: Logger): Promise<readonly Finding[]> {
  const { observers, close } = composeObservers(systemClock, logger, config);
  const findings: Finding[] = [];
  try {
    for (const observer of observers.values()) observer.start();
    for (const cluster of config.clusters.values()) {
      const etcd = await checkEtcd(cluster);
      findings.push(...etcd);
      const observer = observers.get(cluster.name);
      if (observer === undefined) continue;
      // Without a single endpoint there is nothing more to come.
      const lost = etcd.length > 0 && etcd.every(({ ok }) => !ok);
      const deadline = systemClock.now() + SETTLE_TIMEOUT_MS;
      while (!lost && !settled(observer.current()) && systemClock.now() < deadline) await delay(LOOK_EVERY_MS);
      findings.push(...(await checkTopology(cluster, observer.current())));
      findings.push(...(await checkAuthQuery(config, cluster, observer)));
    }
  } finally {
    await close();
  }
  return findings;
}

/** Whether nothing more is to be expected: a leader is known, or nobody answers. */
function settled({ leader, members, source }: Topology): boolean {
  const all = [...members.values()];
  if (all.length > 0 && all.every(({ state }) => state === "unreachable")) return true;
  const decided = leader.kind === "writable" || leader.kind === "standby";
  const answered = all.every(({ position, state }) => position !== null || state === "unreachable");
  return source.connected && decided && all.length > 0 && answered;
}

async function checkEtcd({ name, source, namespace, scope }: ClusterConfig): Promise<Finding[]> {
  if (source.kind !== "etcd") return [];
  const { endpoints, credentials, tls } = source.etcd;
  const prefix = keyPrefix(namespace, scope);
  return Promise.all(
    endpoints.map(async (endpoint): Promise<Finding> => {
      const connection = new EtcdConnection(systemClock, {
        endpoint,
        prefix,
        credentials,
        tls,
        callTimeoutMs: CALL_TIMEOUT_MS,
        keepaliveTimeMs: CALL_TIMEOUT_MS,
        keepaliveTimeoutMs: CALL_TIMEOUT_MS,
      });
      try {
        await connection.login();
        const { keys, revision } = await connection.read();
        if (keys.size > 0)
          return good(`${name}: etcd ${endpoint}: ${keys.size} keys under ${prefix}, revision ${revision}`);
        return bad(`${name}: etcd ${endpoint} answers, but has no keys under ${prefix}: check scope and namespace`);
      } catch (error) {
        return bad(`${name}: etcd ${endpoint}: ${reasonOf(error)}`);
      } finally {
        connection.close();
      }
    }),
  );
}

async function checkTopology(cluster: ClusterConfig, topology: Topology): Promise<Finding[]> {
  const { name, source } = cluster;
  const findings: Finding[] = [];
  // What etcd's endpoints answer has been said one by one.
  if (source.kind === "patroni") {
    const { connected, reason } = topology.source;
    findings.push(connected ? good(`${name}: patroni answers`) : bad(`${name}: patroni does not answer: ${reason}`));
  }
  const patroni = source.kind === "static" ? { credentials: null, tls: null } : source.patroni;
  const rest = new PatroniRest(systemClock, patroni);
  try {
    for (const member of topology.members.values()) {
      findings.push(checkMember(name, member));
      if (member.apiUrl !== null) findings.push(await checkRest(rest, name, member.name, member.apiUrl));
    }
  } finally {
    await rest.close();
  }
  findings.push(checkLeader(name, topology));
  return findings;
}

function checkMember(cluster: string, { name, host, port, role, state, position, reason, timeline }: Member): Finding {
  const where = `${cluster}: member ${name}: PostgreSQL ${formatAddress(host, port)}`;
  if (position === null || state === "unreachable") {
    return bad(`${where}: ${reason === "" ? "no answer to a probe yet" : reason}`);
  }
  return good(`${where}: ${role}, ${state}${timeline === null ? "" : `, timeline ${timeline}`}`);
}

async function checkRest(rest: PatroniRest, cluster: string, member: string, url: string): Promise<Finding> {
  const answer = await rest.member(url);
  const where = `${cluster}: member ${member}: Patroni ${url}`;
  return answer.ok ? good(`${where}: ${answer.role}, ${answer.state}`) : bad(`${where}: ${answer.reason}`);
}

function checkLeader(cluster: string, { leader, source }: Topology): Finding {
  switch (leader.kind) {
    case "writable":
      return good(`${cluster}: leader ${leader.member} takes writes`);
    case "standby":
      return good(`${cluster}: standby cluster, leader ${leader.member} takes no writes`);
    case "none":
      return bad(
        `${cluster}: ${leader.reason === source.reason ? "no leader is known" : `no leader: ${leader.reason}`}`,
      );
    default:
      return bad(`${cluster}: leader ${leader.member} takes no writes: ${leader.reason}`);
  }
}
