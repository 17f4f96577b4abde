// Our reading of HBA files beside PostgreSQL's: random files are taken or refused line by line alike, and random connections are let
// in, refused or asked for the same, in the same words.

import { readFileSync, writeFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import type { AccessRequest } from "../../src/auth/access.ts";
import { HbaRules, readHbaFile } from "../../src/auth/hba.ts";
import { compilePattern } from "../../src/auth/hba-pattern.ts";
import { IdentMaps } from "../../src/auth/ident-map.ts";
import { Authority, type CertificateFiles, handKey } from "../support/authority.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { temporaryServerDirectory } from "../support/processes.ts";
import { psql } from "../support/programs.ts";
import { errorFields, RawClient, startup } from "../support/raw-client.ts";
import { type Connection, connect, query, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const SEED = 20_261_121;
/** Stands first in each file that PostgreSQL loads, so that the test keeps its own way in. */
const OUR_WAY_IN = "host postgres postgres 127.0.0.1/32 trust\n";
const USERS = ["alice", "bob", "all", "Two Words", "replication"];

let postgres: Postgres;
let connection: Connection;
let file = "";

const noFiles = {
  readFile: (path: string): string => {
    throw Object.assign(new Error(path), { code: "ENOENT" });
  },
  listFiles: (): readonly string[] => [],
};
const reading = (text: string) =>
  readHbaFile("/hba", { ...noFiles, readFile: (path) => (path === "/hba" ? text : noFiles.readFile(path)) });

beforeAll(async () => {
  postgres = await startPostgres("hba");
  file = join(postgres.directory, "pg_hba.conf");
  connection = await connect(postgres.login);
  await query(connection, "SET password_encryption = 'md5'");
  for (const user of USERS) {
    await query(connection, `CREATE ROLE "${user}" LOGIN PASSWORD 'x'`);
    await query(connection, `CREATE DATABASE "${user}"`);
  }
});

afterAll(async () => {
  connection?.destroy();
  await postgres?.remove();
});

const ruleRow = z.object({
  line_number: z.number(),
  error: z.string().nullable(),
  type: z.string().nullable(),
  database: z.array(z.string()).nullable(),
  user_name: z.array(z.string()).nullable(),
  auth_method: z.string().nullable(),
});

/** What PostgreSQL makes of a file: a line each, with what it read there, or that it is wrong. */
async function truth(text: string): Promise<string[]> {
  writeFileSync(file, text);
  const columns = "line_number, error, type, database, user_name, auth_method";
  const { rows } = await query(connection, `SELECT ${columns} FROM pg_hba_file_rules ORDER BY line_number`);
  return rows.map((row) => {
    const { line_number, error, type, database, user_name, auth_method } = ruleRow.parse(row);
    const never = error?.includes("cannot match") === true;
    if (error !== null && !never) return `${line_number} wrong`;
    return `${line_number} ${type === "local" ? "local" : "host"} ${database?.join(",")} ${user_name?.join(",")} ${auth_method}`;
  });
}

/** The same of ours. A file with a problem has no rules: its good lines are read again without the others. */
function ours(text: string): string[] {
  const read = reading(text);
  const wrong = read.ok ? [] : read.problems.filter(({ line }) => line > 0).map(({ line }) => line);
  const good = new Set<number>();
  const seen = wrong.map((line) => `${line} wrong`);
  const word = (each: { kind: string; keyword?: string; name?: string }): string => each.keyword ?? each.name ?? "/";
  const words = (each: readonly object[]): string =>
    each.map((one) => word(one as Parameters<typeof word>[0])).join(",");
  for (const { line, content } of records(text)) {
    if (wrong.includes(line) || good.has(line)) continue;
    const alone = reading(content);
    for (const rule of alone.ok ? alone.rules : []) {
      const origin = rule.origin.kind === "local" ? "local" : "host";
      seen.push(`${line} ${origin} ${words(rule.databases)} ${words(rule.users)} ${rule.method}`);
    }
    good.add(line);
  }
  return seen.toSorted((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
}

/** A file's lines, those that go on put together with what they go on in. */
function records(text: string): { line: number; content: string }[] {
  const lines = text.split("\n");
  const found: { line: number; content: string }[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const first = at;
    while (lines[at]?.endsWith("\\") === true && at + 1 < lines.length) {
      at += 1;
      if (lines[at] === "") break;
    }
    found.push({ line: first + 1, content: lines.slice(first, at + 1).join("\n") });
  }
  return found;
}

const name = fc.constantFrom(
  "all",
  "all",
  "all",
  "all",
  '"all"',
  "alice",
  "bob",
  "sameuser",
  '"sameuser"',
  "replication",
  '"replication"',
  '"Two Words"',
  'al"i"ce',
  '"a""b"',
  "a#b",
  '""',
);
const list = fc
  .array(name, { minLength: 1, maxLength: 3 })
  .chain((names) => fc.constantFrom(",", ", ", ",,").map((comma) => names.join(comma)));
const address = fc.constantFrom(
  "all",
  "127.0.0.1/32",
  "127.0.0.0/24",
  "127.0.0.2 255.255.255.255",
  "127.0.0.2/0",
  "127.0.0.3/31",
  "127.0.0.0 255.0.255.1",
  "::1/128",
  "samehost",
  "samenet",
  "127.0.0.1/33",
  "127.0.0.1",
  "127.0.0.1 ::1",
  "127.0.0.1/x",
  "1.2.3.4/8/8",
  "::1/129",
);
const method = fc.constantFrom(
  "trust",
  "reject",
  "md5",
  "scram-sha-256",
  "password",
  "nonsense",
  "trust,reject",
  "",
  "cert",
  "trust map=m",
  "trust x",
  "md5 x=y",
  "trust clientcert=verify-ca",
);
const type = fc.constantFrom("host", "hostnossl", "hostnogssenc", "local", "Host", '"host"', "host,local", "hostx");
const blank = fc.constantFrom(" ", "\t", "  ", " \\\n ");

const line = fc.tuple(
  type,
  list,
  list,
  address,
  method,
  fc.array(blank, { minLength: 4, maxLength: 4 }),
  fc.constantFrom("", " # end", "#end", ",", " \\"),
);
const anyLine = line.map(([kind, databases, users, from, how, gaps, end]) => {
  const words = kind === "local" ? [kind, databases, users, how] : [kind, databases, users, from, how];
  return words.map((word, at) => (at === 0 ? word : `${gaps[(at - 1) % 4]}${word}`)).join("") + end;
});
const rubbish = fc
  .array(fc.constantFrom('"', ",", " ", "a", "all", "host", "#", "\\", "\\\n", "\t", "trust"), { maxLength: 12 })
  .map((parts) => parts.join(""));
const anyFile = fc
  .array(fc.oneof({ weight: 4, arbitrary: anyLine }, { weight: 1, arbitrary: rubbish }), { minLength: 1, maxLength: 6 })
  .map((lines) => `${lines.join("\n")}\n`);

describe("an HBA file", () => {
  test("is read line by line as by PostgreSQL, its mistakes included", async () => {
    let wrong = 0;
    await fc.assert(
      fc.asyncProperty(anyFile, async (text) => {
        const expected = await truth(text);
        wrong += expected.filter((each) => each.endsWith("wrong")).length;
        expect(ours(text)).toEqual(expected);
      }),
      { seed: SEED, numRuns: 1500, endOnFailure: false },
    );
    // Neither all nor nothing is wrong in such files.
    expect(wrong).toBeGreaterThan(500);
  });
});

interface Attempt {
  readonly from: string;
  readonly user: string;
  readonly database: string;
  readonly replication: "physical" | "database" | null;
}

/** PostgreSQL's first word to somebody: a request with its code, or its refusal. */
function firstWord({ from, user, database, replication }: Attempt): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host: "127.0.0.1", port: postgres.port, localAddress: from });
    let seen = Buffer.alloc(0);
    const how = { physical: { replication: "true" }, database: { replication: "database" }, none: {} }[
      replication ?? "none"
    ];
    socket.on("connect", () => socket.write(startup({ user, database, ...how })));
    socket.on("error", reject);
    socket.on("data", (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk]);
      if (seen.length < 9 || seen.length < seen.readInt32BE(1) + 1) return;
      const body = seen.subarray(5, seen.readInt32BE(1) + 1);
      const { C, M } = errorFields(body);
      resolve(seen[0] === 0x45 ? `${C} ${M}` : `asks ${body.readInt32BE(0)}`);
      socket.destroy();
    });
  });
}

