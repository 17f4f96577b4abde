// Settings of the door: Unix-domain sockets, PROXY protocol, replication, keepalive, startup parameters.

import { describe, expect, test } from "vitest";
import { SOCKET_PATH_BYTES_MAX } from "../../../src/core/limits.ts";
import { configOf, describeMistakes, listener, load, type Mistake, rest } from "./fixture.ts";

const directory = (bytes: number): string => `/${"d".repeat(bytes - 1)}`;
/** `/.s.PGSQL.1` */
const NAME_BYTES = 11;
const pool = (settings: string): string => `${rest}pool:\n  ${settings}\n`;

const http = (settings: string): string => `${rest}http: { ${settings} }\n`;

const mistakes: Mistake[] = [
  ["a short token", http("token: hunter2"), 3, "http.token", /fewer than 16 characters/, /openssl rand/],
  ["a token of several words", http('token: "sixteen or more of them"'), 3, "http.token", /no header takes/, /openssl/],
  ["two tokens", http("token: x, token_env: Y"), 3, "http.token_env", /a second time, besides token/, /one of them/],
  [
    "a token file that is not there",
    http("token_file: none"),
    3,
    "http.token_file",
    /does not exist/,
    /check the path/,
  ],
  ["an unset token", http("token_env: NONE"), 3, "http.token_env", /fewer than 16/, /openssl rand/],
  [
    "a socket whose path is too long",
    listener(`route: write, address: ${directory(SOCKET_PATH_BYTES_MAX - NAME_BYTES + 1)}`),
    4,
    "listeners[0].address",
    /more than 107 bytes/,
    /shorter/,
  ],
  [
    "a socket without a number",
    listener("route: write, address: /run").replace("port: 1", "port: 0"),
    4,
    "listeners[0].port",
    /gives its name/,
    /from 1/,
  ],
  [
    "two listeners on one socket",
    `${rest}listeners:\n  - { name: a, address: /run, port: 1, route: write }\n  - { name: b, address: /run/, port: 1, route: read }`,
    5,
    "listeners[1].port",
    /listener a listens on \/run\/\.s\.PGSQL\.1 already/,
    /another port/,
  ],
  [
    "permissions of no socket",
    listener('route: write, unix_socket_mode: "0700"'),
    4,
    "listeners[0].unix_socket_mode",
    /only for a Unix/,
    /directory/,
  ],
  [
    "permissions as a number",
    listener("route: write, address: /run, unix_socket_mode: 0700"),
    4,
    "listeners[0].unix_socket_mode",
    /must be a text/,
    /quotes/,
  ],
  [
    "permissions that are none",
    listener('route: write, address: /run, unix_socket_mode: "0888"'),
    4,
    "listeners[0].unix_socket_mode",
    /no permissions/,
    /octal/,
  ],
  [
    "a PROXY header on a socket",
    listener("route: write, address: /run, proxy_protocol: require"),
    4,
    "listeners[0].proxy_protocol",
    /no peer/,
    /remove/,
  ],
  [
    "PROXY protocol that is sometimes there",
    listener("route: write, proxy_protocol: allow"),
    4,
    "listeners[0].proxy_protocol",
    /cannot be "allow"/,
    /off, require/,
  ],
  [
    "a network that is none",
    listener("route: write, proxy_protocol: require, proxy_protocol_from: [10.0.0.0/33]"),
    4,
    "listeners[0].proxy_protocol_from[0]",
    /not a network/,
    /10\.0\.0\.0\/8/,
  ],
  [
    "replication from replicas",
    listener("route: read, replication: allow"),
    4,
    "listeners[0].replication",
    /go to the leader/,
    /another listener/,
  ],
  ["half a second of idleness", pool("tcp_keepidle: 0.5"), 4, "pool.tcp_keepidle", /whole seconds/, /seconds/],
  ["TCP_USER_TIMEOUT", pool("tcp_user_timeout: 5"), 4, "pool.tcp_user_timeout", /no way to set/, /tcp_keepidle/],
  [
    "what needs no setting",
    pool("track_extra_parameters: [search_path]"),
    4,
    "pool.track_extra_parameters",
    /not needed: whatever a client sets follows it/,
    /remove/,
  ],
  ["a directory in PgBouncer's way", `${rest}unix_socket_dir: /tmp`, 3, "unix_socket_dir", /listener/, /address/],
  ["a list that is none", pool("ignore_startup_parameters: a"), 4, "pool.ignore_startup_parameters", /a list/, /\[a/],
];

describeMistakes("at the door", mistakes);

describe("the door", () => {
  test("takes what is right", () => {
    const file = `${rest}listeners:
  - { name: local, address: /run/pgsteer, port: 6432, route: auto, unix_socket_mode: "0770", replication: refuse }
  - { name: same, address: /tmp, port: 6432, route: write }
  - { name: tcp, address: "::", port: 6432, route: write, proxy_protocol: require, proxy_protocol_from: [10.0.0.0/8, "::1"] }
pool: { tcp_keepidle: 60s, ignore_startup_parameters: [Extra_Float_Digits], application_name_add_host: true }
`;
    const { listeners, pool: pooled } = configOf(file);
    expect(listeners.map(({ unixSocketMode, replication }) => [unixSocketMode, replication])).toEqual([
      [0o770, false],
      [0o777, true],
      [0o777, true],
    ]);
    expect(listeners[2]?.proxyProtocol).toEqual({ from: ["10.0.0.0/8", "::1/128"] });
    expect(pooled).toMatchObject({
      keepAlive: { idleMs: 60_000, intervalMs: null, count: null },
      ignoreStartupParameters: ["Extra_Float_Digits"],
      applicationNameAddHost: true,
    });
    expect(configOf(pool("tcp_keepalive: false")).pool.keepAlive).toBe(null);
    const longest = listener(`route: write, address: ${directory(SOCKET_PATH_BYTES_MAX - NAME_BYTES)}`);
    expect(configOf(longest).listeners).toHaveLength(1);
  });

  test("does not call a socket a listener that other machines reach", () => {
    const loaded = load(`${listener("route: write, address: /run").replace("file: userlist.txt", "type: trust")}`);
    expect(loaded.ok && loaded.warnings.join("\n")).not.toContain("other machines");
  });
});
