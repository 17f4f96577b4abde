// PgBouncer and pgsteer on the same files, unchanged: userlist.txt, HBA file, auth_query in both documented forms
// (https://www.pgbouncer.org/config.html#authentication-settings). Whom the one lets in, the other lets in too; what they say to those
// whom they refuse is compared with PostgreSQL's own words.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../support/ports.ts";
import { makeServerDirectory } from "../support/processes.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";
import { type Account, accountOf } from "./accounts.ts";
import { type Book, type Part, reportTable } from "./book.ts";
import { type Cell, cellOf } from "./cell.ts";
import { describeCell, wordsOf } from "./compare.ts";
import { type Driver, drivers } from "./drivers.ts";
import { type RouterFiles, Site } from "./site.ts";
import type { Outcome } from "./target.ts";

/** Debian keeps PgBouncer where the PATH of an ordinary user does not look. */
const SYSTEM_PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;

/** One set of files and settings, in both programs' words. */
interface Setup {
  readonly name: string;
  /** auth_type, in both; `hba` unless said. */
  readonly type?: "md5" | "scram-sha-256" | "trust";
  readonly ini: Readonly<Record<string, string>>;
  readonly auth: Readonly<Record<string, unknown>>;
  readonly clientTls: "disable" | "allow" | "require" | "verify-ca" | "verify-full";
  readonly cells: readonly Cell[];
}

/** Where PgBouncer and pgsteer let different clients in. */
interface Departure {
  readonly name: string;
  readonly reason: string;
  applies(cell: Cell): boolean;
}

const departures: readonly Departure[] = [];

type Wish = Parameters<typeof cellOf>[1];

const good: Wish[] = [
  { method: "trust", about: "trusted" },
  { method: "password", about: "right password, TLS" },
  { method: "md5", secret: "plain", about: "right password" },
  { method: "md5", secret: "md5", server: "md5", about: "right password" },
  { method: "md5", secret: "scram", server: "scram-sha-256", about: "right password" },
  { method: "scram-sha-256", secret: "plain", about: "right password" },
  { method: "scram-sha-256", secret: "scram", server: "scram-sha-256", about: "right password" },
  { method: "scram-sha-256", secret: "plain", server: "md5", about: "right password" },
  { method: "scram-sha-256", secret: "plain", server: "password", about: "right password" },
  { method: "scram-sha-256", record: "hostssl", about: "right password, hostssl" },
  { method: "scram-sha-256", record: "hostnossl", sslmode: "disable", about: "right password, hostnossl" },
];

const bad: Wish[] = [
  ...(["password", "md5", "scram-sha-256"] as const).flatMap((method): Wish[] => [
    { method, about: "wrong password", password: "wrong" },
    { method, secret: "unknown", about: "unknown user" },
    { method, about: "wrong database", database: "nowhere" },
    { method, about: "wrong password, wrong database", password: "wrong", database: "nowhere" },
    { method, record: "hostssl", sslmode: "disable", about: "TLS missing" },
    { method, record: "hostnossl", about: "TLS refused" },
  ]),
  { method: "md5", secret: "md5", server: "md5", about: "wrong password", password: "wrong" },
  { method: "scram-sha-256", secret: "md5", server: "md5", about: "an md5 hash for SCRAM" },
  { method: "scram-sha-256", secret: "scram", server: "scram-sha-256", about: "wrong password", password: "wrong" },
  { method: "reject", about: "rejected" },
  { method: "none", about: "no record" },
  { method: "trust", secret: "unknown", about: "trusted, but unknown" },
];

const queried: Wish[] = [
  { method: "scram-sha-256", secret: "query", server: "scram-sha-256", about: "asked for" },
  { method: "md5", secret: "query", server: "md5", about: "asked for" },
  { method: "scram-sha-256", secret: "query", server: "scram-sha-256", about: "asked for, wrong", password: "wrong" },
  { method: "md5", secret: "query", server: "md5", about: "asked for, wrong", password: "wrong" },
  { method: "scram-sha-256", secret: "plain", about: "listed all the same" },
  { method: "trust", secret: "query", server: "md5", about: "asked for, though trusted" },
  { method: "scram-sha-256", secret: "unknown", about: "asked for, unknown" },
  { method: "md5", secret: "unknown", about: "asked for, unknown" },
];

const certified: Wish[] = (["its own", "none", "over", "of a stranger", "of another name"] as const).map((shown) => ({
  method: "cert",
  record: "hostssl",
  shown,
  about: `certificate: ${shown}`,
}));

const numbered = (prefix: string, wishes: readonly Wish[]): Cell[] =>
  wishes.map((wish, index) => cellOf(`${prefix}${index + 1}`, wish));