const codes: Readonly<Record<string, number>> = { trust: 0, password: 3, md5: 5, "scram-sha-256": 10 };

function ourWord(rules: HbaRules, { from, ...rest }: Attempt): string {
  const request: AccessRequest = { ...rest, address: from, tls: false, certificate: null };
  const decision = rules.decide(request);
  if (decision.kind === "refused") return `${decision.error.sqlstate} ${decision.error.message}`;
  return `asks ${codes[decision.method]}`;
}

const goodAddress = fc.constantFrom(
  "all",
  "127.0.0.1/32",
  "127.0.0.0/24",
  "127.0.0.2 255.255.255.255",
  "127.0.0.3/31",
  "127.0.0.0 255.0.255.1",
  "::1/128",
  "samehost",
  "samenet",
);
const goodMethod = fc.constantFrom("trust", "reject", "md5", "scram-sha-256", "password");
/** Without the beginning of a comment, which takes the rest of its line along. */
const goodList = list.filter((names) => !names.includes("#"));
const goodLine = fc
  .tuple(
    fc.constantFrom("host", "host", "hostnossl", "hostnogssenc", "local"),
    goodList,
    goodList,
    goodAddress,
    goodMethod,
  )
  .map(([kind, databases, users, from, how]) =>
    [kind, databases, users, ...(kind === "local" ? [] : [from]), how].join(" "),
  );
