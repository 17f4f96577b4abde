// What the clients of a run do, over npm's pg: one operation each, deciding at the message after which it may have happened.

import { z } from "zod";
import { sleep } from "../support/time.ts";
import type { Attempt } from "./attempt.ts";
import type { Behaviour, Part, Session } from "./client.ts";
import { ACCOUNTS, RETURNED } from "./tables.ts";

const INSERT = `INSERT INTO register (op, client, value) VALUES ($1, $2, $3) RETURNING ${RETURNED}`;
const LONG_MS = { min: 200, max: 2500 } as const;

const sum = z.object({ total: z.coerce.number(), accounts: z.coerce.number() });

function registerRow({ actor }: Session, attempt: Attempt): readonly unknown[] {
  return [attempt.id, actor.client, attempt.value];
}

async function commit(session: Session, attempt: Attempt): Promise<void> {
  session.alive();
  attempt.decides();
  const { command } = await session.query("COMMIT");
  if (command !== "COMMIT") throw new CommitRefused(command);
}

/** PostgreSQL's answer to the COMMIT of a failed transaction: an error by another name. */
class CommitRefused extends Error {
  readonly severity = "ERROR";
  readonly code = "ROLLBACK";

  constructor(command: string) {
    super(`COMMIT was answered by ${command}`);
  }
}

const register: Behaviour = async (session, attempt) => {
  session.alive();
  attempt.decides();
  const { rows } = await session.query(INSERT, registerRow(session, attempt));
  attempt.wrote(rows[0]?.["placed"]);
};

const prepared: Behaviour = async (session, attempt) => {
  session.alive();
  attempt.decides();
  const { rows } = await session.query(INSERT, registerRow(session, attempt), "append");
  attempt.wrote(rows[0]?.["placed"]);
};

/** A transaction that is open for a while, as switchovers meet them. */
const long: Behaviour = async (session, attempt) => {
  await session.query("BEGIN");
  const { rows } = await session.query(INSERT, registerRow(session, attempt));
  attempt.wrote(rows[0]?.["placed"]);
  await sleep(session.random.between(LONG_MS.min, LONG_MS.max));
  await commit(session, attempt);
};

/** On a session-mode listener: now a statement by itself, now a transaction. */
const mixed: Behaviour = (session, attempt) =>
  session.random.chance(0.3) ? long(session, attempt) : register(session, attempt);

const transfer: Behaviour = async (session, attempt) => {
  const from = session.random.between(1, ACCOUNTS);
  const to = ((from + session.random.below(ACCOUNTS - 1)) % ACCOUNTS) + 1;
  const value = session.random.between(1, 20);
  attempt.value = value;
  await session.query(session.random.chance(0.3) ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN");
  const move = "UPDATE accounts SET balance = balance + $2 WHERE account = $1";
  // Always in the same order, so that no two of them wait for each other.
  const moves =
    from < to
      ? ([
          [from, -value],
          [to, value],
        ] as const)
      : ([
          [to, value],
          [from, -value],
        ] as const);
  for (const each of moves) await session.query(move, each, session.random.chance(0.5) ? "move" : undefined);
  const { rows } = await session.query(
    `INSERT INTO transfers (op, client, payer, payee, value) VALUES ($1, $2, $3, $4, $5) RETURNING ${RETURNED}`,
    [attempt.id, session.actor.client, from, to, value],
  );
  attempt.wrote(rows[0]?.["placed"]);
  await commit(session, attempt);
};

const SUM = "SELECT sum(balance) AS total, count(*) AS accounts FROM accounts";
/** Account by account, so that only a snapshot of its own makes it add up. */
const read: Behaviour = async (session, attempt) => {
  if (session.random.chance(0.5)) {
    const { rows } = await session.query(SUM, [], session.random.chance(0.5) ? "sum" : undefined);
    attempt.value = sum.parse(rows[0]).total;
    return;
  }
  await session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  let total = 0;
  for (const low of [1, ACCOUNTS / 2 + 1]) {
    const { rows } = await session.query(`${SUM} WHERE account BETWEEN $1 AND $2`, [low, low + ACCOUNTS / 2 - 1]);
    total += sum.parse(rows[0]).total;
  }
  await session.query("COMMIT");
  attempt.value = total;
};

export const parts = {
  register: { kind: "register", act: register },
  prepared: { kind: "prepared", act: prepared },
  long: { kind: "long", act: long },
  session: { kind: "session", act: mixed },
  transfer: { kind: "transfer", act: transfer },
  read: { kind: "read", act: read },
} as const satisfies Record<string, Part>;
