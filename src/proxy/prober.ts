// Discovery's questions, asked over the pool's own kind of connection: whether a member is in recovery, how far it is, on which
// timeline, and whether it streams.

import type { ScramDerivations } from "../auth/scram.ts";
import type { Secret } from "../auth/secret.ts";
import type { ServerTls } from "../auth/tls-options.ts";
import type { Clock } from "../core/clock.ts";
import { parseLsn } from "../core/units.ts";
import type { ProbeTarget, SqlEvidence, SqlProber } from "../discovery/feed.ts";
import type { MemberName } from "../discovery/topology.ts";
import { ProbeConnection } from "../pool/probe-connection.ts";

/** How probes log in. */
export interface ProberOptions {
  readonly user: string;
  readonly database: string;
  readonly secret: Secret | null;
  readonly tls: ServerTls;
  readonly random: (bytes: number) => Buffer;
  readonly derivations: ScramDerivations;
}

// A primary's timeline is that of the file it writes now: the control file tells of it only after the next checkpoint.
const QUESTION = `SELECT r.recovering::text,
  CASE WHEN r.recovering THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END::text,
  CASE WHEN r.recovering
    THEN coalesce(w.received_tli, (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()))::text
    ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int::text END,
  (w.status = 'streaming')::text,
  (SELECT system_identifier FROM pg_catalog.pg_control_system())::text
FROM (SELECT pg_catalog.pg_is_in_recovery() AS recovering) r
LEFT JOIN pg_catalog.pg_stat_wal_receiver w ON r.recovering`;

/** One connection per member, kept open. Closing is final. */
export class PoolProber implements SqlProber {
  readonly #clock: Clock;
  #options: ProberOptions;
  readonly #connections = new Map<MemberName, { who: string; target: ProbeTarget; connection: ProbeConnection }>();

  constructor(clock: Clock, options: ProberOptions) {
    this.#clock = clock;
    this.#options = options;
  }

  /** New connections follow the new settings; one that works stays, unless another role or database is to be asked. */
  reconfigure(options: ProberOptions): void {
    this.#options = options;
    for (const { target, connection } of this.#connections.values()) connection.reconfigure(loginTo(target, options));
  }

  async probe(target: ProbeTarget, timeoutMs: number): Promise<SqlEvidence> {
    const answer = await this.#connectionTo(target).ask(QUESTION, timeoutMs);
    if (!answer.ok) return answer;
    const [recovering, position, timeline, streaming, systemIdentifier] = answer.row;
    const inRecovery = recovering === "true";
    const lsn = position === null || position === undefined ? null : parseLsn(position);
    if (lsn === null || systemIdentifier == null) return { ok: false, reason: "it has replayed nothing yet" };
    return {
      ok: true,
      inRecovery,
      position: lsn,
      timeline: Number(timeline),
      streaming: inRecovery ? streaming === "true" : null,
      systemIdentifier,
    };
  }

  #connectionTo(target: ProbeTarget): ProbeConnection {
    const { member, host, port } = target;
    const { user, database } = this.#options;
    const who = JSON.stringify([host, port, user, database]);
    const known = this.#connections.get(member);
    if (known?.who === who) return known.connection;
    known?.connection.close();
    const connection = new ProbeConnection(this.#clock, loginTo(target, this.#options));
    this.#connections.set(member, { who, target, connection });
    return connection;
  }

  forget(member: MemberName): void {
    this.#connections.get(member)?.connection.close();
    this.#connections.delete(member);
  }

  close(): void {
    for (const member of [...this.#connections.keys()]) this.forget(member);
  }
}

const loginTo = ({ member, host, port }: ProbeTarget, options: ProberOptions) => ({
  ...options,
  endpoint: { member, host, port },
});
