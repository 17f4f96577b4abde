import { describe, expect, test } from "vitest";
import {
  formatAddress,
  hostOf,
  isLoopback,
  isSocketDirectory,
  netAddress,
  plainAddress,
} from "../../../src/core/addresses.ts";

describe("an address", () => {
  test.each([
    ["10.0.0.1", 5432, "10.0.0.1:5432"],
    ["db1.example", 5432, "db1.example:5432"],
    ["::1", 5432, "[::1]:5432"],
    ["fe80::1%eth0", 6432, "[fe80::1%eth0]:6432"],
    ["/run/postgresql", 5432, "/run/postgresql/.s.PGSQL.5432"],
    ["/run/postgresql/", 5432, "/run/postgresql/.s.PGSQL.5432"],
  ])("of %s and %i is written %s", (host, port, written) => {
    expect(formatAddress(host, port)).toBe(written);
    if (!isSocketDirectory(host)) expect(hostOf(written)).toBe(host);
  });

  test("is a path for node:net where the host is a directory", () => {
    expect(netAddress("/tmp", 1)).toEqual({ path: "/tmp/.s.PGSQL.1" });
    expect(netAddress("::1", 1)).toEqual({ host: "::1", port: 1 });
  });

  test("of IPv4 is the same through a socket for both", () => {
    expect(["::ffff:10.0.0.1", "::FFFF:1.2.3.4", "::1", "10.0.0.1", "::ffff:a00:1"].map(plainAddress)).toEqual([
      "10.0.0.1",
      "1.2.3.4",
      "::1",
      "10.0.0.1",
      "::ffff:a00:1",
    ]);
  });

  test("of this machine is told from others", () => {
    const own = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"];
    expect([...own, "128.0.0.1", "10.0.0.1", "::2", "fe80::1", ""].filter(isLoopback)).toEqual(own);
  });
});