const attempt: fc.Arbitrary<Attempt> = fc.record({
  from: fc.constantFrom("127.0.0.1", "127.0.0.2", "127.0.0.3"),
  user: fc.constantFrom(...USERS),
  database: fc.constantFrom(...USERS, "nowhere"),
  replication: fc.constantFrom(null, null, null, "physical" as const, "database" as const),
});

describe("a connection", () => {
  test("is asked for the same, or refused in the same words, as by PostgreSQL with that file", async () => {
    const outcomes = new Map<string, number>();
    const loadTime = async (): Promise<string> =>
      String((await queryOnce(postgres.login, "SELECT pg_conf_load_time()::text AS at")).rows[0]?.["at"]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(goodLine, { minLength: 1, maxLength: 5 }),
        fc.array(attempt, { minLength: 8, maxLength: 8 }),
        async (lines, attempts) => {
          const text = `${OUR_WAY_IN}${lines.join("\n")}\n`;
          const before = await loadTime();
          writeFileSync(file, text);
          await query(connection, "SELECT pg_reload_conf()");
          await waitFor(async () => (await loadTime()) !== before, {
            timeoutMs: 10_000,
            intervalMs: 5,
            what: "the file is loaded",
          });
          const read = reading(text);
          if (!read.ok) throw new Error(JSON.stringify(read.problems));
          const rules = new HbaRules(read.rules, {
            maps: new IdentMaps([]),
            allowClearText: true,
            ownAddresses: () => ["127.0.0.1/8", "::1/128"],
          });
          for (const each of attempts) {
            const word = await firstWord(each);
            const kind = word.replace(/ (for|from) .*/, "");
            outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1);
            expect(`${JSON.stringify(each)} ${ourWord(rules, each)}`).toBe(`${JSON.stringify(each)} ${word}`);
          }
        },
      ),
      { seed: SEED, numRuns: 40, endOnFailure: true },
    );
    console.log([...outcomes].map(([kind, count]) => `${count} × ${kind}`).join(", "));
    expect(outcomes.size).toBeGreaterThanOrEqual(7);
  });
});

