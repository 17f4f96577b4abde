// Attackers at the port while an honest client works: what they are told, beside PostgreSQL where it has an answer of its own, and what the
// honest client notices. Figures are printed; what is judged is what was sent, who was refused, and what is left.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";
import { type Account, accountOf } from "./accounts.ts";
import { type Book, type Part, reportTable } from "./book.ts";
import { cellOf } from "./cell.ts";
import * as floods from "./floods.ts";
import { forgeryHeadings, TRACE, tryForgeries } from "./forgeries.ts";
import { Site } from "./site.ts";
import { cutHellos, cutSessions, leftHandshakes } from "./torn.ts";
import { headings, Victim } from "./victim.ts";

/** The door of the one router; that of the other is as it is by default. */
const WIDE = 12_000;

const [scram, md5, trusted] = [
  accountOf(cellOf("honest", { method: "scram-sha-256", secret: "scram", about: "attacks", sslmode: "require" })),
  accountOf(cellOf("old", { method: "md5", secret: "md5", about: "attacks" })),
  accountOf(cellOf("trusted", { method: "trust", secret: "plain", about: "attacks" })),
] as const;
const accounts: readonly Account[] = [scram, md5, trusted];

/** All addresses of this machine may log in, each by its user's method. `app` is who attackers say they are; nobody is. */
const HBA = ["honest scram-sha-256", "old md5", "trusted trust", "app scram-sha-256"].map((rule) => {
  const [user, method] = rule.split(" ");
  return `host all ${user} 127.0.0.0/8 ${method}`;
});

const loginOf = ({ cell, password }: Account, port: number) => ({
  host: "127.0.0.1",
  port,
  user: cell.user,
  password,
  database: "app",
});

async function startVictim(book: Book, site: Site, name: string, limits: Record<string, unknown>): Promise<Victim> {
  const { userlist } = site.writeFiles(name);
  const hba = join(site.directory, `${name}-all-hba.conf`);
  writeFileSync(hba, [...HBA, ""].join("\n"));
  const { server, authority } = site.papers;
  const router = await site.router(name, [{ name: "prefer", settings: {} }], (configuration) => {
    for (const listener of configuration.listeners) listener["pool_mode"] = "transaction";
    configuration.auth = { type: "hba", hba_file: hba, file: userlist };
    configuration["client_tls"] = { mode: "allow", cert_file: server.cert, key_file: server.key };
    configuration["limits"] = { unlimited_networks: [], ...limits };
    configuration.pool["client_login_timeout"] = limits["max_half_open"] === undefined ? "6s" : "60s";
  });
  const port = router.portOf({ server: "scram-sha-256", serverTls: "prefer" });
  return new Victim(book, router.pgsteer, loginOf(scram, port), readFileSync(authority.ca, "utf8"));
}

async function forge(book: Book, site: Site, victim: Victim): Promise<void> {
  const { port, ca } = victim;
  const ground = { scram: loginOf(scram, port), md5: loginOf(md5, port), trusted: loginOf(trusted, port), ca };
  let rows: string[][] = [];
  await victim.suffer("forged, replayed, reflected", async () => {
    rows = await tryForgeries(book, ground, site.asked.port, port);
    return `${rows.length} tried, as PostgreSQL`;
  });
  book.say(reportTable(forgeryHeadings, rows));
  for (const { login } of [site.asked, site.behind]) {
    const { rows: traces } = await queryOnce({ ...login, database: "app" }, TRACE);
    book.equal("statements that were injected and run", traces[0]?.["count"], 0);
  }
}

/** Nothing is under way on the servers of the pool, and they answer. */
async function poolIsWhole(book: Book, site: Site, victim: Victim): Promise<void> {
  const busy = `SELECT count(*)::int AS count FROM pg_stat_activity WHERE state LIKE 'idle in%' AND usename = 'honest'`;
  const none = async () => (await queryOnce(site.behind.login, busy)).rows[0]?.["count"] === 0;
  await waitFor(none, { timeoutMs: 20_000, what: "no transaction is left open" });
  const gone = async () => (await victim.metric("pgsteer_clients", 'state="active"')) <= 2;
  await waitFor(gone, { timeoutMs: 20_000, what: "no client is left" });
  const { asked } = victim.honest;
  await waitFor(() => victim.honest.asked > asked + 20, { timeoutMs: 20_000, what: "the honest client goes on" });
  book.pass(3);
}

async function finish(victim: Victim): Promise<void> {
  const { book, honest, pgsteer } = victim;
  await honest.stop();
  book.equal("refused to the honest client, in all", honest.failures, []);
  book.equal("half-open logins in the end", await victim.metric("pgsteer_clients", 'state="login"'), 0);
  book.say(
    `${pgsteer.process.name}: the honest client made ${honest.asked} queries, logged in ${honest.connected} times`,
  );
  await pgsteer.stop();
}

/** What a process may raise its limit of open files to, as node does when it starts. */
function openFilesMax(): number {
  const limits = readFileSync("/proc/self/limits", "latin1");
  return Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
}

/** Against a door that is wide enough for all of them. */
async function holdAll(book: Book, site: Site, victims: Victim[]): Promise<void> {
  const wide = await startVictim(book, site, "wide", { max_half_open: WIDE });
  victims.push(wide);
  await wide.suffer("nobody", async () => "only to get warm");
  await wide.suffer("10,000 half-open, 40 addresses, all held", () => floods.halfOpen(wide, floods.fromMany(), WIDE));
  await finish(wide);
}

async function run(book: Book): Promise<void> {
  const site = await Site.start("auth-attacks");
  const victims: Victim[] = [];
  try {
    await site.admit(accounts);
    await site.asked.admit(["host all postgres 127.0.0.1/32 trust", ...HBA]);
    const usual = await startVictim(book, site, "usual", { cancels_per_second: 10 });
    victims.push(usual);
    await forge(book, site, usual);
    await usual.suffer("TLS: ClientHello cut", () => cutHellos(usual));
    await usual.suffer("TLS: left in the handshake", () => leftHandshakes(usual));
    await usual.suffer("TLS: sessions cut", () => cutSessions(usual));
    await poolIsWhole(book, site, usual);
    await usual.suffer("10,000 half-open, one address", () => floods.halfOpen(usual, floods.fromOne(), 2_000));
    await usual.suffer("slowloris, PostgreSQL port", () => floods.slowLogins(usual));
    await usual.suffer("slowloris, HTTP port", () => floods.slowHeaders(usual));
    await usual.suffer("2,000 TLS handshakes at once", () => floods.handshakes(usual));
    await usual.suffer("1,000 wrong passwords", () => floods.guessedPasswords(usual));
    await usual.suffer("5,000 cancel keys guessed", () => floods.guessedKeys(usual));
    await finish(usual);
    if (openFilesMax() > WIDE + 1_000) await holdAll(book, site, victims);
    else book.skip("fewer files may be open (ulimit -Hn) than 10,000 connections need", 6);
    book.note = "an honest client beside each";
  } finally {
    const rows = victims.flatMap((victim) => victim.rows);
    if (rows.length > 0) book.say(reportTable(headings, rows));
    await Promise.all(victims.map(({ honest }) => honest.stop()));
    await site.remove();
  }
}

export const attacks: Part = { name: "attacks", about: "the hostile at the port, an honest client beside them", run };
