// What a good file yields, what a short one leaves out, and what is only warned about.

import { describe, expect, test } from "vitest";
import { auth, clusters, configOf, files, fixed, load, makeCertificates, problemsOf, rest } from "./fixture.ts";

makeCertificates();

const full = `
clusters:
  demo:
    source: etcd
    scope: batman
    namespace: service/
    etcd: { endpoints: ["http://127.0.0.1:2379", "http://127.0.0.2:2379/"], user: u, password_file: /run/secrets/etcd }
    patroni: { urls: ["http://127.0.0.1:8008"], user: p, password_env: ETCD_PASSWORD, ca_file: one.crt }
    probe: { user: prober, password: "123", database: app, interval: 500ms, timeout: 3 }
    server_tls: { sslmode: verify-full, ca_file: one.crt, cert_file: two.crt, key_file: two.key }
  other:
    source: static
    static: { hosts: ["10.0.0.1:5433", "[::1]", db] }
listeners:
  - { name: auto, port: 6432, route: auto, cluster: demo }
  - { name: write, address: 0.0.0.0, port: 5000, route: write, pool_mode: session, on_session_state: refuse, cluster: other }
  - { name: read, port: 5001, route: read, lag_bytes_max: 1GB, fallback: none, cluster: other }
auth: { type: md5, file: userlist.txt }
client_tls: { mode: require, cert_file: one.crt, key_file: one.key }
pool:
  pool_mode: transaction
  default_pool_size: 5
  max_client_conn: 1000
  wait_queue_max: 200
  query_wait_timeout: 10s
  client_login_timeout: 5s
  client_idle_timeout: 1h
  query_timeout: 30s
  transaction_timeout: 10m
  idle_transaction_timeout: 1m
  cancel_wait_timeout: 3s
  server_connect_timeout: 2s
  server_login_retry: 100ms
  server_idle_timeout: 0
  server_lifetime: 2h
  server_reset_query: ""
  drain_timeout: 1m
http: { address: 127.0.0.2, port: 7001 }
log: { level: debug, format: json }
`;

describe("a complete file", () => {
  test("yields its clusters", () => {
    const config = configOf(full);
    const one = files.get("/etc/pgsteer/one.crt");
    expect(config.clusters.get("demo")).toEqual({
      name: "demo",
      scope: "batman",
      namespace: "/service",
      source: {
        kind: "etcd",
        etcd: {
          endpoints: ["http://127.0.0.1:2379", "http://127.0.0.2:2379"],
          credentials: { user: "u", password: "from-file" },
          tls: null,
        },
        patroni: {
          urls: ["http://127.0.0.1:8008"],
          credentials: { user: "p", password: "from-env" },
          tls: { ca: one, cert: null, key: null },
        },
      },
      probe: {
        user: "prober",
        secret: { kind: "plain", password: "123" },
        database: "app",
        intervalMs: 500,
        timeoutMs: 3000,
      },
      serverTls: expect.objectContaining({
        sslmode: "verify-full",
        ca: one,
        cert: files.get("/etc/pgsteer/two.crt"),
        key: files.get("/etc/pgsteer/two.key"),
      }),
    });
    expect(config.clusters.get("other")?.source).toEqual({
      kind: "static",
      hosts: [
        { host: "10.0.0.1", port: 5433 },
        { host: "::1", port: 5432 },
        { host: "db", port: 5432 },
      ],
    });
  });

  test("yields everything else", () => {
    const {
      clusters: _clusters,
      clientTls,
      auth: login,
      authQuery: _authQuery,
      limits: _limits,
      ...config
    } = configOf(full);
    const lags = { lagBytesMax: 16_777_216, fallback: "primary" };
    const door = { unixSocketMode: 0o777, proxyProtocol: null, replication: true };
    expect(config).toEqual({
      listeners: [
        {
          name: "auto",
          address: "127.0.0.1",
          port: 6432,
          route: "auto",
          poolMode: "transaction",
          onSessionState: "pin",
          cluster: "demo",
          ...lags,
          ...door,
        },
        {
          name: "write",
          address: "0.0.0.0",
          port: 5000,
          route: "write",
          poolMode: "session",
          onSessionState: "refuse",
          cluster: "other",
          ...door,
        },
        {
          ...{
            name: "read",
            address: "127.0.0.1",
            port: 5001,
            route: "read",
            poolMode: "transaction",
            onSessionState: "pin",
            cluster: "other",
          },
          ...{ lagBytesMax: 1_073_741_824, fallback: "none", ...door, replication: false },
        },
      ],
      pool: {
        poolMode: "transaction",
        onSessionState: "pin",
        defaultPoolSize: 5,
        minPoolSize: 0,
        reservePoolSize: 0,
        reservePoolTimeoutMs: 5000,
        maxDbConnections: 0,
        maxUserConnections: 0,
        maxDbClientConnections: 0,
        maxUserClientConnections: 0,
        maxClientConn: 1000,
        waitQueueMax: 200,
        queryWaitTimeoutMs: 10_000,
        clientLoginTimeoutMs: 5000,
        clientIdleTimeoutMs: 3_600_000,
        queryTimeoutMs: 30_000,
        transactionTimeoutMs: 600_000,
        idleTransactionTimeoutMs: 60_000,
        cancelWaitTimeoutMs: 3000,
        serverConnectTimeoutMs: 2000,
        serverLoginRetryMs: 100,
        serverIdleTimeoutMs: 0,
        serverLifetimeMs: 7_200_000,
        serverResetQuery: null,
        serverResetQueryAlways: false,
        serverCheckQuery: "select 1",
        serverCheckDelayMs: 30_000,
        serverRoundRobin: false,
        maxPreparedStatements: 200,
        ignoreStartupParameters: [],
        applicationNameAddHost: false,
        keepAlive: { idleMs: 30_000, intervalMs: null, count: null },
        drainTimeoutMs: 60_000,
      },
      databases: null,
      users: new Map(),
      http: { address: "127.0.0.2", port: 7001, tls: null, token: null },
      log: { level: "debug", format: "json" },
    });
    expect(login).toMatchObject({ type: "md5", allowClearText: false });
    expect(login.users.get("app")).toEqual({ kind: "plain", password: "pw" });
    expect(clientTls).toMatchObject({
      mode: "require",
      own: { cert: files.get("/etc/pgsteer/one.crt"), key: files.get("/etc/pgsteer/one.key") },
    });
  });
});

