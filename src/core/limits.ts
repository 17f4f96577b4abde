// Every bound that is not a setting, with the reason for its value. A length is checked against these before anything is
// allocated for it.

/** Startup packets: PostgreSQL's MAX_STARTUP_PACKET_LENGTH. Longer: 08P01, connection closed. */
export const STARTUP_PACKET_BYTES_MAX = 10_000;
/** Password, SASLInitialResponse and SASLResponse messages: PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH. */
export const AUTH_MESSAGE_BYTES_MAX = 65_535;
/** Any message after login: PostgreSQL's own limit (PQ_LARGE_MESSAGE_LIMIT, MaxAllocSize - 1). Bodies are never buffered whole. */
export const MESSAGE_BYTES_MAX = 0x3fff_fffe;
/** Frontend messages that have no long form (PostgreSQL's PQ_SMALL_MESSAGE_LIMIT): Close, Describe, Execute, Flush, Sync, Terminate, CopyDone. */
export const SMALL_MESSAGE_BYTES_MAX = 10_000;
/** Backend messages that are read as a whole (ParameterStatus, ErrorResponse, …); an ErrorResponse can carry a whole query. */
export const WHOLE_BACKEND_MESSAGE_BYTES_MAX = 1_048_576;
/** What a client sent since its exchange was last empty, kept so that a failure can say what was in flight. More: treated as unknown. */
export const FLIGHT_BYTES_MAX = 65_536;
/** Requests that one client may have outstanding on a server before reading from it pauses. One byte each. */
export const EXCHANGE_ENTRIES_MAX = 65_536;
/** Distinct sets of startup settings whose reported parameters are remembered per pool; the least recently used goes first. */
export const WELCOME_PROFILES_MAX = 256;
/** Times a statement that was refused before it executed is sent again elsewhere. */
export const RESEND_MAX = 3;
/** First wait after a failed server login; doubles up to `server_login_retry`. Short, because a promotion takes a fraction of a second. */
export const LOGIN_RETRY_INITIAL_MS = 10;
/** A ROLLBACK or reset query that takes longer costs the server its connection. */
export const RESET_TIMEOUT_MS = 5_000;
/** What a server connection in clear reads into: the first size, and that after a read which filled it. */
export const RECEIVE_BYTES_MIN = 8_192;
export const RECEIVE_BYTES_MAX = 65_536;
/** After our last words a client has this long to close its side. */
export const LINGER_MS = 5_000;
/** A cancel request that a server has not taken by then is given up. */
export const CANCEL_TIMEOUT_MS = 5_000;
/** Connections beyond `max_client_conn` that may say what they want: a cancel request must get through when all is full. */
export const CANCEL_RESERVE = 32;
/** Pairs of database and user that are remembered; beyond it those without a living pool are forgotten. */
export const GROUPS_MAX = 1_000;
/** A message's beginning that is read where only its names matter (Bind, Describe, Close); portal and statement name fit in there. */
export const HEAD_BYTES = 1_024;
/** A Parse that is longer cannot be kept for other servers: its client stays with its server. */
export const STATEMENT_BYTES_MAX = 65_536;
