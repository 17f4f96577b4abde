// The tables of a run. Every row names the operation that made it and says by itself where it was made; nothing is unique, so that
// what is done twice is there twice.

import { z } from "zod";
import { APPLICATION, type Cluster } from "../support/cluster.ts";
import { queryOnce } from "../support/sql.ts";
import type { Contents, Place } from "./history.ts";

export const ACCOUNTS = 20;
export const BALANCE = 1000;

export const TIMELINE = "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int";

/** Where the present timeline began: the last line of its history file, which only a superuser may read; 0 for the first. */
const ORIGIN = `
  CREATE FUNCTION origin() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT coalesce(max((line[1]::pg_lsn - '0/0'::pg_lsn)::bigint), 0)
      FROM regexp_matches(
        coalesce(pg_read_file('pg_wal/' || lpad(upper(to_hex(${TIMELINE})), 8, '0') || '.history', 0, 1000000, true), ''),
        '^\\d+\\t([0-9A-F]+/[0-9A-F]+)', 'gn') AS line
  $$`;

/** Port, timeline and position of the server at the moment of the row; the commit comes behind it. */
const WHERE = `
  port int NOT NULL DEFAULT inet_server_port(),
  timeline int NOT NULL DEFAULT ${TIMELINE},
  origin bigint NOT NULL DEFAULT origin(),
  lsn bigint NOT NULL DEFAULT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`;

/** The columns by which a row is told apart, for RETURNING, in one text; `placed` reads it. */
export const RETURNED = "concat_ws(',', op, port, timeline, origin, lsn) AS placed";

/** Reads `RETURNED`: the operation that the answer names, and the place. */
export function placed(text: unknown): { readonly op: number; readonly place: Place } {
  const words = z.string().parse(text).split(",").map(Number);
  const [op, port, timeline, origin, lsn] = z.tuple([z.int(), z.int(), z.int(), z.int(), z.int()]).parse(words);
  return { op, place: { port, timeline, origin, lsn } };
}

export async function createTables(cluster: Cluster): Promise<void> {
  const leader = await cluster.requireLeader();
  await cluster.sql(leader, ORIGIN, [], APPLICATION.database);
  await queryOnce(
    cluster.login(leader, APPLICATION),
    `CREATE TABLE register (op bigint NOT NULL, client int NOT NULL, value int NOT NULL, ${WHERE});
     CREATE TABLE transfers (op bigint NOT NULL, client int NOT NULL, payer int NOT NULL, payee int NOT NULL, value int NOT NULL, ${WHERE});
     CREATE TABLE accounts (account int PRIMARY KEY, balance int NOT NULL) WITH (fillfactor = 50);
     INSERT INTO accounts SELECT n, ${BALANCE} FROM generate_series(1, ${ACCOUNTS}) n;
     CREATE TABLE watched (member text PRIMARY KEY, beats bigint NOT NULL);
     INSERT INTO watched SELECT 'node' || n, 0 FROM generate_series(1, 9) n`,
  );
}

const whereRow = { port: z.number(), timeline: z.number(), origin: z.coerce.number(), lsn: z.coerce.number() };
const registerRow = z.object({ op: z.coerce.number(), client: z.number(), value: z.number(), ...whereRow });
const transferRow = registerRow.extend({ payer: z.number(), payee: z.number() });
const accountRow = z.object({ account: z.number(), balance: z.number() });
const timelineRow = z.object({ timeline: z.number(), history: z.string().nullable() });

const inBytes = (lsn: string): number => {
  const [high = "0", low = "0"] = lsn.split("/");
  return Number.parseInt(high, 16) * 2 ** 32 + Number.parseInt(low, 16);
};

/** What the leader holds, and how its timelines came to be. */
export async function readContents(cluster: Cluster): Promise<Contents> {
  const leader = await cluster.requireLeader();
  const rows = async (text: string) =>
    (await queryOnce(cluster.login(leader, APPLICATION), text, [], 60_000)).rows as unknown;
  const place = (row: z.output<typeof registerRow>): Place => {
    const { port, timeline, origin, lsn } = row;
    return { port, timeline, origin, lsn };
  };
  const answer = await cluster.sql(
    leader,
    `SELECT t AS timeline, pg_read_file('pg_wal/' || lpad(upper(to_hex(t)), 8, '0') || '.history', 0, 1000000, true) AS history
       FROM (SELECT ${TIMELINE} AS t) AS present`,
  );
  const { timeline, history } = timelineRow.parse(answer.rows[0]);
  const forks = (history ?? "").split("\n").flatMap((line) => {
    const match = /^(\d+)\t([0-9A-F]+\/[0-9A-F]+)/.exec(line);
    return match?.[1] && match[2] ? [{ timeline: Number(match[1]), lsn: inBytes(match[2]) }] : [];
  });
  const register = z.array(registerRow).parse(await rows("SELECT * FROM register"));
  const transfers = z.array(transferRow).parse(await rows("SELECT * FROM transfers"));
  return {
    type: "contents",
    timeline,
    forks,
    register: register.map((row) => ({ op: row.op, client: row.client, value: row.value, place: place(row) })),
    transfers: transfers.map((row) => {
      const { op, client, value, payer: from, payee: to } = row;
      return { op, client, value, from, to, place: place(row) };
    }),
    balances: z.array(accountRow).parse(await rows("SELECT account, balance FROM accounts ORDER BY account")),
  };
}
