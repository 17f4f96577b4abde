// Values that are wrong in themselves, YAML that is broken, and many mistakes at once.

import { describe, expect, test } from "vitest";
import {
  auth,
  cluster,
  clusters,
  describeMistakes,
  etcd,
  listener,
  type Mistake,
  problemsOf,
  rest,
} from "./fixture.ts";

const mistakes: Mistake[] = [
  [
    "a setting that does not exist",
    `${rest}pool: { default_pool_sise: 1 }`,
    3,
    "pool.default_pool_sise",
    /is not a setting/,
    /^write default_pool_size$/,
  ],
  [
    "a setting in another spelling",
    `${rest}pool:\n  MaxClientConn: 1`,
    4,
    "pool.MaxClientConn",
    /is not a setting/,
    /^write max_client_conn$/,
  ],
  [
    "a setting like no other",
    `${rest}log: { zzzzzzzzz: 1 }`,
    3,
    "log.zzzzzzzzz",
    /is not a setting/,
    /^use one of: level, format$/,
  ],
  [
    "a setting outside its section",
    `${rest}default_pool_size: 1`,
    3,
    "default_pool_size",
    /is not a setting/,
    /^move it under pool$/,
  ],
  ["a section that does not exist", `${rest}listener: []`, 3, "listener", /is not a setting/, /^write listeners$/],
  ["a key that is a prototype's", `${rest}__proto__: { a: 1 }`, 3, "__proto__", /is not a setting/, /use one of/],
  [
    "a setting that exists on every object",
    `${rest}constructor: 1`,
    3,
    "constructor",
    /is not a setting/,
    /use one of/,
  ],
  [
    "a value that does not exist",
    `${rest}pool: { pool_mode: sesion }`,
    3,
    "pool.pool_mode",
    /cannot be "sesion"/,
    /^write session$/,
  ],
  [
    "a value like no other",
    `${rest}log: { level: 7 }`,
    3,
    "log.level",
    /wrong value/,
    /use one of: debug, info, warn, error/,
  ],
  [
    "a number too small",
    `${rest}pool: { default_pool_size: 0 }`,
    3,
    "pool.default_pool_size",
    /at least 1/,
    /1 or more/,
  ],
  ["a number too large", `${rest}http: { port: 65536 }`, 3, "http.port", /at most 65535/, /65535 or less/],
  ["a fraction", `${rest}http: { port: 1.5 }`, 3, "http.port", /must be a whole number/, /write a whole number/],
  ["a number in quotes", `${rest}http: { port: "1" }`, 3, "http.port", /must be a number/, /remove the quotes/],
  [
    "a text without quotes",
    etcd("user: 1, password: x"),
    5,
    "clusters.demo.etcd.user",
    /must be a text/,
    /put it in quotes/,
  ],
  [
    "a word for true or false",
    `${rest}http: { enabled: yes }`,
    3,
    "http.enabled",
    /must be true or false/,
    /write true or false/,
  ],
  ["no value", `${rest}pool:\n  query_wait_timeout:`, 4, "pool.query_wait_timeout", /has no value/, /remove the key/],
  ["a list for a section", `${rest}pool: []`, 3, "pool", /must be a section/, /write a section/],
  [
    "one value for a list",
    cluster("source: static\n    static: { hosts: h }"),
    5,
    "clusters.demo.static.hosts",
    /must be a list/,
    /\[a, b\]/,
  ],
  [
    "an empty list",
    cluster("source: static\n    static: { hosts: [] }"),
    5,
    "clusters.demo.static.hosts",
    /is empty/,
    /write a value/,
  ],
  [
    "no duration",
    `${rest}pool: { drain_timeout: 5 parsecs }`,
    3,
    "pool.drain_timeout",
    /"5 parsecs" is not a duration/,
    /30s, 5m/,
  ],
  ["a negative duration", `${rest}pool: { drain_timeout: -1 }`, 3, "pool.drain_timeout", /not a duration/, /30s, 5m/],
  [
    "a duration of nothing",
    `${rest}pool: { query_wait_timeout: 0 }`,
    3,
    "pool.query_wait_timeout",
    /longer than 0/,
    /30s, 5m/,
  ],
  [
    "a duration that is a list",
    `${rest}pool: { drain_timeout: [1] }`,
    3,
    "pool.drain_timeout",
    /number or a text/,
    /number or a text/,
  ],
  ["no size", listener("route: read, lag_bytes_max: much"), 4, "listeners[0].lag_bytes_max", /not a size/, /16MB/],
  ["no address", listener("route: read, address: '*'"), 4, "listeners[0].address", /not an address/, /0\.0\.0\.0/],
  [
    "no host",
    cluster("source: static\n    static: { hosts: ['h:x'] }"),
    5,
    "clusters.demo.static.hosts[0]",
    /not a host/,
    /host:port/,
  ],
  [
    "no URL",
    cluster('source: etcd\n    etcd: { endpoints: ["127.0.0.1:2379"] }'),
    5,
    "clusters.demo.etcd.endpoints[0]",
    /not an http/,
    /http:\/\//,
  ],
  [
    "a URL with a password",
    cluster('source: etcd\n    etcd: { endpoints: ["http://u:p@e"] }'),
    5,
    "clusters.demo.etcd.endpoints[0]",
    /a password in its URL/,
    /password_file/,
  ],

  ["a broken quote", `${rest}log: { level: "info }`, 3, "", /YAML is broken/, /check quotes/],
  ["a repeated setting", `${rest}log:\n  level: info\n  level: debug`, 5, "", /keys must be unique/, /keep one/],
  ["a tab", `${rest}log:\n\tlevel: info`, 4, "", /YAML is broken/, /./],
  ["two documents", `${rest}---\nlog: {}`, 3, "", /multiple documents/, /remove the ---/],
  ["a tag", `${rest}log: !!js/function x`, 3, "", /tag/, /remove the tag/],
  ["an alias of nothing", `${rest}log: *x`, 3, "", /no anchor for the alias/, /define &anchor/],
  ["an empty file", "", 1, "", /is empty/, /clusters/],
  ["a file that is a list", "- a\n", 1, "", /not a map/, /clusters/],
  ["a file that is a text", "hello\n", 1, "", /not a map/, /clusters/],
];