const ASKED_DIRECTLY = "SELECT usename, passwd FROM pg_shadow WHERE usename=$1";
const ASKED_BY_FUNCTION = "SELECT * FROM pgbouncer.user_lookup($1)";
/** As PgBouncer's documentation has it; the role may call it, and read nothing. */
const lookup = `CREATE SCHEMA pgbouncer;
  CREATE FUNCTION pgbouncer.user_lookup(in i_username text, out uname text, out phash text) RETURNS record AS $$
  BEGIN
    SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = i_username INTO uname, phash;
    RETURN;
  END; $$ LANGUAGE plpgsql SECURITY DEFINER;
  CREATE ROLE pgbouncer LOGIN PASSWORD 'bouncer-secret';
  REVOKE ALL ON FUNCTION pgbouncer.user_lookup(text) FROM public, pgbouncer;
  GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
  GRANT EXECUTE ON FUNCTION pgbouncer.user_lookup(text) TO pgbouncer`;

/** The userlist alone: one method for all. */
const byType = (["md5", "scram-sha-256", "trust"] as const).map((type): Setup => {
  const own = [...good, ...bad].filter(({ method, record }) => method === type && record === undefined);
  const prefix = type.replaceAll("-", "");
  return { name: `auth_type ${type}`, type, ini: {}, auth: {}, clientTls: "allow", cells: numbered(prefix, own) };
});

/** What a listener demands of all its clients, whatever the method. */
const demanding = (["disable", "require", "verify-ca"] as const).map((clientTls): Setup => {
  const scram = { method: "scram-sha-256", secret: "scram", server: "scram-sha-256" } as const;
  const own: Wish[] = [
    { ...scram, about: `${clientTls}: TLS` },
    { ...scram, about: `${clientTls}: in clear`, sslmode: "disable" },
    { ...scram, about: `${clientTls}: prefers TLS`, sslmode: "prefer" },
    ...(["its own", "over", "of a stranger", "of another name"] as const).map(
      (shown): Wish => ({ ...scram, shown, about: `${clientTls}: certificate: ${shown}` }),
    ),
  ];
  const cells = numbered(`${clientTls.replace("-", "")}`, own);
  return { name: `client_tls_sslmode ${clientTls}`, type: "scram-sha-256", ini: {}, auth: {}, clientTls, cells };
});

const setups: readonly Setup[] = [
  ...byType,
  ...demanding,
  {
    name: "userlist and HBA file",
    ini: {},
    auth: {},
    clientTls: "allow",
    cells: [...numbered("good", good), ...numbered("bad", bad)],
  },
  {
    name: "certificates",
    ini: {},
    auth: {},
    clientTls: "verify-full",
    cells: numbered("cert", certified),
  },
  {
    name: "auth_query on pg_shadow",
    ini: { auth_user: "asker", auth_query: ASKED_DIRECTLY },
    auth: { user: "asker", query: ASKED_DIRECTLY },
    clientTls: "allow",
    cells: numbered("shadow", queried),
  },
  {
    name: "auth_query by function",
    ini: { auth_user: "pgbouncer", auth_query: ASKED_BY_FUNCTION },
    auth: { user: "pgbouncer", query: ASKED_BY_FUNCTION },
    clientTls: "allow",
    cells: numbered("function", queried),
  },
];

/** Starts PgBouncer with these settings; its port. */
async function startPgBouncer(site: Site, setup: Setup, files: RouterFiles): Promise<number> {
  const name = `pgbouncer-${setups.indexOf(setup)}`;
  const directory = makeServerDirectory(join(site.directory, name));
  const port = await freePort();
  const { server, authority } = site.papers;
  const settings = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    unix_socket_dir: "",
    auth_type: setup.type ?? "hba",
    auth_file: files.userlist,
    ...(setup.type === undefined ? { auth_hba_file: files.hba } : {}),
    pidfile: join(directory, "pgbouncer.pid"),
    pool_mode: "session",
    // Otherwise whoever comes behind a failed login waits.
    server_login_retry: 1,
    client_tls_sslmode: setup.clientTls,
    client_tls_cert_file: server.cert,
    client_tls_key_file: server.key,
    client_tls_ca_file: authority.ca,
    max_client_conn: 500,
    ...setup.ini,
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
  const file = join(directory, "pgbouncer.ini");
  writeFileSync(file, `[databases]\n* = host=127.0.0.1 port=${site.behind.port}\n\n[pgbouncer]\n${lines.join("")}`);
  const running = await site.processes.start("pgbouncer", [file], {
    name,
    cwd: directory,
    asPostgres: true,
    env: { PATH: SYSTEM_PATH },
  });
  const listens = () => /listening on 127\.0\.0\.1/.test(running.tail(50)) || !running.alive();
  await waitFor(listens, { timeoutMs: 15_000, intervalMs: 20, what: "PgBouncer listens" });
  if (!running.alive()) throw new Error(`PgBouncer has ended:\n${running.tail()}`);
  return port;
}

