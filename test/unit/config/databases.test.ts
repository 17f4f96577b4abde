// The sections `databases` and `users`: what they yield, and the mistakes in them.

import { describe, expect, test } from "vitest";
import { configOf, describeMistakes, load, type Mistake, rest } from "./fixture.ts";

const whole = `${rest}databases:
  app: { dbname: app_v2, user: app, pool_mode: session, pool_size: 5, min_pool_size: 2, reserve_pool_size: 1 }
  report:
    user: reporter
    password_env: ETCD_PASSWORD
    max_db_connections: 7
    max_db_client_connections: 0
    connect_query: SET work_mem = '64MB'
  "*":
users:
  batch: { pool_mode: session, pool_size: 2, max_user_connections: 3, max_user_client_connections: 4 }
  "we ird":
`;

const likeAll = {
  dbname: null,
  user: null,
  secret: null,
  poolMode: null,
  poolSize: null,
  minPoolSize: null,
  reservePoolSize: null,
  maxDbConnections: null,
  maxDbClientConnections: null,
  connectQuery: null,
  auth: { user: null, query: null, dbname: null },
};

describe("databases and users", () => {
  test("yield what differs, and null for what does not", () => {
    const { databases, users } = configOf(whole);
    expect([...(databases ?? [])]).toEqual([
      [
        "app",
        {
          ...likeAll,
          dbname: "app_v2",
          user: "app",
          poolMode: "session",
          poolSize: 5,
          minPoolSize: 2,
          reservePoolSize: 1,
        },
      ],
      [
        "report",
        {
          ...likeAll,
          user: "reporter",
          secret: { kind: "plain", password: "from-env" },
          maxDbConnections: 7,
          maxDbClientConnections: 0,
          connectQuery: "SET work_mem = '64MB'",
        },
      ],
      ["*", likeAll],
    ]);
    const nothing = { poolMode: null, poolSize: null, maxUserConnections: null, maxUserClientConnections: null };
    expect([...users]).toEqual([
      ["batch", { poolMode: "session", poolSize: 2, maxUserConnections: 3, maxUserClientConnections: 4 }],
      ["we ird", nothing],
    ]);
  });

  test("that are left out mean any database, and nobody in particular", () => {
    expect(configOf(rest)).toMatchObject({ databases: null, users: new Map() });
  });

  test("may be an anchor's", () => {
    const text = `${rest}databases: { a: &a { pool_size: 3 }, b: *a }\n`;
    expect(configOf(text).databases?.get("b")?.poolSize).toBe(3);
  });

  test.each([
    [
      "a role without a password",
      "databases: { a: { user: nobody } }",
      'databases.a.user has no password for "nobody"',
    ],
    [
      "a minimum that cannot be kept",
      "databases: { a: { pool_size: 2, min_pool_size: 3 } }",
      "databases.a.min_pool_size is more than the pool's size, 2",
    ],
    [
      "a minimum above the general size",
      "databases: { a: { min_pool_size: 30 } }",
      "databases.a.min_pool_size is more than the pool's size, 20",
    ],
  ])("with %s are a warning", (_what, text, warning) => {
    const loaded = load(rest + text);
    expect(loaded.ok && loaded.warnings).toEqual([expect.stringContaining(`:3: ${warning}`)]);
  });
});

const mistakes: Mistake[] = [
  ["no map", `${rest}databases: [app]`, 3, "databases", /names nothing/, /add a name/],
  ["an empty section", `${rest}users:`, 3, "users", /names nothing/, /remove the section/],
  [
    "an empty name",
    `${rest}databases:\n  "": { pool_size: 1 }`,
    4,
    "databases.",
    /is not a name that PostgreSQL could have/,
    /1 to 63 bytes/,
  ],
  [
    "a name too long",
    `${rest}users:\n  ${"ä".repeat(32)}: { pool_size: 1 }`,
    4,
    `users.${"ä".repeat(32)}`,
    /is not a name that PostgreSQL could have/,
    /1 to 63 bytes/,
  ],
  [
    "a setting of PgBouncer's that is another's here",
    `${rest}databases:\n  app: { reserve_pool: 1 }`,
    4,
    "databases.app.reserve_pool",
    /is not a setting/,
    /reserve_pool_size/,
  ],
  [
    "a user's setting on a database",
    `${rest}databases:\n  app:\n    max_user_connections: 1`,
    5,
    "databases.app.max_user_connections",
    /is not a setting/,
    /^write max_db_connections$/,
  ],
  [
    "a size of nothing",
    `${rest}databases:\n  app: { pool_size: 0 }`,
    4,
    "databases.app.pool_size",
    /at least 1/,
    /write 1/,
  ],
  [
    "an empty query",
    `${rest}databases:\n  app: { connect_query: "" }`,
    4,
    "databases.app.connect_query",
    /is empty/,
    /remove the key/,
  ],
  [
    "a password for nobody",
    `${rest}databases:\n  app: { password: secret }`,
    4,
    "databases.app",
    /gives a password without a user/,
    /^add user/,
  ],
  [
    "a password given twice",
    `${rest}databases:\n  app: { user: u, password: secret, password_env: ETCD_PASSWORD }`,
    4,
    "databases.app.password_env",
    /a second time/,
    /keep one/,
  ],
  [
    "a password file that is not there",
    `${rest}databases:\n  app: { user: u, password_file: nowhere }`,
    4,
    "databases.app.password_file",
    /does not exist/,
    /check the path/,
  ],
  [
    "an entry that is no section",
    `${rest}users:\n  app: 5`,
    4,
    "users.app",
    /must be a section/,
    /write a section with settings/,
  ],
  ["a mode that does not exist", `${rest}users:\n  a: { pool_mode: x }`, 4, "users.a.pool_mode", /cannot be "x"/, /./],
];

describeMistakes("in databases and users", mistakes);