describe("what a short file leaves out", () => {
  test("is filled with defaults", () => {
    const config = configOf(rest);
    const cluster = config.clusters.get("demo");
    expect(cluster).toMatchObject({ scope: "demo", namespace: "/service", serverTls: { sslmode: "prefer", ca: null } });
    expect(config.listeners.map(({ name, address, port, route }) => [name, address, port, route])).toEqual([
      ["auto", "127.0.0.1", 6432, "auto"],
      ["write", "127.0.0.1", 5000, "write"],
      ["read", "127.0.0.1", 5001, "read"],
    ]);
    expect(config.auth.type).toBe("scram-sha-256");
    expect(config.pool).toMatchObject({
      maxClientConn: 100,
      waitQueueMax: 100,
      queryWaitTimeoutMs: 120_000,
      serverResetQuery: "DISCARD ALL",
    });
    expect(config.http).toEqual({ address: "127.0.0.1", port: 7000, tls: null, token: null });
    expect(config.clientTls.mode).toBe("disable");
  });

  test("includes the password of the probe, which the userlist may know", () => {
    expect(configOf(rest).clusters.get("demo")?.probe).toMatchObject({
      user: "pgsteer",
      secret: { kind: "plain", password: "probe-pw" },
      database: "postgres",
    });
    const other = configOf(rest.replace("hosts: [h] }", "hosts: [h] }, probe: { user: nobody }"));
    expect(other.clusters.get("demo")?.probe.secret).toBeNull();
  });

  test("may be an empty section", () => {
    const empty = "pool:\nhttp:\nlog:\nclient_tls:\n";
    expect(configOf(rest + empty)).toEqual(configOf(rest));
    const section = "clusters:\n  demo:\n    source: static\n    static: { hosts: [h] }\n    probe:\n    server_tls:\n";
    expect(configOf(section + auth)).toEqual(configOf(rest));
  });

  test("passes the pool's mode on to the listeners", () => {
    const config = configOf(`${rest}pool: { pool_mode: session }\n`);
    expect(config.listeners.map((listener) => listener.poolMode)).toEqual(["session", "session", "session"]);
  });

  test("may be HTTP altogether, and any number of ports that are free", () => {
    const listeners = "listeners:\n  - { name: a, port: 0, route: write }\n  - { name: b, port: 0, route: write }\n";
    expect(configOf(`${rest}http: { enabled: false }\n${listeners}`).http).toBeNull();
  });

  test("may be written once and used by alias", () => {
    const text = "x-y: 1\n";
    expect(problemsOf(rest + text)).toHaveLength(1);
    const shared =
      "clusters:\n  a: { source: static, static: &s { hosts: [h] } }\n  b: { source: static, static: *s }\n";
    const listeners = "listeners: [{ name: a, port: 1, route: write, cluster: b }]\n";
    expect(configOf(shared + listeners + auth).clusters.get("b")?.source).toEqual({
      kind: "static",
      hosts: [{ host: "h", port: 5432 }],
    });
  });
});

describe("what works but hardly as meant", () => {
  const warningsOf = (text: string) => {
    const loaded = load(text);
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
    return loaded.warnings;
  };

  test.each([
    [
      "a section that the source does not use",
      fixed('etcd: { endpoints: ["http://e"] }'),
      ":6: clusters.demo.etcd is not used",
    ],
    [
      "a probe without a password",
      fixed("probe: { user: nobody }"),
      ':6: clusters.demo.probe has no password for user "nobody"',
    ],
    [
      "an authority that is not asked",
      fixed("server_tls: { ca_file: one.crt }"),
      "clusters.demo.server_tls.ca_file is not used",
    ],
    [
      "a certificate that is not shown",
      `${rest}client_tls: { cert_file: one.crt }`,
      ":3: client_tls.cert_file is not used",
    ],
    ["a userlist of nobody", `${clusters}auth: { file: none.txt }`, ":2: auth.file names a file without users"],
    ["verifiers", `${clusters}auth: { type: trust, file: verifiers.txt }`, "1 user(s) with a SCRAM verifier"],
    ["md5 hashes", `${clusters}auth: { file: verifiers.txt }`, "1 user(s) with an md5 hash"],
    [
      "a permission that is not used",
      `${clusters}auth: { file: userlist.txt, allow_clear_text: true }`,
      "auth.allow_clear_text is not used",
    ],
    [
      "trust that reaches far",
      `${clusters}auth: { type: trust }\nlisteners: [{ name: a, address: 0.0.0.0, port: 1, route: read }]`,
      ":2: auth.type is trust",
    ],
  ])("%s is a warning", (_what, text, warning) => {
    const warnings = warningsOf(text);
    expect(
      warnings.filter((line) => line.startsWith("/etc/pgsteer/pgsteer.yaml:") && line.includes(warning)),
    ).toHaveLength(1);
  });

  test("a good file has none", () => {
    expect(warningsOf(rest)).toEqual([]);
    expect(warningsOf(full)).toEqual([]);
  });
});