const piece = fc.constantFrom(
  ...[
    "a",
    "b",
    "ab",
    "_",
    "7",
    ".",
    "^",
    "$",
    "*",
    "+",
    "?",
    "*?",
    "+?",
    "??",
    "{2}",
    "{0,1}",
    "{1,}",
    "{,2}",
    "{3,1}",
    "{",
    "}",
  ],
  ...[
    "(",
    ")",
    "(a|b)",
    "(?:ab)",
    "(a*)",
    "|",
    "[ab]",
    "[^a]",
    "[a-c]",
    "[]a]",
    "[a-]",
    "[[:alpha:]]",
    "[[:digit:]_]",
    "[[:nope:]]",
    "[b-a]",
    "[",
  ],
  ...["\\d", "\\w", "\\S", "\\y", "\\m", "\\A", "\\Z", "\\.", "\\$", "\\", "\\x61", "[\\d]", "ä", "-", "]", "\\t"],
);
const expression = fc.array(piece, { minLength: 1, maxLength: 7 }).map((parts) => parts.join(""));
const subject = fc
  .array(fc.constantFrom("a", "b", "ab", "7", "_", "-", "ä", ".", " "), { maxLength: 6 })
  .map((parts) => parts.join(""));
const found = z.object({ found: z.boolean() });

describe("a regular expression", () => {
  test("stands for the names that it stands for in PostgreSQL, and is refused where PostgreSQL refuses it", async () => {
    const counts = { same: 0, wrong: 0, ours: 0 };
    await fc.assert(
      fc.asyncProperty(expression, fc.array(subject, { minLength: 6, maxLength: 6 }), async (pattern, names) => {
        const compiled = compilePattern(pattern);
        const matches =
          'SELECT name ~ $2 COLLATE "C" AS found FROM unnest($1::text[]) WITH ORDINALITY AS n (name, place) ORDER BY place';
        const answer = await query(connection, matches, [names, pattern]).catch((error: unknown) => String(error));
        if (typeof answer === "string") {
          expect(answer).toContain("invalid regular expression");
          expect(compiled).toMatchObject({ ok: false });
          counts.wrong += 1;
          return;
        }
        // What we do not know we say; a wrong answer there is none.
        if (!compiled.ok) {
          counts.ours += 1;
          expect(compiled.message).toMatch(/not understood|repeats a repetition|repeats something that has no length/);
          return;
        }
        counts.same += 1;
        expect(names.map((each) => compiled.match(each) !== null)).toEqual(
          answer.rows.map((row) => found.parse(row).found),
        );
      }),
      { seed: SEED, numRuns: 1500 },
    );
    console.log(`${counts.same} alike, ${counts.wrong} refused by both, ${counts.ours} refused by us alone`);
    expect(counts.same).toBeGreaterThan(400);
    expect(counts.wrong).toBeGreaterThan(100);
  });
});

