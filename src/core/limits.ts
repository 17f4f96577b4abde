// Every bound that is not a setting, with the reason for its value. A length is checked against these before anything is
// allocated for it.

/** Startup packets: PostgreSQL's MAX_STARTUP_PACKET_LENGTH. Longer: 08P01, connection closed. */
export const STARTUP_PACKET_BYTES_MAX = 10_000;
/** A PROXY protocol header, extensions included; longer: the connection is closed. Room for a TLS client's names and certificates' too. */
export const PROXY_HEADER_BYTES_MAX = 4_096;
/** Password, SASLInitialResponse and SASLResponse messages: PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH. */
export const AUTH_MESSAGE_BYTES_MAX = 65_535;
/**
 * A client's password in clear. Longer: wrong. To bring 64 kB of accents into order for SASLprep took a third of a second, in which
 * nobody else is served, and anybody can ask for it; PgBouncer takes 2,047.
 */
export const CLEAR_PASSWORD_BYTES_MAX = 4_096;
/** Users of a cluster whose proven SCRAM keys are kept for logins to servers; those that were unused for longest go first. */
export const PROVEN_KEYS_MAX = 10_000;
/** Users of a cluster whose answers to auth_query are remembered; only those who exist are. Those that were unused for longest go first. */
export const AUTH_ANSWERS_MAX = 10_000;
/** Questions to auth_query at once, of different users; one more is refused as if nobody could be asked. */
export const AUTH_QUESTIONS_MAX = 10_000;
/** A member that has not answered auth_query by then is left alone, and the next one is asked. */
export const AUTH_QUESTION_MS = 5_000;
/** After every member has refused auth_user nobody is asked for so long: its password is wrong, and will be for a while. */
export const AUTH_RETRY_MS = 1_000;
/** Connections of auth_query to one cluster at once: one for each database in which it is asked. */
export const AUTH_CONNECTIONS_MAX = 16;
/** Path of a Unix-domain socket: Linux's sun_path, without its final zero. */
export const SOCKET_PATH_BYTES_MAX = 107;
/** Any message after login: PostgreSQL's own limit (PQ_LARGE_MESSAGE_LIMIT, MaxAllocSize - 1). Bodies are never buffered whole. */
export const MESSAGE_BYTES_MAX = 0x3fff_fffe;
/** Frontend messages that have no long form (PostgreSQL's PQ_SMALL_MESSAGE_LIMIT): Close, Describe, Execute, Sync, Terminate, CopyDone. */
export const SMALL_MESSAGE_BYTES_MAX = 10_000;
/** Backend messages that are read as a whole (ParameterStatus, ErrorResponse, …); an ErrorResponse can carry a whole query. */
export const WHOLE_BACKEND_MESSAGE_BYTES_MAX = 1_048_576;
/** What a client sent since its exchange was last empty, kept so that a failure can say what was in flight. More: treated as unknown. */
export const FLIGHT_BYTES_MAX = 65_536;
/** Requests that one client may have outstanding on a server before reading from it pauses. One byte each. */
export const EXCHANGE_ENTRIES_MAX = 65_536;
/** Distinct sets of startup settings whose reported parameters are remembered per pool; the least recently used goes first. */
export const WELCOME_PROFILES_MAX = 256;
/** Notices of a request of our own that are kept, to be passed on; the rest is dropped. */
export const OWN_NOTICES_MAX = 16;
/** Times a statement that was refused before it executed is sent again elsewhere. */
export const RESEND_MAX = 3;
/** First wait after a failed server login; doubles up to `server_login_retry`. Short, because a promotion takes a fraction of a second. */
export const LOGIN_RETRY_INITIAL_MS = 10;
/** Wait after a failed login to a leader that is not writable yet: while it starts it refuses, and its promotion takes less than a second. */
export const EARLY_RETRY_MS = 100;
/** A request of our own (ROLLBACK, reset, check or connect query) that takes longer costs the server its connection. */
export const RESET_TIMEOUT_MS = 5_000;
/**
 * Under a limit that several pools share: a pool without any server is ceded one after this time, and one that has some gets the place
 * of another's idle server when that was unused this long. Shorter, and pools would spend their time on logins.
 */
export const CEDE_AFTER_MS = 100;
/** After a failed login `min_pool_size` waits this long for the next, so that a member that is down is left alone; clients do not. */
export const REFILL_RETRY_MS = 15_000;
/**
 * What a server connection in clear reads into: the first size, and that after a read which filled it. Clients share a block of the
 * larger; what came from several in pieces of up to half the smaller is kept in one of that size.
 */
