import { describe, expect, test } from "vitest";
import { networkTest } from "../../../src/proxy/networks.ts";

describe("networks", () => {
  test.each([
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["10.0.0.7/32", "10.0.0.7", true],
    ["10.0.0.7/32", "10.0.0.8", false],
    ["fd00::/8", "fd12::1", true],
    ["fd00::/8", "fe80::1", false],
    ["0.0.0.0/0", "192.0.2.1", true],
    ["0.0.0.0/0", "::1", false],
    ["::/0", "::1", true],
    ["::/0", "", false],
  ])("%s against %s: %s", (network, address, expected) => {
    expect(networkTest([network])(address)).toBe(expected);
  });
});
