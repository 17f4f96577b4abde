// Behind locked doors: etcd and Patroni's REST API with TLS, client certificates, passwords and tokens that are soon over. pgsteer
// follows changes of leader there, has one made itself, and says what is wrong where it is not let in.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { APPLICATION } from "../support/cluster.ts";
import { type Pgsteer, type PgsteerConfiguration, projectRoot, startPgsteer } from "../support/pgsteer.ts";
import { runProgram } from "../support/programs.ts";
import { queryOnce } from "../support/sql.ts";
import { sleep, waitFor } from "../support/time.ts";
import { type Book, type Part, reportTable } from "./book.ts";
import { REST, ROUTER, SecuredCluster } from "./secured-cluster.ts";

const MAIN = process.env["PGSTEER_MAIN"] ?? join(projectRoot, "src", "cli", "main.ts");
const PORT = "SELECT inet_server_port() AS port";

type Section = Record<string, unknown>;

/** The cluster's sections of the configuration, all of them right. */
function sections(cluster: SecuredCluster): { readonly etcd: Section; readonly patroni: Section } {
  const { cert, key } = cluster.router;
  const tls = { ca_file: cluster.authority.ca, cert_file: cert, key_file: key };
  return { etcd: { endpoints: [cluster.etcd], ...ROUTER, ...tls }, patroni: { ...REST, ...tls } };
}

interface Mistake {
  readonly name: string;
  readonly section: "etcd" | "patroni";
  readonly wrong: (cluster: SecuredCluster) => Section;
  /** Settings that are left out. */
  readonly without?: readonly string[];
  /** What `pgsteer check --connect` has to say of it. */
  readonly says: RegExp;
}

const mistakes: readonly Mistake[] = [
  {
    name: "etcd, another authority",
    section: "etcd",
    wrong: ({ stranger }) => ({ ca_file: stranger.ca }),
    says: /etcd https:\S+: .*(certificate|issuer|self.signed)/i,
  },
  {
    name: "etcd, no client certificate",
    section: "etcd",
    wrong: () => ({}),
    without: ["cert_file", "key_file"],
    says: /etcd https:\S+: .*(certificate|handshake|ECONNRESET|closed|connection)/i,
  },
  {
    name: "etcd, wrong password",
    section: "etcd",
    wrong: () => ({ password: "wrong" }),
    says: /etcd https:\S+: .*(authentication failed|invalid user ID or password)/,
  },
  {
    name: "etcd, unknown user",
    section: "etcd",
    wrong: () => ({ user: "nobody" }),
    says: /etcd https:\S+: .*(authentication failed|invalid user ID or password)/,
  },
  {
    name: "Patroni, another authority",
    section: "patroni",
    wrong: ({ stranger }) => ({ ca_file: stranger.ca }),
    says: /Patroni https:\S+: .*(certificate|issuer|self.signed)/i,
  },
  {
    name: "Patroni, no client certificate",
    section: "patroni",
    wrong: () => ({}),
    without: ["cert_file", "key_file"],
    says: /Patroni https:\S+: .*(certificate|handshake|ECONNRESET|closed|alert)/i,
  },
];

const run = (...words: readonly string[]) => runProgram(process.execPath, [MAIN, ...words], { timeoutMs: 120_000 });

/** The port of the PostgreSQL that a write goes to. */
async function writesTo(pgsteer: Pgsteer): Promise<unknown> {
  return (await queryOnce(pgsteer.login("write"), PORT, [], 30_000)).rows[0]?.["port"];
}