describeMistakes("in a value or in the YAML", mistakes);

describe("mistakes are named", () => {
  test("by the column of its value, or of its key where that is a section", () => {
    expect(problemsOf(`${rest}log: { level: loud }`)).toMatchObject([{ line: 3, column: 15 }]);
    expect(problemsOf(`${rest}pool: []`)).toMatchObject([{ line: 3, column: 1 }]);
  });

  test("where several clusters meet listeners that do not say which", () => {
    const two = `${auth}clusters:\n  a: { source: static, static: { hosts: [h] } }\n  b: { source: static, static: { hosts: [h] } }\n`;
    expect(problemsOf(two)).toMatchObject(
      [{ key: "listeners", remedy: /each with its cluster/ }].map(({ key }) => ({ key })),
    );
    expect(problemsOf(`${two}listeners: [{ name: a, port: 1, route: read }]`)).toMatchObject([
      { line: 5, key: "listeners[0].cluster", remedy: "add cluster: one of a, b" },
    ]);
  });

  test("all of a file at once, in the order of their lines", () => {
    const text = `log: { level: loud }
pool:
  default_pool_size: -1
  query_wait: 1
listeners:
  - { name: a, port: 1, route: write, fallback: none }
  - { name: a, port: 1, route: reed }
clusters:
  x: { source: etcd }
auth: { type: trusty }
client_tls: { mode: allow }
`;
    expect(problemsOf(text).map(({ line, key }) => `${line} ${key}`)).toEqual([
      "1 log.level",
      "3 pool.default_pool_size",
      "4 pool.query_wait",
      "6 listeners[0].fallback",
      "7 listeners[1].route",
      "9 clusters.x.source",
      "10 auth.type",
      "11 client_tls.mode",
    ]);
  });

  test("in a userlist by its own lines, without its secrets", () => {
    const problems = problemsOf(`${clusters}auth: { file: broken.txt }`);
    expect(problems).toHaveLength(2);
    expect(problems[0]).toMatchObject({ line: 2, key: "auth.file", message: expect.stringContaining("line 2") });
    expect(problems[1]).toMatchObject({ line: 2, key: "auth.file", message: expect.stringContaining("line 3") });
    expect(JSON.stringify(problems)).not.toContain("hunter2");
  });

  test.each([
    ...["*hunter2", "!hunter2", "!!hunter2 x", "!hunter2!x y", "!hunter2! y", "|hunter2", ">hunter2", '"a\\qhunter2"'],
    ...["x\nhunter2", "- x\nhunter2", "x\n  hunter2: x\n hunter2"],
  ])("in a password that lacks its quotes, without it: %j", (password) => {
    const problems = problemsOf(`${rest}log:\n  password: ${password}\n`);
    expect(problems.map(({ key }) => key)).toContain("");
    expect(JSON.stringify(problems)).not.toContain("hunter2");
  });

  test.each(["%YAML hunter2", "%hunter2 x"])("in a directive, without it: %s", (directive) => {
    const problems = problemsOf(`${directive}\n---\n${rest}`);
    expect(problems.map(({ line }) => line)).toContain(1);
    expect(JSON.stringify(problems)).not.toContain("hunter2");
  });

  test("in a file that is far too long, or grows by aliases, without trying it", () => {
    expect(problemsOf(`${rest}#${"x".repeat(1_048_576)}`)).toMatchObject([{ key: "", line: 1 }]);
    const level = (name: string, of: string) => `${name}: &${name} [${`*${of},`.repeat(9)}]\n`;
    const bomb = `a: &a [x,x,x]\n${level("b", "a")}${level("c", "b")}${level("d", "c")}${level("e", "d")}${rest}`;
    expect(problemsOf(bomb)).toMatchObject([{ remedy: "write the values out instead of using aliases" }]);
  });
});
