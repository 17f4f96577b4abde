// Every setting of the configuration file, here and in the files schema-*.ts: one row each, with its type, its default and what it does. Names and
// meanings are PgBouncer's where it has the same setting (https://www.pgbouncer.org/config.html). The documentation and
// the JSON Schema for editors are made from these rows; resolve.ts checks what no row can know by itself.

import { z } from "zod";
import { authSchema, clientTlsSchema, httpSchema, limitsSchema } from "./schema-access.ts";
import { clusterSchema } from "./schema-cluster.ts";
import { count, countOrNone, flag, passwordRows } from "./schema-rows.ts";
import {
  duration,
  fileMode,
  listenerAddress,
  listenPort,
  network,
  plainName,
  positiveDuration,
  size,
  text,
  wholeSeconds,
} from "./values.ts";

const poolMode = z.enum(["transaction", "session", "statement"]);
const onSessionState = z.enum(["pin", "refuse", "ignore"]);

/** One listener: where clients connect and what they get there. */
export const listenerSchema = z.strictObject({
  name: plainName.describe("name in logs, metrics and the console"),
  address: listenerAddress
    .prefault("127.0.0.1")
    .describe("address to listen on, 0.0.0.0 or :: for all; or the directory of a Unix-domain socket"),
  port: listenPort.describe("TCP port; of a Unix-domain socket the number at the end of its name, .s.PGSQL.6432"),
  unix_socket_mode: fileMode.optional().describe('permissions of a Unix-domain socket, in octal (default "0777")'),
  route: z.enum(["auto", "write", "read"]).describe("write: the leader; read: replicas; auto: each statement decides"),
  pool_mode: poolMode.optional().describe("when a server is released; pool.pool_mode when omitted"),
  on_session_state: onSessionState.optional().describe("as pool.on_session_state, for this listener"),
  cluster: text.optional().describe("name of the cluster; may be omitted where there is one"),
  lag_bytes_max: size
    .optional()
    .describe("replicas further behind than this get no reads (default 16MB); not for write"),
  fallback: z
    .enum(["primary", "none"])
    .optional()
    .describe("where reads go when no replica is fresh enough: primary (default), or none; not for write"),
  proxy_protocol: z
    .enum(["off", "require"])
    .default("off")
    .describe("require: each connection begins with a PROXY protocol header, version 1 or 2, as HAProxy's send-proxy"),
  proxy_protocol_from: z
    .array(network)
    .min(1)
    .max(64)
    .optional()
    .describe("networks whose PROXY headers are believed; connections from elsewhere are closed; all when omitted"),
  replication: z
    .enum(["allow", "refuse"])
    .optional()
    .describe("whether replication connections are passed to the leader (default allow); not for read"),
});

/** Pooling and its limits. A duration of 0 means "never" wherever it is allowed. */
export const poolSchema = z.strictObject({
  pool_mode: poolMode
    .default("transaction")
    .describe("when a server is released: at the end of each transaction, of the session, or of each statement"),
  on_session_state: onSessionState
    .default("pin")
    .describe(
      "in transaction pooling, what becomes of LISTEN, temporary tables and the like: pin keeps the client with its server, refuse fails the statement, ignore lets it be",
    ),
  default_pool_size: count.default(20).describe("servers per member, database and user"),
  min_pool_size: countOrNone
    .default(0)
    .describe("servers that a pool keeps open while it has clients, or its database a user of its own; 0: none"),
  reserve_pool_size: countOrNone
    .default(0)
    .describe("servers beyond the pool's size, for clients that have waited reserve_pool_timeout; 0: none"),
  reserve_pool_timeout: duration.prefault("5s").describe("wait after which the reserve is opened; 0: never"),
  max_db_connections: countOrNone.default(0).describe("servers per database, over all pools; 0: no limit"),
  max_user_connections: countOrNone.default(0).describe("servers per server user, over all pools; 0: no limit"),
  max_db_client_connections: countOrNone.default(0).describe("clients at once per database; 0: no limit"),
  max_user_client_connections: countOrNone.default(0).describe("clients at once per user; 0: no limit"),
  max_client_conn: count.default(100).describe("clients at once; one more is refused with 53300"),
  wait_queue_max: count
    .optional()
    .describe("clients that may wait for a server of one pool; max_client_conn when omitted"),
  query_wait_timeout: positiveDuration.prefault("120s").describe("longest wait for a server, or for a leader"),
  client_login_timeout: positiveDuration
    .prefault("60s")
    .describe("a client that has not logged in by then is disconnected"),
  client_idle_timeout: duration.prefault(0).describe("a client that is idle this long is disconnected; 0: never"),
  query_timeout: duration
    .prefault(0)
    .describe(
      "a client whose query runs this long is disconnected, the query canceled; above statement_timeout; 0: never",
    ),
  transaction_timeout: duration
    .prefault(0)
    .describe("a client whose transaction is open this long is disconnected; 0: never"),
  idle_transaction_timeout: duration
    .prefault(0)
    .describe("a client that is idle inside a transaction this long is disconnected; 0: never"),
  cancel_wait_timeout: duration
    .prefault("10s")
    .describe("a cancel request that cannot be delivered by then is dropped; 0: never"),
  server_connect_timeout: positiveDuration.prefault("15s").describe("longest time to connect and log in to a server"),
  server_login_retry: positiveDuration.prefault("1s").describe("wait after a failed login before the next"),
  server_idle_timeout: duration.prefault("600s").describe("a server that is unused this long is closed; 0: never"),
  server_lifetime: duration
    .prefault("3600s")
    .describe("a server that is older than this is closed once unused; 0: never"),
  server_reset_query: z
    .string()
    .default("DISCARD ALL")
    .describe("sent when a session-mode client leaves its server; empty: nothing"),
  server_reset_query_always: flag
    .default(false)
    .describe("send server_reset_query at the end of each transaction, too"),
  server_check_query: z
    .string()
    .default("select 1")
    .describe("asked of a server that was unused for server_check_delay before it is lent; empty: nothing"),
  server_check_delay: duration
    .prefault("30s")
    .describe("a server that was used within this time is lent without server_check_query; 0: none is"),
  server_round_robin: flag.default(false).describe("let idle servers take turns, in place of the last used first"),
  max_prepared_statements: z
    .int()
    .min(0)
    .max(100_000)
    .default(200)
    .describe(
      "named statements that a server keeps for its clients in transaction pooling; 0: they do not follow clients",
    ),
  ignore_startup_parameters: z
    .array(text)
    .max(100)
    .default([])
    .describe("startup parameters that are dropped; needed only for those that PostgreSQL would refuse"),
  application_name_add_host: flag
    .default(false)
    .describe("add the client's address and port to application_name at login"),
  tcp_keepalive: flag.default(true).describe("whether idle connections to clients and servers are probed by TCP"),
  tcp_keepidle: wholeSeconds.prefault("30s").describe("a connection that is idle this long is probed"),
  tcp_keepintvl: wholeSeconds.optional().describe("time between two probes (default 1s)"),
  tcp_keepcnt: z.int().min(1).max(127).optional().describe("unanswered probes after which it is dropped (default 10)"),
  drain_timeout: positiveDuration
    .prefault("30s")
    .describe("how long open transactions may go on at shutdown or switchover"),
});

