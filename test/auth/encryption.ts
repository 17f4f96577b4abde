// TLS towards clients beyond the matrix: sslnegotiation=direct with PostgreSQL 18's libpq beside PostgreSQL 18 itself, connections that
// name another protocol or none, channel binding, and a certificate that is replaced under connections that live on.

import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { Client } from "pg";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { handToServers } from "../support/processes.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";
import { binariesOf, obstacle } from "../versions/packages.ts";
import { type Account, accountOf, clientRecords, rolesOf } from "./accounts.ts";
import { type Book, type Part, reportTable } from "./book.ts";
import { type Cell, cellOf } from "./cell.ts";
import { wordsOf } from "./compare.ts";
import { byPsql } from "./drivers.ts";
import { PROBE, type Router, type RouterFiles, Site } from "./site.ts";
import { type Target, tlsOptions } from "./target.ts";

const MAJOR = 18;
const LIVE = 100;

type Wish = Parameters<typeof cellOf>[1];
const scram = { method: "scram-sha-256", secret: "scram", server: "scram-sha-256" } as const;
const bound = { ...scram, method: "bound" } as const;

/** Tried with sslnegotiation=direct; `environment` of libpq besides. */
const wishes: readonly (Wish & { readonly environment?: Readonly<Record<string, string>> })[] = [
  { ...scram, about: "direct, require" },
  { ...scram, about: "direct, verify-ca", sslmode: "verify-ca" },
  { ...scram, about: "direct, verify-full", sslmode: "verify-full" },
  { ...scram, about: "direct, verify-full, another name", sslmode: "verify-full", host: "localhost" },
  { ...scram, about: "direct, another authority", sslmode: "verify-ca", trusts: false },
  { ...scram, about: "direct, but prefer", sslmode: "prefer" },
  { ...scram, about: "direct, wrong password", password: "wrong" },
  { ...scram, about: "direct, unknown user", secret: "unknown" },
  { ...scram, about: "direct, wrong database", database: "nowhere" },
  { ...bound, about: "direct, bound" },
  { ...bound, about: "direct, bound, wrong password", password: "wrong" },
  { ...scram, about: "direct, TLS 1.2 at most", environment: { PGSSLMAXPROTOCOLVERSION: "TLSv1.2" } },
  { ...bound, about: "asked for, bound", environment: { PGSSLNEGOTIATION: "postgres" } },
  { ...scram, about: "asked for", environment: { PGSSLNEGOTIATION: "postgres" } },
  { ...scram, about: "scram demanded", environment: { PGREQUIREAUTH: "scram-sha-256" } },
  { ...scram, about: "md5 demanded", environment: { PGREQUIREAUTH: "md5" } },
  { ...scram, about: "protocol 3.2", environment: { PGMINPROTOCOLVERSION: "3.2", PGMAXPROTOCOLVERSION: "3.2" } },
];

async function startRouter(site: Site, files: RouterFiles, pair: Pair): Promise<Router> {
  return site.router("encryption", [{ name: "prefer", settings: {} }], (configuration) => {
    configuration.auth = { type: "scram-sha-256", file: files.userlist };
    configuration.pool["default_pool_size"] = LIVE + 10;
    configuration["client_tls"] = { mode: "allow", cert_file: pair.cert, key_file: pair.key };
  });
}

interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** PostgreSQL 18 itself with the site's certificate and these users. */
async function startNewest(site: Site, accounts: readonly Account[], binaries: string): Promise<Postgres> {
  const { server, authority } = site.papers;
  const parameters = { ssl: "on", ssl_cert_file: server.cert, ssl_key_file: server.key, ssl_ca_file: authority.ca };
  const ways = ["host all postgres 127.0.0.1/32 trust", `hostssl all ${PROBE.user} 127.0.0.1/32 scram-sha-256`];
  const hba = [...ways, ...clientRecords(accounts)];
  const newest = await startPostgres("newest", hba, { processes: site.processes, parameters, binaries });
  await queryOnce(newest.login, "CREATE DATABASE app");
  await queryOnce(newest.login, rolesOf(accounts, "storedAsked"));
  await queryOnce(newest.login, `CREATE ROLE ${PROBE.user} LOGIN PASSWORD '${PROBE.password}' IN ROLE pg_monitor`);
  return newest;
}