interface Row {
  readonly cell: Cell;
  readonly driver: string;
  readonly postgres: Outcome;
  readonly pgbouncer: Outcome;
  readonly pgsteer: Outcome;
}

async function rowsOf(
  accounts: readonly Account[],
  site: Site,
  ports: { readonly pgbouncer: number; readonly pgsteer: (cell: Cell) => number },
): Promise<Row[]> {
  const rows: Row[] = [];
  const some: readonly Driver[] = drivers.filter(({ name }) => name !== "postgres.js");
  for (const account of accounts) {
    for (const driver of some) {
      const log = (port: number): Promise<Outcome> => driver.login(site.target(account, port));
      rows.push({
        cell: account.cell,
        driver: driver.name,
        postgres: await log(site.asked.port),
        pgbouncer: await log(ports.pgbouncer),
        pgsteer: await log(ports.pgsteer(account.cell)),
      });
    }
  }
  return rows;
}

function settle(book: Book, rows: readonly Row[]): void {
  const met = new Map<string, number>();
  for (const row of rows) {
    if (row.pgbouncer.kind === row.pgsteer.kind) {
      book.pass();
      continue;
    }
    const departure = departures.find(({ applies }) => applies(row.cell));
    if (departure === undefined) {
      const said = `PgBouncer: ${wordsOf(row.pgbouncer)}\n  pgsteer: ${wordsOf(row.pgsteer)}`;
      book.fail(`${describeCell(row)}\n  PostgreSQL: ${wordsOf(row.postgres)}\n  ${said}`);
    } else {
      met.set(departure.name, (met.get(departure.name) ?? 0) + 1);
      book.pass();
    }
  }
  for (const { name } of departures) if (!met.has(name)) book.fail(`a listed departure that is none: ${name}`);
  const shown = departures.map(({ name, reason }) => [name, String(met.get(name) ?? 0), reason]);
  if (shown.length > 0) book.say(reportTable(["not as PgBouncer", "logins", "reason"], shown));
}

/** What each of the three says to those whom it refuses, once per kind. */
function refusals(book: Book, rows: readonly Row[]): void {
  const lines = new Map<string, string[]>();
  for (const { cell, driver, postgres, pgbouncer, pgsteer } of rows) {
    if (driver !== "node-postgres" || (postgres.kind === "in" && pgsteer.kind === "in" && pgbouncer.kind === "in"))
      continue;
    const said = (outcome: Outcome): string => wordsOf(outcome).replaceAll(cell.user, "?");
    lines.set(`${cell.method}, ${cell.about}`, [said(postgres), said(pgbouncer), said(pgsteer)]);
  }
  const head = ["node-postgres", "PostgreSQL", "PgBouncer", "pgsteer"];
  book.say(
    reportTable(
      head,
      [...lines].map(([about, said]) => [about, ...said]),
    ),
  );
}

async function run(book: Book): Promise<void> {
  const site = await Site.start("auth-pgbouncer");
  try {
    const accounts = setups.flatMap(({ cells }) => cells).map(accountOf);
    await site.admit(accounts);
    await queryOnce({ ...site.behind.login, database: "app" }, lookup);
    const read = site.writeFiles("both", () => true, { asker: "asker-secret", pgbouncer: "bouncer-secret" });
    const { server, authority } = site.papers;
    const rows: Row[] = [];
    for (const setup of setups) {
      const pgbouncer = await startPgBouncer(site, setup, read);
      const router = await site.router(`beside-${setups.indexOf(setup)}`, site.ways(), (configuration) => {
        const { type = "hba" } = setup;
        const rules = type === "hba" ? { hba_file: read.hba } : {};
        configuration.auth = { type, file: read.userlist, ...rules, ...setup.auth };
        const files = { cert_file: server.cert, key_file: server.key, ca_file: authority.ca };
        configuration["client_tls"] = { mode: setup.clientTls, ...files };
      });
      const own = accounts.filter(({ cell }) => setup.cells.includes(cell));
      rows.push(...(await rowsOf(own, site, { pgbouncer, pgsteer: (cell) => router.portOf(cell) })));
      await router.pgsteer.stop();
    }
    refusals(book, rows);
    settle(book, rows);
    const asPostgres = (name: "pgbouncer" | "pgsteer"): number =>
      rows.filter((row) => wordsOf(row[name]) === wordsOf(row.postgres)).length;
    book.note = `${rows.length} logins; PostgreSQL's very words: pgsteer ${asPostgres("pgsteer")}, PgBouncer ${asPostgres("pgbouncer")}`;
  } finally {
    await site.remove();
  }
}

export const pgbouncer: Part = { name: "pgbouncer", about: "the same files for PgBouncer and for pgsteer", run };