async function follow(book: Book, cluster: SecuredCluster, pgsteer: Pgsteer): Promise<void> {
  const first = await cluster.primary();
  book.equal("writes go to the leader", await writesTo(pgsteer), first.port);
  const login = pgsteer.login("write");
  await queryOnce(login, "CREATE TABLE kept (n int)");
  // Longer than any token lives.
  await sleep(5000);
  const { code, stdout, stderr } = await run("switchover", "-c", pgsteer.configurationFile, "--deadline", "20s");
  book.holds(`pgsteer switchover succeeds: ${code} ${stdout}${stderr}`, code === 0);
  const second = await cluster.primary();
  book.holds("there is another leader", second.name !== first.name);
  book.equal("writes go to the new leader", await writesTo(pgsteer), second.port);
  await cluster.replicates(second);
  await cluster.restartEtcd();
  await cluster.replicates(second);
  // And one that nobody told pgsteer of: the key's change is all that it hears, with a token of a new login.
  const words = ["switchover", "demo", "--leader", second.name, "--candidate", first.name, "--force"];
  const file = join(cluster.processes.directory, second.name, "patroni.yml");
  const back = async () => {
    // It ends well also where Patroni has said that it cannot yet.
    if ((await cluster.primary()).name !== first.name) await runProgram("patronictl", ["-c", file, ...words]);
    return (await writesTo(pgsteer)) === first.port;
  };
  await waitFor(back, { timeoutMs: 90_000, intervalMs: 500, what: "writes go to the first leader again" });
  book.pass();
  const topology = await (await fetch(`${pgsteer.httpUrl}/topology`)).text();
  book.holds("the source is connected all the time", /"connected":\s*true/.test(topology));
}

/** Patroni asks for a password where something is to be done: without the right one nothing is. */
async function refuseSwitchover(book: Book, cluster: SecuredCluster, right: PgsteerConfiguration): Promise<void> {
  const configuration = structuredClone(right);
  const demo = configuration.clusters["demo"];
  if (demo !== undefined) demo["patroni"] = { ...sections(cluster).patroni, password: "wrong" };
  const file = join(cluster.processes.directory, "wrong-password.yaml");
  writeFileSync(file, stringify(configuration), { mode: 0o600 });
  const before = await cluster.primary();
  const { code, stdout, stderr } = await run("switchover", "-c", file, "--deadline", "10s");
  book.holds(`with a wrong password of Patroni's nothing is switched: ${code} ${stdout}${stderr}`, code !== 0);
  book.equal("and the leader stays", (await cluster.primary()).name, before.name);
  book.say(`wrong password of Patroni's, pgsteer switchover: ${`${stdout}${stderr}`.trim().split("\n").at(-1)}`);
}

async function tryMistakes(book: Book, cluster: SecuredCluster, right: PgsteerConfiguration): Promise<void> {
  const rows: string[][] = [];
  for (const mistake of mistakes) {
    const configuration = structuredClone(right);
    const demo = configuration.clusters["demo"];
    const section: Section = { ...sections(cluster)[mistake.section], ...mistake.wrong(cluster) };
    for (const key of mistake.without ?? []) delete section[key];
    if (demo !== undefined) demo[mistake.section] = section;
    const file = join(cluster.processes.directory, "mistaken.yaml");
    writeFileSync(file, stringify(configuration), { mode: 0o600 });
    const { code, stdout, stderr } = await run("check", "-c", file, "--connect");
    const line = `${stdout}${stderr}`.split("\n").find((each) => mistake.says.test(each)) ?? null;
    if (code !== 0 && line !== null) book.pass();
    else book.fail(`${mistake.name}: ends with ${code} and says:\n${stdout}${stderr}`);
    rows.push([mistake.name, (line ?? "nothing").trim()]);
  }
  book.say(reportTable(["mistake", "pgsteer check --connect"], rows));
}

async function work(book: Book): Promise<void> {
  const cluster = await SecuredCluster.start("auth-secured");
  try {
    let right: PgsteerConfiguration | null = null;
    const surroundings = { directory: cluster.processes.directory, processes: cluster.processes };
    const pgsteer = await startPgsteer(
      { ...surroundings, scope: "demo", namespace: "/service", etcdEndpoints: [cluster.etcd] },
      {
        configure: (configuration) => {
          Object.assign(configuration.clusters["demo"] ?? {}, sections(cluster));
          right = configuration;
        },
      },
    );
    const checked = await run("check", "-c", pgsteer.configurationFile, "--connect");
    book.holds(`pgsteer check --connect finds nothing wrong: ${checked.stdout}${checked.stderr}`, checked.code === 0);
    await follow(book, cluster, pgsteer);
    if (right !== null) {
      await refuseSwitchover(book, cluster, right);
      await tryMistakes(book, cluster, right);
    }
    book.note = `as ${APPLICATION.user} through two changes of leader; ${mistakes.length} mistakes named`;
  } finally {
    await cluster.remove();
  }
}

export const secured: Part = { name: "secured", about: "TLS and passwords towards etcd and Patroni", run: work };
