// The one table of errors that clients, operators and the log see. Codes are ours; SQLSTATEs are the ones that PostgreSQL
// itself would send in that situation (https://www.postgresql.org/docs/current/errcodes-appendix.html); texts follow its
// style guide: lower case, no final stop, DETAIL and HINT as sentences.

interface ErrorRow {
  readonly sqlstate: string;
  /** FATAL ends the connection, ERROR ends the statement. */
  readonly severity: "ERROR" | "FATAL";
  /** True where doing the same again, on a new connection or in a new transaction, can succeed without a person's help. */
  readonly retryable: boolean;
}

const row = (sqlstate: string, severity: "ERROR" | "FATAL", retryable: boolean): ErrorRow => ({
  sqlstate,
  severity,
  retryable,
});

/** Code → SQLSTATE, severity, retryable. */
export const errorTable = {
  too_many_clients: row("53300", "FATAL", true),
  too_many_from_address: row("53300", "FATAL", true),
  too_many_logins: row("53300", "FATAL", true),
  too_many_failures: row("53300", "FATAL", true),
  login_timeout: row("57014", "FATAL", true),
  protocol_violation: row("08P01", "FATAL", false),
  proxy_header_invalid: row("08P01", "FATAL", false),
  tls_handshake_failed: row("08P01", "FATAL", false),
  unsupported_protocol: row("0A000", "FATAL", false),
  invalid_authorization: row("28000", "FATAL", false),
  password_failed: row("28P01", "FATAL", false),
  auth_unavailable: row("57P03", "FATAL", true),
  password_unconfirmed: row("57P03", "FATAL", true),
  unknown_database: row("3D000", "FATAL", false),
  feature_not_supported: row("0A000", "FATAL", false),
  invalid_parameter: row("22023", "FATAL", false),
  session_state_refused: row("0A000", "ERROR", false),
  query_canceled: row("57014", "ERROR", true),
  query_timeout: row("57014", "FATAL", false),
  transaction_timeout: row("25P04", "FATAL", true),
  idle_transaction_timeout: row("25P03", "FATAL", true),
  query_wait_timeout: row("57P03", "FATAL", true),
  wait_queue_full: row("53300", "FATAL", true),
  read_only_cluster: row("25006", "FATAL", false),
  statement_exists: row("42P05", "ERROR", false),
  cached_plan_changed: row("0A000", "ERROR", true),
  leader_changed: row("40001", "ERROR", true),
  in_failed_transaction: row("25P02", "ERROR", false),
  read_interrupted: row("40001", "ERROR", true),
  outcome_unknown: row("08007", "FATAL", false),
  terminated: row("57P01", "FATAL", true),
  shutting_down: row("57P01", "FATAL", true),
  server_login_failed: row("08001", "FATAL", true),
  server_error: row("XX000", "FATAL", false),
} as const satisfies Record<string, ErrorRow>;

/** Name of a row of the error table. */
export type ErrorCode = keyof typeof errorTable;

interface ErrorExtras {
  readonly detail?: string;
  readonly hint?: string;
  readonly cause?: unknown;
  /** The SQLSTATE that a server gave, when its own words are passed on. */
  readonly sqlstate?: string;
}

/** An operating failure that crosses a module: one row of the table, in words for the person who meets it. */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
  readonly code: ErrorCode;
  readonly sqlstate: string;
  readonly severity: "ERROR" | "FATAL";
  readonly retryable: boolean;
  readonly detail: string | null;
  readonly hint: string | null;

  constructor(code: ErrorCode, message: string, extras: ErrorExtras = {}) {
    super(message, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.code = code;
    this.sqlstate = extras.sqlstate ?? errorTable[code].sqlstate;
    this.severity = errorTable[code].severity;
    this.retryable = errorTable[code].retryable;
    this.detail = extras.detail ?? null;
    this.hint = extras.hint ?? null;
  }
}

/** What every statement gets in a failed transaction. */
export function inFailedTransaction(): ProxyError {
  return new ProxyError(
    "in_failed_transaction",
    "current transaction is aborted, commands ignored until end of transaction block",
  );
}
