// When a server goes back to its pool: PgBouncer's pool modes (https://www.pgbouncer.org/features.html). One type for the
// configuration, the pools and the proxy.

/**
 * `session`: when its client leaves. `transaction`: at the end of each transaction. `statement`: after each statement; a
 * transaction of more than one is refused.
 */
export type PoolMode = "session" | "transaction" | "statement";
