// The validated configuration: what the rest of pgsteer is composed from. Everything is resolved here: defaults filled
// in, files read, secrets fetched, units counted. No module sees it whole; the composition root hands each its part.

import type { AuthQuerySettings } from "../auth/auth-query-settings.ts";
import type { ClientTlsOptions } from "../auth/client-tls.ts";
import type { HbaRule } from "../auth/hba-rule.ts";
import type { IdentMaps } from "../auth/ident-map.ts";
import type { Secret } from "../auth/secret.ts";
import type { ServerTlsOptions } from "../auth/tls-options.ts";
import type { KeepAlive } from "../core/keepalive.ts";
import type { PoolMode } from "../core/pool-mode.ts";
import type { Bytes, Millis } from "../core/units.ts";
import type { HostPort } from "./values.ts";

/** User and password of an HTTP service. */
export interface BasicCredentials {
  readonly user: string;
  readonly password: string;
}

/** TLS towards an HTTP service; PEM texts, null where not set. */
export interface HttpTls {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

export interface EtcdConfig {
  /** `http://host:port` or `https://host:port`, all of one kind, without a final slash. */
  readonly endpoints: readonly string[];
  readonly credentials: BasicCredentials | null;
  /** Null exactly when the endpoints are http. */
  readonly tls: HttpTls | null;
}

export interface PatroniConfig {
  /** Where to start; may be empty beside another source, where the members' own `api_url` say it. */
  readonly urls: readonly string[];
  readonly credentials: BasicCredentials | null;
  readonly tls: HttpTls;
}

/** Where a cluster's topology comes from. */
export type SourceConfig =
  | { readonly kind: "etcd"; readonly etcd: EtcdConfig; readonly patroni: PatroniConfig }
  | { readonly kind: "patroni"; readonly patroni: PatroniConfig }
  | { readonly kind: "static"; readonly hosts: readonly HostPort[] };

export interface ProbeConfig {
  readonly user: string;
  /** Null: log in without a password, which works only where pg_hba.conf trusts or a certificate proves who we are. */
  readonly secret: Secret | null;
  readonly database: string;
  readonly intervalMs: Millis;
  readonly timeoutMs: Millis;
}

export interface ClusterConfig {
  readonly name: string;
  readonly source: SourceConfig;
  /** Patroni's scope. */
  readonly scope: string;
  /** With a slash in front and none behind, such as `/service`; empty when Patroni's is `/`. */
  readonly namespace: string;
  readonly probe: ProbeConfig;
  readonly serverTls: ServerTlsOptions;
}

/** In transaction pooling, what becomes of a statement that leaves something in its session which cannot follow a client. */
export type OnSessionState = "pin" | "refuse" | "ignore";

interface ListenerCommon {
  readonly name: string;
  /** Or the directory of a Unix-domain socket. */
  readonly address: string;
  /** 0: any free port. */
  readonly port: number;
  /** Permissions of a Unix-domain socket. */
  readonly unixSocketMode: number;
  /** Whether a PROXY protocol header is demanded, and from where it is believed; null: none is. */
  readonly proxyProtocol: { readonly from: readonly string[] | null } | null;
  /** Whether replication connections are passed on. */
  readonly replication: boolean;
  readonly poolMode: PoolMode;
  readonly onSessionState: OnSessionState;
  /** Name of a cluster in `Config.clusters`. */
  readonly cluster: string;
}

/** Where clients connect and what they get there. */
export type ListenerConfig = ListenerCommon &
  (
    | { readonly route: "write" }
    | {
        readonly route: "auto" | "read";
        /** Replicas further behind get no reads. */
        readonly lagBytesMax: Bytes;
        /** Where reads go when no replica is fresh enough. */
        readonly fallback: "primary" | "none";
      }
  );

/** The rules of an HBA file. */
export interface HbaConfig {
  readonly rules: readonly HbaRule[];
  readonly maps: IdentMaps;
  /** Whether one of them does. */
  readonly asksPasswords: boolean;
}

export interface AuthConfig {
  readonly type: "scram-sha-256" | "md5" | "password" | "trust" | "cert" | "hba";
  /** Who may look over HTTP and change something, and who may look. */
  readonly adminUsers: readonly string[];
  readonly statsUsers: readonly string[];
  readonly users: ReadonlyMap<string, Secret>;
  /** Whether type `password` may be used without TLS. */
  readonly allowClearText: boolean;
  /** Null unless the type is `hba`. */
  readonly hba: HbaConfig | null;
}

/**
 * Durations of 0 mean "never" wherever the schema lets them be 0; numbers of 0 mean "none" for the minimum and the reserve, and
 * "any number" for the four limits of connections.
 */
export interface PoolConfig {
  readonly poolMode: PoolMode;
  readonly onSessionState: OnSessionState;
  readonly defaultPoolSize: number;
  readonly minPoolSize: number;
  readonly reservePoolSize: number;
  readonly reservePoolTimeoutMs: Millis;
  readonly maxDbConnections: number;
  readonly maxUserConnections: number;
  readonly maxDbClientConnections: number;
  readonly maxUserClientConnections: number;
  readonly maxClientConn: number;
  readonly waitQueueMax: number;
  readonly queryWaitTimeoutMs: Millis;
  readonly clientLoginTimeoutMs: Millis;
  readonly clientIdleTimeoutMs: Millis;
  readonly queryTimeoutMs: Millis;
  readonly transactionTimeoutMs: Millis;
  readonly idleTransactionTimeoutMs: Millis;
  readonly cancelWaitTimeoutMs: Millis;
  readonly serverConnectTimeoutMs: Millis;
  readonly serverLoginRetryMs: Millis;
  readonly serverIdleTimeoutMs: Millis;
  readonly serverLifetimeMs: Millis;
  /** 0: prepared statements do not follow clients. */
  readonly maxPreparedStatements: number;
  /** Null: nothing is sent. */
  readonly serverResetQuery: string | null;
  readonly ignoreStartupParameters: readonly string[];
  readonly applicationNameAddHost: boolean;
  /** Null: off. */
  readonly keepAlive: KeepAlive | null;
  readonly serverResetQueryAlways: boolean;
  /** Empty: an empty query. Null: servers are not checked. */
  readonly serverCheckQuery: string | null;
  readonly serverCheckDelayMs: Millis;
  readonly serverRoundRobin: boolean;
  readonly drainTimeoutMs: Millis;
}

/** What strangers may do. 0: no limit. */
export interface LimitsConfig {
  readonly maxConnectionsPerAddress: number;
  /** Never 0, as is the next. */
  readonly maxHalfOpen: number;
  readonly maxHalfOpenPerAddress: number;
  readonly tlsHandshakesPerSecond: number;
  readonly authFailuresPerMinute: number;
  readonly cancelsPerSecond: number;
  /** In CIDR notation. */
  readonly unlimitedNetworks: readonly string[];
}

/** What differs for one database. Null: as for all. */
export interface DatabaseConfig {
  /** Its name in PostgreSQL. */
  readonly dbname: string | null;
  /** The role that logs in to servers, whoever the client is. */
  readonly user: string | null;
  /** That role's; null where the userlist knows it, or PostgreSQL does not ask. */
  readonly secret: Secret | null;
  readonly poolMode: PoolMode | null;
  readonly poolSize: number | null;
  readonly minPoolSize: number | null;
  readonly reservePoolSize: number | null;
  readonly maxDbConnections: number | null;
  readonly maxDbClientConnections: number | null;
  readonly connectQuery: string | null;
  /** How its users are asked for. */
  readonly auth: { readonly user: string | null; readonly query: string | null; readonly dbname: string | null };
}

/** What differs for one user. Null: as for all. */
export interface UserConfig {
  readonly poolMode: PoolMode | null;
  readonly poolSize: number | null;
  readonly maxUserConnections: number | null;
  readonly maxUserClientConnections: number | null;
}

export interface HttpConfig {
  readonly address: string;
  readonly port: number;
  /** PEM texts; null: HTTP in clear. `ca`: of the client certificates that are demanded, null where none are. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string | null } | null;
  /** An administrator's. */
  readonly token: string | null;
}

export interface LogConfig {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly format: "auto" | "json" | "pretty";
}

export interface Config {
  /** By name; at least one. */
  readonly clusters: ReadonlyMap<string, ClusterConfig>;
  /** At least one; names and addresses are unique. */
  readonly listeners: readonly ListenerConfig[];
  readonly auth: AuthConfig;
  /** How users are asked for whom the userlist does not know. */
  readonly authQuery: AuthQuerySettings;
  readonly clientTls: ClientTlsOptions;
  readonly pool: PoolConfig;
  readonly limits: LimitsConfig;
  /** By the name that clients ask for; `*` for all others. Null: any database, by its own name. */
  readonly databases: ReadonlyMap<string, DatabaseConfig> | null;
  /** By name; those who are not listed are served as well. */
  readonly users: ReadonlyMap<string, UserConfig>;
  /** Null: no HTTP. */
  readonly http: HttpConfig | null;
  readonly log: LogConfig;
}

/** One mistake: where it is, what is wrong, and what to do about it. */
export interface Problem {
  /** Line and column from 1; both 0 where there is no file. */
  readonly line: number;
  readonly column: number;
  /** Such as `listeners[1].port`; empty for the file as a whole. */
  readonly key: string;
  readonly message: string;
  readonly remedy: string;
}

export type LoadedConfig =
  | { readonly ok: true; readonly config: Config; readonly warnings: readonly string[] }
  | { readonly ok: false; readonly problems: readonly Problem[] };
