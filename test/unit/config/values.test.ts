// Durations, sizes and addresses as people write them.

import { describe, expect, test } from "vitest";
import { isHost, parseDuration, parseHostPort, parseSize } from "../../../src/config/values.ts";

describe("parseDuration", () => {
  test.each([
    [30, 30_000],
    [0, 0],
    [0.5, 500],
    ["30", 30_000],
    ["500ms", 500],
    ["30s", 30_000],
    ["30 s", 30_000],
    ["1.5s", 1500],
    ["5m", 300_000],
    ["5min", 300_000],
    ["1h", 3_600_000],
    ["2d", 172_800_000],
    ["24d", 2_073_600_000],
  ])("%s is %d ms", (written, expected) => {
    expect(parseDuration(written)).toBe(expected);
  });

  test.each([
    "",
    "s",
    "-1",
    "-1s",
    -1,
    "1x",
    "1 s s",
    "1e3",
    "0x10",
    "1,5s",
    "25d",
    1e300,
    Number.NaN,
    Number.POSITIVE_INFINITY,
  ])("%s is none", (written) => {
    expect(parseDuration(written)).toBeNull();
  });
});

describe("parseSize", () => {
  test.each([
    [0, 0],
    [1000, 1000],
    ["1000", 1000],
    ["16MB", 16_777_216],
    ["64kB", 65_536],
    ["64KB", 65_536],
    ["1.5 GB", 1_610_612_736],
    ["1TB", 1_099_511_627_776],
  ])("%s is %d bytes", (written, expected) => {
    expect(parseSize(written)).toBe(expected);
  });

  test.each(["", "MB", "-1", "16mb", "16 MiB", 1.5, "0.3B", "9999999TB"])("%s is none", (written) => {
    expect(parseSize(written)).toBeNull();
  });
});

describe("parseHostPort", () => {
  test.each([
    ["10.0.0.1:5433", { host: "10.0.0.1", port: 5433 }],
    ["10.0.0.1", { host: "10.0.0.1", port: 5432 }],
    ["db-1.example:1", { host: "db-1.example", port: 1 }],
    ["db_1", { host: "db_1", port: 5432 }],
    ["[::1]:6000", { host: "::1", port: 6000 }],
    ["[::1]", { host: "::1", port: 5432 }],
    ["/run/postgresql", { host: "/run/postgresql", port: 5432 }],
    ["/run/postgresql:5433", { host: "/run/postgresql", port: 5433 }],
  ])("%s", (written, expected) => {
    expect(parseHostPort(written, 5432)).toEqual(expected);
  });

  test.each([
    "",
    ":5432",
    "a:",
    "a:0",
    "a:65536",
    "a:b",
    "::1",
    "[a]:1",
    "[10.0.0.1]",
    "a b",
    "10.0.0",
    "256.1.1.1",
    "-a",
    "a/b",
    "/run:0",
    "/run:1:2",
  ])("%s is none", (written) => {
    expect(parseHostPort(written, 5432)).toBeNull();
  });

  test("a host name has a bound", () => {
    expect(isHost("a".repeat(63))).toBe(true);
    expect(isHost("a".repeat(64))).toBe(false);
    expect(isHost(`${"a.".repeat(127)}a`)).toBe(false);
  });
});
