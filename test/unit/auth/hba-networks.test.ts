import { describe, expect, test } from "vitest";
import { addressBytes, cidrNetwork, inNetwork, maskOf } from "../../../src/auth/hba-networks.ts";

describe("an address", () => {
  test.each([
    ["10.0.0.255", "0a0000ff"],
    ["::", "00".repeat(16)],
    ["::1", `${"00".repeat(15)}01`],
    ["fd00:1::ab", "fd0000010000000000000000000000ab"],
    ["1:2:3:4:5:6:7:8", "00010002000300040005000600070008"],
    ["fe80::1%eth0", "fe800000000000000000000000000001"],
    ["64:ff9b::192.0.2.33", "0064ff9b0000000000000000c0000221"],
    ["10.0.0", null],
    ["host", null],
    ["", null],
  ])("%s is %s", (text, hex) => {
    expect(addressBytes(text)?.toString("hex") ?? null).toBe(hex);
  });

  test("is in a network by the bits under its mask", () => {
    const within = (address: string, cidr: string): boolean => {
      const [bytes, network] = [addressBytes(address), cidrNetwork(cidr)];
      if (bytes === null || network === null) throw new Error("no address");
      return inNetwork(bytes, network);
    };
    expect(within("10.1.2.3", "10.0.0.0/8")).toBe(true);
    expect(within("10.1.2.3", "10.9.9.9/8")).toBe(true);
    expect(within("11.1.2.3", "10.0.0.0/8")).toBe(false);
    expect(within("10.1.2.3", "0.0.0.0/0")).toBe(true);
    expect(within("10.1.2.3", "::/0")).toBe(false);
    expect(within("fd00::5", "fd00::/127")).toBe(false);
    expect(within("fd00::1", "fd00::/127")).toBe(true);
  });

  test("has masks of its own length", () => {
    expect(maskOf(9, 4)?.toString("hex")).toBe("ff800000");
    expect(maskOf(33, 4)).toBeNull();
    expect(cidrNetwork("10.0.0.1")).toBeNull();
  });
});
