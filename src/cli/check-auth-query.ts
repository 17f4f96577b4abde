// What `pgsteer check --connect` tries of auth_query: in each database where it is asked by name, whether the role that asks is let in
// and answered. It asks for itself: whether it is found does not matter.

import { randomBytes } from "node:crypto";
import type { AuthAnswer, AuthTerms } from "../auth/auth-query.ts";
import { authTerms } from "../auth/auth-query-settings.ts";
import { ScramDerivations } from "../auth/scram.ts";
import { serverTls } from "../auth/tls-options.ts";
import type { ClusterConfig, Config } from "../config/config.ts";
import { systemClock } from "../core/clock.ts";
import { type Logger, silentLogger } from "../core/logger.ts";
import type { TopologyFeed } from "../discovery/feed.ts";
import { AuthAsker } from "../proxy/auth-asker.ts";

/** Where nothing names a database. */
const ANY_DATABASE = "postgres";

/** One question that was tried. */
interface Tried {
  readonly ok: boolean;
  readonly text: string;
}

/** Of a cluster whose topology is known by now. */
export async function checkAuthQuery(config: Config, cluster: ClusterConfig, feed: TopologyFeed): Promise<Tried[]> {
  let reason = "no member answers";
  const logger: Logger = {
    ...silentLogger,
    error: (fields) => {
      reason = `member ${String(fields["member"])}: ${String(fields["reason"])}`;
    },
  };
  const tls = serverTls(cluster.serverTls);
  const asker = new AuthAsker(systemClock, logger, feed, {
    tls,
    random: randomBytes,
    derivations: new ScramDerivations(),
  });
  const tried: Tried[] = [];
  for (const terms of placesOf(config)) {
    const answer = await new Promise<AuthAnswer>((resolve) => asker.ask(terms.user, terms, resolve));
    const where = `${cluster.name}: auth_query as "${terms.user}" in database "${terms.dbname}"`;
    const ok = answer.kind === "answer";
    const guessed = terms.dbname === ANY_DATABASE ? " (no database is named: each user is asked for in its own)" : "";
    tried.push({ ok, text: ok ? `${where}: is answered` : `${where}: is not answered: ${reason}${guessed}` });
  }
  asker.close();
  return tried;
}

/** Each place once: those of databases with a name, or one for all. */
function placesOf({ authQuery, auth, databases }: Config): readonly AuthTerms[] {
  const named = [...(databases?.keys() ?? [])].filter((name) => name !== "*");
  const places = new Map<string, AuthTerms>();
  for (const database of named.length === 0 ? [ANY_DATABASE] : named) {
    const terms = authTerms(authQuery, database, auth.users, (name) => databases?.get(name)?.dbname ?? name);
    if (terms !== null) places.set(JSON.stringify([terms.user, terms.dbname, terms.query]), terms);
  }
  return [...places.values()];
}
