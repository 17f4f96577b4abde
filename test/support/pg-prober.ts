// A small SqlProber over npm's `pg`, for tests of discovery that do without the pool: one connection per member, kept open.

import { z } from "zod";
import { lsn, parseLsn } from "../../src/core/units.ts";
import type { ProbeTarget, SqlEvidence, SqlProber } from "../../src/discovery/feed.ts";
import type { MemberName } from "../../src/discovery/topology.ts";
import { type Connection, connect, type Login, query } from "./sql.ts";

// One statement whatever the role: the functions of the other role would raise an error, so each has its branch.
const STATEMENT = `
  SELECT recovery,
    CASE WHEN recovery THEN COALESCE(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END::text AS position,
    CASE WHEN recovery
      THEN COALESCE((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
        (SELECT timeline_id FROM pg_control_checkpoint()))
      ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline,
    CASE WHEN recovery THEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') END AS streaming,
    (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier
  FROM (SELECT pg_is_in_recovery() AS recovery) AS role`;

const row = z.object({
  recovery: z.boolean(),
  position: z.string(),
  timeline: z.number().int(),
  streaming: z.boolean().nullable(),
  system_identifier: z.string(),
});

/** Probes as `login`; `probes` counts the calls by member. */
export class PgProber implements SqlProber {
  readonly probes = new Map<MemberName, number>();
  readonly #login: Omit<Login, "host" | "port">;
  readonly #connections = new Map<MemberName, Connection>();

  constructor(login: Omit<Login, "host" | "port">) {
    this.#login = login;
  }

  async probe({ member, host, port }: ProbeTarget, timeoutMs: number): Promise<SqlEvidence> {
    this.probes.set(member, (this.probes.get(member) ?? 0) + 1);
    try {
      let connection = this.#connections.get(member);
      if (connection === undefined || !connection.open()) {
        connection = await connect({ ...this.#login, host, port }, timeoutMs);
        this.#connections.set(member, connection);
      }
      const { rows } = await query(connection, STATEMENT, [], timeoutMs);
      const answer = row.parse(rows[0]);
      return {
        ok: true,
        inRecovery: answer.recovery,
        timeline: answer.timeline,
        position: parseLsn(answer.position) ?? lsn(0),
        streaming: answer.streaming,
        systemIdentifier: answer.system_identifier,
      };
    } catch (error) {
      this.forget(member);
      return { ok: false, reason: error instanceof Error ? error.message : String(error) };
    }
  }

  forget(member: MemberName): void {
    this.#connections.get(member)?.destroy();
    this.#connections.delete(member);
  }

  close(): void {
    for (const member of [...this.#connections.keys()]) this.forget(member);
  }
}