describe("a login", () => {
  /** The same rules in PostgreSQL, and in a pgsteer in front of another one, which trusts it. */
  const rules = [
    "hostssl all alice 127.0.0.1/32 cert",
    "hostssl all mapped 127.0.0.1/32 cert map=corp",
    "hostssl all dn 127.0.0.1/32 cert clientname=DN map=corp",
    "hostssl all both 127.0.0.1/32 scram-sha-256 clientcert=verify-full",
    "hostssl all anyca 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
    "hostssl all trusting 127.0.0.1/32 trust clientcert=verify-full",
    "hostssl all old,bob 127.0.0.1/32 md5",
    "hostnossl all clear 127.0.0.1/32 scram-sha-256",
    "host postgres bob 127.0.0.1/32 trust",
    "host all gone 127.0.0.1/32 reject",
  ];
  const maps = ['corp "/^CN=([a-z]+),O=Corp$" \\1', "corp alice mapped"];
  const roles = ["alice", "mapped", "dn", "both", "anyca", "trusting", "old", "clear", "bob", "gone"];
  let truth: Postgres;
  let backend: Postgres;
  let pgsteer: Pgsteer;
  let authority: Authority;
  const certificates = new Map<string, CertificateFiles>();

  beforeAll(async () => {
    const directory = temporaryServerDirectory("hba-login");
    authority = await Authority.found(join(directory, "ca"));
    const stranger = await Authority.found(join(directory, "stranger"));
    for (const [name, subject] of [["server"], ["alice"], ["both"], ["trusting"], ["dn", "/O=Corp/CN=dn"]]) {
      if (name === undefined) continue;
      certificates.set(name, await authority.issue({ name, ...(subject === undefined ? {} : { subject }) }));
    }
    certificates.set("eve", await stranger.issue({ name: "eve", subject: "/CN=alice" }));
    const server = certificates.get("server");
    if (server === undefined) throw new Error("no certificate");
    const ours = join(directory, "ours.key");
    writeFileSync(ours, readFileSync(server.key), { mode: 0o600 });
    handKey(server);
    const ssl = { ssl: "on", ssl_cert_file: server.cert, ssl_key_file: server.key, ssl_ca_file: authority.ca };
    const way = ["host all postgres 127.0.0.1/32 trust"];
    backend = await startPostgres("hba-backend");
    truth = await startPostgres("hba-truth", [...way, ...rules], { parameters: ssl, ident: maps });
    for (const postgres of [truth, backend]) {
      for (const role of roles) {
        const encryption = role === "old" || role === "bob" ? "md5" : "scram-sha-256";
        await queryOnce(
          postgres.login,
          `SET password_encryption = '${encryption}'; CREATE ROLE "${role}" LOGIN PASSWORD '${role}'`,
        );
      }
    }
    await queryOnce(backend.login, "CREATE ROLE pgsteer LOGIN IN ROLE pg_monitor");
    writeFileSync(join(directory, "hba.conf"), `${rules.join("\n")}\n`);
    writeFileSync(join(directory, "ident.conf"), `${maps.join("\n")}\n`);
    pgsteer = await startPgsteer(
      { directory, processes: backend.processes },
      {
        users: Object.fromEntries(roles.map((role) => [role, role])),
        configure: (configuration) => {
          const probe = configuration.clusters["demo"]?.["probe"];
          configuration.clusters["demo"] = {
            source: "static",
            static: { hosts: [`127.0.0.1:${backend.port}`] },
            probe,
          };
          configuration.auth = { ...configuration.auth, type: "hba", hba_file: "hba.conf", ident_file: "ident.conf" };
          configuration["client_tls"] = {
            mode: "allow",
            cert_file: server.cert,
            key_file: ours,
            ca_file: authority.ca,
          };
        },
      },
    );
  });

  afterAll(async () => {
    await pgsteer?.stop();
    await backend?.remove();
    await truth?.remove();
  });

  interface Try {
    readonly user: string;
    readonly certificate?: string;
    readonly tls?: boolean;
    readonly password?: string;
    readonly database?: string;
  }

  /** What psql says: `ok`, or the error without the port. */
  async function outcome(
    port: number,
    { user, certificate, tls = true, password = user, database = "postgres" }: Try,
  ): Promise<string> {
    const files = certificate === undefined ? undefined : certificates.get(certificate);
    const env = {
      PGSSLMODE: tls ? "require" : "disable",
      PGSSLCERT: files?.cert ?? "/nowhere",
      PGSSLKEY: files?.key ?? "/nowhere",
    };
    const { code, stderr } = await psql({ host: "127.0.0.1", port, user, password, database }, ["-c", "SELECT 1"], {
      env,
    });
    return code === 0 ? "ok" : stderr.replaceAll(/\s+/g, " ").replaceAll(String(port), "PORT").trim();
  }

  test.each<[Try, RegExp]>([
    [{ user: "alice", certificate: "alice" }, /^ok$/],
    [{ user: "alice" }, /connection requires a valid client certificate$/],
    [{ user: "alice", certificate: "both" }, /certificate authentication failed for user "alice"$/],
    [
      { user: "alice", tls: false },
      /no pg_hba.conf entry for host "127.0.0.1", user "alice", database "postgres", no encryption$/,
    ],
    [{ user: "mapped", certificate: "alice" }, /^ok$/],
    [{ user: "mapped", certificate: "both" }, /certificate authentication failed/],
    [{ user: "dn", certificate: "dn" }, /^ok$/],
    [{ user: "dn", certificate: "alice" }, /certificate authentication failed/],
    [{ user: "both", certificate: "both" }, /^ok$/],
    [{ user: "both", certificate: "both", password: "wrong" }, /password authentication failed for user "both"$/],
    [{ user: "both", certificate: "alice" }, /password authentication failed for user "both"$/],
    [{ user: "both" }, /connection requires a valid client certificate$/],
    [{ user: "anyca", certificate: "alice" }, /^ok$/],
    [{ user: "anyca" }, /connection requires a valid client certificate$/],
    [{ user: "trusting", certificate: "trusting" }, /^ok$/],
    [{ user: "trusting", certificate: "alice" }, /"trust" authentication failed for user "trusting"$/],
    [{ user: "old" }, /^ok$/],
    [{ user: "old", password: "wrong" }, /password authentication failed/],
    [{ user: "clear", tls: false }, /^ok$/],
    [{ user: "clear" }, /no pg_hba.conf entry .* SSL encryption$/],
    [{ user: "bob", tls: false }, /^ok$/],
    [{ user: "bob", tls: false, database: "other" }, /no pg_hba.conf entry/],
    [
      { user: "gone" },
      /pg_hba.conf rejects connection for host "127.0.0.1", user "gone", database "postgres", SSL encryption$/,
    ],
    [{ user: "gone", tls: false }, /rejects connection .* no encryption$/],
    [{ user: "nobody" }, /no pg_hba.conf entry/],
  ])("as %o ends as in PostgreSQL: %s", async (attempt, expected) => {
    const said = await outcome(truth.port, attempt);
    expect(said).toMatch(expected);
    expect(await outcome(pgsteer.ports.write, attempt)).toBe(said);
  });

  test("with a stranger's certificate counts as without one, where PostgreSQL breaks off the handshake", async () => {
    const attempt = { user: "alice", certificate: "eve" };
    expect(await outcome(truth.port, attempt)).toMatch(/SSL error: .* alert/);
    expect(await outcome(pgsteer.ports.write, attempt)).toMatch(/connection requires a valid client certificate$/);
  });

  test("follows the rules of the file as it is by then; one with a mistake, or half of one, changes nothing", async () => {
    const file = join(dirname(pgsteer.configurationFile), "hba.conf");
    const logged = (words: string) => readFileSync(pgsteer.log, "utf8").split(words).length - 1;
    const change = async (text: string, words: string): Promise<void> => {
      const before = logged(words);
      writeFileSync(file, text);
      await waitFor(() => logged(words) > before, { timeoutMs: 20_000, intervalMs: 20, what: words });
    };
    const staying = await RawClient.login({
      host: "127.0.0.1",
      port: pgsteer.ports.write,
      user: "clear",
      password: "clear",
      database: "postgres",
    });
    const gone = { user: "gone", tls: false };
    await change(`${rules.join("\n")}\nhost all +gone all trust\n`, "cannot be used");
    expect(logged("hba.conf:11 has +gone")).toBe(1);
    expect(await outcome(pgsteer.ports.write, gone)).toMatch(/rejects connection/);
    await change("host all gone all trust\n", "are in force");
    expect(await outcome(pgsteer.ports.write, gone)).toBe("ok");
    expect(await outcome(pgsteer.ports.write, { user: "clear", tls: false })).toMatch(/no pg_hba.conf entry/);
    expect(await staying.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
    staying.destroy();
  });
});