/** One database: where it leads, and what differs from `pool`. */
export const databaseSchema = z.strictObject({
  dbname: text.optional().describe("its name in PostgreSQL; the same when omitted"),
  user: text.optional().describe("role that logs in to servers, whoever the client is; the client's own when omitted"),
  ...passwordRows,
  pool_mode: poolMode.optional().describe("when a server is released; the listener's when omitted"),
  pool_size: count.optional().describe("servers per member and user; default_pool_size when omitted"),
  min_pool_size: countOrNone.optional().describe("pool.min_pool_size when omitted"),
  reserve_pool_size: countOrNone.optional().describe("pool.reserve_pool_size when omitted"),
  max_db_connections: countOrNone.optional().describe("servers over all pools; pool.max_db_connections when omitted"),
  max_db_client_connections: countOrNone
    .optional()
    .describe("clients at once; pool.max_db_client_connections when omitted"),
  auth_user: text.optional().describe("auth.user for this database; its password comes from auth.file"),
  auth_query: text.optional().describe("auth.query for this database"),
  auth_dbname: text.optional().describe("auth.dbname for this database"),
  connect_query: text.optional().describe("run on each new server before it is lent, and after each reset query"),
});

/** One user: what differs from `pool`, the listener and the database. */
export const userSchema = z.strictObject({
  pool_mode: poolMode.optional().describe("when a server is released; the database's or the listener's when omitted"),
  pool_size: count.optional().describe("servers per member and database; the database's pool_size when omitted"),
  max_user_connections: countOrNone
    .optional()
    .describe("servers over all pools; pool.max_user_connections when omitted"),
  max_user_client_connections: countOrNone
    .optional()
    .describe("clients at once; pool.max_user_client_connections when omitted"),
});

/** The log. */
export const logSchema = z.strictObject({
  level: z
    .enum(["debug", "info", "warn", "error"])
    .default("info")
    .describe("the least important line that is written"),
  format: z.enum(["auto", "json", "pretty"]).default("auto").describe("auto: pretty on a terminal, json elsewhere"),
});

/** The whole file. `load.ts` decodes it section by section, so that one mistake does not hide another. */
export const fileSchema = z.strictObject({
  clusters: z.record(plainName, clusterSchema).describe("the clusters, by name; usually one"),
  listeners: z
    .array(listenerSchema)
    .max(256)
    .optional()
    .describe("where clients connect; auto 6432, write 5000, read 5001 when omitted"),
  auth: authSchema.prefault({}).describe("how clients prove who they are"),
  client_tls: clientTlsSchema.prefault({}).describe("TLS towards clients"),
  pool: poolSchema.prefault({}).describe("pooling and its limits"),
  limits: limitsSchema.prefault({}).describe("what strangers may do"),
  databases: z
    .record(text, databaseSchema)
    .optional()
    .describe("databases that clients may ask for, by name, `*` for all others; all when omitted"),
  users: z.record(text, userSchema).optional().describe("what differs for single users, by name"),
  http: httpSchema.prefault({}).describe("health checks, metrics, topology, status page"),
  log: logSchema.prefault({}).describe("the log"),
});

export type FileListener = z.output<typeof listenerSchema>;
export type FilePool = z.output<typeof poolSchema>;
export type FileDatabase = z.output<typeof databaseSchema>;
export type FileUser = z.output<typeof userSchema>;