export const RECEIVE_BYTES_MIN = 8_192;
export const RECEIVE_BYTES_MAX = 65_536;
/** After our last words a client has this long to close its side. */
export const LINGER_MS = 5_000;
/** Cancel keys: PostgreSQL's limit from protocol 3.2 on. A request with a longer one is malformed, 08P01. */
export const CANCEL_KEY_BYTES_MAX = 256;
/** A cancel request that was sent and that the server has not taken by then is given up, and so is the server. */
export const CANCEL_TIMEOUT_MS = 5_000;
/** Between two looks whether a request of our own, which must not be cancelled, is still in front of a client's statement. */
export const CANCEL_RETRY_MS = 5;
/** What a client may send ahead while it waits for a server; then its socket pauses. Read so far that its end is noticed. */
export const WAITING_BYTES_MAX = 16_384;
/** A member that does not say by then whether it takes connections counts as going: whoever was lost with a server waits for it. */
export const LIFE_SIGN_TIMEOUT_MS = 1_000;
/** A host that has answered a connection attempt with neither yes nor no for so long is silent; so long later it is tried again. */
export const HOST_SILENT_MS = 1_500;
/** Origins of connections (addresses, /64 of IPv6) whose failures and log lines are remembered; whoever was still for longest goes first. */
export const ORIGINS_MAX = 10_000;
/** When nobody else's login can make room, one from the same address that is younger than this stays, and the newcomer goes. */
export const HALF_OPEN_YOUNG_MS = 1_000;
/** A failed login is answered this late at most: longer, and it would take places at the door from others. */
export const FAILURE_DELAY_MS_MAX = 2_000;
/** Connections turned away at once that are waited for to read why; more are closed without a word. */
export const FAREWELLS_MAX = 256;
/** Lines a minute about refused logins, from all addresses together; each is counted in the metrics all the same. */
export const LOGIN_LINES_MAX = 300;
/** Pairs of database and user that are remembered; beyond it those without a living pool are forgotten. */
export const GROUPS_MAX = 1_000;
/** A message's beginning that is read where only its names matter (Bind, Describe, Close); portal and statement name fit in there. */
export const HEAD_BYTES = 1_024;
/** A Parse that is longer cannot be kept for other servers: its client stays with its server. */
export const STATEMENT_BYTES_MAX = 65_536;
/** A text that is longer is not read by PostgreSQL's grammar: a few kilobytes can already take it tens of milliseconds. */
export const GRAMMAR_TEXT_BYTES_MAX = 4_096;
/** Texts whose effects on a session are remembered; the least recently used goes first. */
export const EFFECTS_CACHE_ENTRIES_MAX = 1_000;
/** Settings of the user's own that a server is asked for by name after one text; a text that names more keeps its client there. */
export const SETTINGS_ASKED_MAX = 100;
/** One file of a transcript (`pgsteer run --record`): some nine hours of a quiet cluster of three. Then it becomes FILE.1, and a new one begins. */
export const TRANSCRIPT_BYTES_MAX = 33_554_432;
/** Changes of leader whose record is kept; beyond it a short one without consequences goes first, then the oldest. */
export const INCIDENTS_KEPT_MAX = 100;
/** Moments in the record of one change of leader; beyond it the oldest but the first is forgotten. A leader that comes and goes has no end of them. */
export const INCIDENT_MARKS_MAX = 32;
/** A router that starts serves nobody before it has read whether the routers are paused, for at most this long. */
export const COORDINATION_READ_MS = 3_000;
/** A planned switchover holds writes back for so long after its deadline at most, whatever became of the command that asked for it. */
export const SWITCHOVER_HOLD_MS = 30_000;
/** Files that an HBA or ident file includes, one inside the other: PostgreSQL's CONF_FILE_MAX_DEPTH. */
export const ACCESS_FILE_DEPTH_MAX = 10;
/** Files that are read for one HBA or ident file; more come of files that include each other. */
export const ACCESS_FILES_MAX = 1_000;
/** Rules of an HBA file, or lines of an ident file: a login looks through them from the first on. */
export const ACCESS_LINES_MAX = 10_000;
/** Steps of one regular expression of these files, repetitions written out; a name is tried against it step by step. */
export const ACCESS_PATTERN_STEPS_MAX = 2_000;
