// The pool section of the file in the terms of the code, and what it says when it is left out.

import type { PoolConfig } from "./config.ts";
import { resolveKeepAlive } from "./keepalive.ts";
import { type FilePool, poolSchema } from "./schema.ts";

/** Renames the section's settings; units are in the names from here on. */
export function resolvePool(file: FilePool): PoolConfig {
  return {
    poolMode: file.pool_mode,
    onSessionState: file.on_session_state,
    defaultPoolSize: file.default_pool_size,
    minPoolSize: file.min_pool_size,
    reservePoolSize: file.reserve_pool_size,
    reservePoolTimeoutMs: file.reserve_pool_timeout,
    maxDbConnections: file.max_db_connections,
    maxUserConnections: file.max_user_connections,
    maxDbClientConnections: file.max_db_client_connections,
    maxUserClientConnections: file.max_user_client_connections,
    maxClientConn: file.max_client_conn,
    waitQueueMax: file.wait_queue_max ?? file.max_client_conn,
    queryWaitTimeoutMs: file.query_wait_timeout,
    clientLoginTimeoutMs: file.client_login_timeout,
    clientIdleTimeoutMs: file.client_idle_timeout,
    queryTimeoutMs: file.query_timeout,
    transactionTimeoutMs: file.transaction_timeout,
    idleTransactionTimeoutMs: file.idle_transaction_timeout,
    cancelWaitTimeoutMs: file.cancel_wait_timeout,
    serverConnectTimeoutMs: file.server_connect_timeout,
    serverLoginRetryMs: file.server_login_retry,
    serverIdleTimeoutMs: file.server_idle_timeout,
    serverLifetimeMs: file.server_lifetime,
    serverResetQuery: file.server_reset_query.trim() === "" ? null : file.server_reset_query,
    serverResetQueryAlways: file.server_reset_query_always,
    serverCheckQuery: checkQuery(file.server_check_query.trim()),
    serverCheckDelayMs: file.server_check_delay,
    serverRoundRobin: file.server_round_robin,
    maxPreparedStatements: file.max_prepared_statements,
    ignoreStartupParameters: file.ignore_startup_parameters,
    applicationNameAddHost: file.application_name_add_host,
    keepAlive: resolveKeepAlive(file),
    drainTimeoutMs: file.drain_timeout,
  };
}

/** PgBouncer's spelling: nothing for no check, `<empty>` for an empty query. */
function checkQuery(written: string): string | null {
  if (written === "") return null;
  return written === "<empty>" ? "" : written;
}

/** What applies where no file says otherwise. */
export function defaultPoolSettings(): PoolConfig {
  return resolvePool(poolSchema.parse({}));
}
