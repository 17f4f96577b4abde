import { describe, expect, test } from "vitest";
import { configOf, describeMistakes, rest } from "./fixture.ts";

const limits = (settings: string): string => `${rest}limits:\n  ${settings}\n`;

describe("the section limits", () => {
  test("has room for as many logins as there may be clients, and for a thousand at least", () => {
    expect(configOf(rest).limits).toEqual({
      maxConnectionsPerAddress: 0,
      maxHalfOpen: 1_000,
      maxHalfOpenPerAddress: 1_000,
      tlsHandshakesPerSecond: 500,
      authFailuresPerMinute: 300,
      cancelsPerSecond: 100,
      unlimitedNetworks: ["127.0.0.1/32", "::1/128"],
    });
    expect(configOf(`${rest}pool: { max_client_conn: 5000 }\n`).limits.maxHalfOpen).toBe(5_000);
  });

  test("never gives one address more than all", () => {
    const config = configOf(limits("max_half_open: 10\n  max_half_open_per_address: 20"));
    expect(config.limits).toMatchObject({ maxHalfOpen: 10, maxHalfOpenPerAddress: 10 });
  });

  test("takes networks and single addresses, or none at all", () => {
    const networks = (written: string) => configOf(limits(`unlimited_networks: ${written}`)).limits.unlimitedNetworks;
    expect(networks('[10.0.0.0/8, "fd00::1"]')).toEqual(["10.0.0.0/8", "fd00::1/128"]);
    expect(networks("[]")).toEqual([]);
  });
});

describeMistakes("in limits", [
  ["no room at all", limits("max_half_open: 0"), 4, "limits.max_half_open", /./, /./],
  [
    "no network",
    limits("unlimited_networks: [here]"),
    4,
    "limits.unlimited_networks[0]",
    /not a network/,
    /10\.0\.0\.0/,
  ],
  ["a misspelt limit", limits("max_half_opened: 5"), 4, "limits.max_half_opened", /not a setting/, /max_half_open/],
]);