async function direct(book: Book, site: Site, accounts: readonly Account[], ports: Ports): Promise<void> {
  const rows: string[][] = [];
  for (const [index, account] of accounts.entries()) {
    const env = { PGSSLNEGOTIATION: "direct", LD_LIBRARY_PATH: ports.libraries, ...wishes[index]?.environment };
    const truth = wordsOf(await byPsql(site.target(account, ports.newest), env));
    const ours = wordsOf(await byPsql(site.target(account, ports.router), env));
    book.equal(account.cell.about, ours, truth);
    rows.push([account.cell.about, truth]);
  }
  book.say(reportTable([`psql with PostgreSQL ${MAJOR}'s libpq`, `both, PostgreSQL ${MAJOR} and pgsteer`], rows));
}

/** Towards servers: TLS at once, and every login bound to it; with a server that does not know that, nothing. */
async function towardsServers(book: Book, site: Site, account: Account, newest: Postgres): Promise<void> {
  const { userlist } = site.writeFiles("direct");
  const settings = { sslmode: "verify-full", ca_file: site.papers.authority.ca, sslnegotiation: "direct" };
  const way = { name: "verify-full-bound", settings: { ...settings, channel_binding: "require" }, port: newest.port };
  const router = await site.router("direct", [way], (configuration) => {
    configuration.auth = { type: "scram-sha-256", file: userlist };
  });
  const port = router.portOf({ server: "bound", serverTls: "verify-full" });
  const login = { host: "127.0.0.1", port, user: account.cell.user, password: account.password };
  const question = "SELECT version() AS name, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
  const [row] = (await queryOnce({ ...login, database: "app" }, question)).rows;
  book.equal(`sslnegotiation=direct towards PostgreSQL ${MAJOR}: encrypted`, row?.["ssl"], true);
  book.holds("it is that server", String(row?.["name"]).startsWith(`PostgreSQL ${MAJOR}.`));
  await router.pgsteer.stop();
}

interface Ports {
  readonly newest: number;
  readonly router: number;
  readonly libraries: string;
}

/** What a TLS client without SSLRequest meets that names these protocols: the one chosen, or how it ended. */
function alpn(port: number, protocols: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const socket: TLSSocket = connectTls({
      port,
      host: "127.0.0.1",
      rejectUnauthorized: false,
      ALPNProtocols: [...protocols],
    });
    const end = (how: string): void => {
      socket.destroy();
      resolve(how);
    };
    socket.on("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
    socket.once("end", () => end("closed"));
    socket.once("secureConnect", () => {
      if (socket.alpnProtocol === "postgresql") return end("postgresql");
      // A server that only then finds out says so once it is spoken to.
      socket.on("data", (bytes: Buffer) => end(bytes.toString("latin1").includes("FATAL") ? "refused" : "answered"));
      socket.write(Buffer.from([0, 0, 0, 8, 0, 3, 0, 0]));
    });
  });
}

