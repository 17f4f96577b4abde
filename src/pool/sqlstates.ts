// Errors of PostgreSQL that mean something to a pool, by SQLSTATE: texts are translated, codes are not
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).

/** What our own words can stand for: a statement's name that is taken, or that there is not, is asked for to have an error. */
export const provoked: ReadonlySet<string> = new Set(["42P05", "26000"]);
/** "cached plan must not change result type", among others. */
export const FEATURE_NOT_SUPPORTED = "0A000";

/**
 * What a session meets whose role was dropped: it may do nothing ("permission denied"), or its role cannot be named ("invalid role
 * OID"). Mostly these mean something harmless, so they only raise a question.
 */
export const roleDoubts: ReadonlySet<string> = new Set(["42501", "42704", "28000"]);

/** Fails where the role of the session is no more, even when another one has its name. */
export const ROLE_QUESTION = "SELECT current_user, session_user";
