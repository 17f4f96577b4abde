// Running without a file.

import { describe, expect, test } from "vitest";
import type { Config } from "../../../src/config/config.ts";
import { configFromUrls } from "../../../src/config/from-urls.ts";

function configOf(...urls: string[]): Config {
  const loaded = configFromUrls(urls);
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.config;
}

describe("configFromUrls", () => {
  test("makes a static cluster of the hosts", () => {
    const config = configOf("postgres://u:pw@a:1/db", "postgresql://u:pw@b,[::1]:3/db");
    expect([...config.clusters.values()]).toMatchObject([
      {
        source: {
          kind: "static",
          hosts: [
            { host: "a", port: 1 },
            { host: "b", port: 5432 },
            { host: "::1", port: 3 },
          ],
        },
        probe: { user: "u", secret: { kind: "plain", password: "pw" }, database: "db" },
        serverTls: { sslmode: "prefer" },
      },
    ]);
    expect(config.auth.type).toBe("scram-sha-256");
    expect([...config.auth.users]).toEqual([["u", { kind: "plain", password: "pw" }]]);
    expect(config.listeners.map(({ port, cluster }) => [port, config.clusters.has(cluster)])).toEqual([
      [6432, true],
      [5000, true],
      [5001, true],
    ]);
  });

  test("decodes what is encoded, takes the user's name for the database, and sslmode", () => {
    const config = configOf("postgres://a%40b:p%3A%2F%C3%A9@h?sslmode=verify-full");
    expect([...config.clusters.values()][0]).toMatchObject({
      probe: { user: "a@b", secret: { password: "p:/é" }, database: "a@b" },
      serverTls: { sslmode: "verify-full", ca: null },
    });
  });

  test.each([
    ["nothing", [], "urls", /no URL/],
    ["another scheme", ["http://u:hunter2@h"], "url 1", /not a PostgreSQL URL/],
    ["an unencoded password", ["postgres://u:hunter2@x@h"], "url 1", /not a PostgreSQL URL/],
    ["a broken encoding", ["postgres://u:hunter2%@h"], "url 1", /%/],
    ["no user", ["postgres://h/db"], "url 1", /no user/],
    ["no password", ["postgres://u@h/db"], "url 1", /no password/],
    ["no host", ["postgres://u:hunter2@/db"], "url 1", /no valid host/],
    ["a wrong port", ["postgres://u:hunter2@h:0/db"], "url 1", /no valid host/],
    [
      "another password",
      ["postgres://u:hunter2@h/db", "postgres://u:hunter3@g/db"],
      "url 2",
      /another user or password/,
    ],
    ["another database", ["postgres://u:hunter2@h/db", "postgres://u:hunter2@g/dc"], "url 2", /another database/],
    [
      "another sslmode",
      ["postgres://u:hunter2@h/db", "postgres://u:hunter2@g/db?sslmode=allow"],
      "url 2",
      /another sslmode/,
    ],
    ["a host twice", ["postgres://u:hunter2@h,h:5432/db"], "url 1", /repeats h:5432/],
    ["an unknown parameter", ["postgres://u:hunter2@h/db?options=x"], "url 1", /parameter options/],
    ["an unknown sslmode", ["postgres://u:hunter2@h/db?sslmode=requires"], "url 1", /sslmode/],
    ["an sslmode that needs a file", ["postgres://u:hunter2@h/db?sslmode=verify-ca"], "url 1", /verify-ca/],
  ])("says what is wrong with %s, and not the password", (_what, urls, key, message) => {
    const loaded = configFromUrls(urls);
    if (loaded.ok) throw new Error("accepted");
    expect(loaded.problems).toHaveLength(1);
    expect(loaded.problems[0]).toMatchObject({ key, line: 0, column: 0, message: expect.stringMatching(message) });
    expect(loaded.problems[0]?.remedy).not.toBe("");
    expect(JSON.stringify(loaded)).not.toContain("hunter");
  });
});