/** 100 clients that ask all the time while the certificate is replaced. */
async function rotate(book: Book, site: Site, target: Target, router: Router, pair: Pair): Promise<void> {
  const open = async (): Promise<Client> => {
    const { host, port, user, password, database } = target;
    const client = new Client({ host, port, user, password, database, ssl: tlsOptions(target) ?? false });
    await client.connect();
    return client;
  };
  const serial = async (): Promise<string> => {
    const socket = connectTls({
      port: target.port,
      host: target.host,
      rejectUnauthorized: false,
      ALPNProtocols: ["postgresql"],
    });
    try {
      await new Promise<void>((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
      return socket.getPeerX509Certificate()?.serialNumber ?? "none";
    } finally {
      socket.destroy();
    }
  };
  let dropped = 0;
  const clients: Client[] = [];
  for (let count = 0; count < LIVE; count += 1) {
    const client = await open();
    client.on("error", () => {
      dropped += 1;
    });
    clients.push(client);
  }
  let asked = 0;
  let going = true;
  const works = clients.map(async (client) => {
    while (going) {
      await client.query("SELECT 1");
      asked += 1;
    }
  });
  const before = await serial();
  const next = await site.papers.authority.issue({ name: "next", names: "IP:127.0.0.1" });
  const since = asked;
  copyFileSync(next.cert, pair.cert);
  copyFileSync(next.key, pair.key);
  router.pgsteer.process.signal("SIGHUP");
  const changed = async () => (await serial()) !== before;
  await waitFor(changed, { timeoutMs: 20_000, what: "new connections see the new certificate" });
  await waitFor(() => asked > since + 20 * LIVE, { timeoutMs: 60_000, what: "the old ones go on" });
  book.holds(
    "a new client is let in, bound to the new certificate",
    (await byPsql({ ...target, bound: true })).kind === "in",
  );
  book.holds(
    "a new client verifies the new certificate",
    (await byPsql({ ...target, sslmode: "verify-full" })).kind === "in",
  );
  going = false;
  const ended = await Promise.allSettled(works);
  const failed = ended.filter(({ status }) => status === "rejected").length;
  const answers = await Promise.all(
    clients.map((client) =>
      client.query("SELECT 1").then(
        () => 1,
        () => 0,
      ),
    ),
  );
  book.equal(`of ${LIVE} live connections, dropped`, dropped + failed, 0);
  book.equal(
    "live connections that still answer",
    answers.reduce<number>((sum, each) => sum + each, 0),
    LIVE,
  );
  book.say(`certificate replaced under ${LIVE} connections that made ${asked} queries: ${dropped + failed} dropped`);
  await Promise.all(clients.map((client) => client.end()));
}

async function run(book: Book): Promise<void> {
  const site = await Site.start("auth-encryption");
  try {
    const cells: Cell[] = wishes.map(({ environment: _, ...wish }, index) => cellOf(`direct${index + 1}`, wish));
    const accounts = cells.map(accountOf);
    await site.admit(accounts);
    const pair = { cert: join(site.directory, "current.crt"), key: join(site.directory, "current.key") };
    copyFileSync(site.papers.server.cert, pair.cert);
    copyFileSync(site.papers.server.key, pair.key);
    handToServers(pair.key);
    const router = await startRouter(site, site.writeFiles("encryption"), pair);
    const port = router.portOf({ server: "scram-sha-256", serverTls: "prefer" });
    const [first] = accounts;
    const hindrance = obstacle();
    if (hindrance === null) {
      const binaries = binariesOf(MAJOR);
      const newest = await startNewest(site, accounts, binaries);
      await direct(book, site, accounts, { newest: newest.port, router: port, libraries: join(binaries, "..", "lib") });
      for (const protocols of [["postgresql"], ["http/1.1"], ["h2", "postgresql"], []]) {
        const [ours, truth] = [await alpn(port, protocols), await alpn(newest.port, protocols)];
        // Who names no protocol is told why by the router; PostgreSQL says it in its log alone.
        if (protocols.length === 0) book.equal("no ALPN", [ours, truth], ["refused", "closed"]);
        else book.equal(`ALPN ${protocols.join()}`, ours, truth);
      }
      if (first !== undefined) await towardsServers(book, site, first, newest);
    } else book.skip(hindrance, wishes.length + 6);
    if (first !== undefined) await rotate(book, site, site.target(first, port), router, pair);
    book.note = `sslnegotiation=direct beside PostgreSQL ${MAJOR}; rotation under ${LIVE} connections`;
  } finally {
    await site.remove();
  }
}

export const encryption: Part = { name: "encryption", about: "direct TLS, channel binding, certificate rotation", run };
