import { describe, expect, test } from "vitest";
import { heldTopology } from "../../../src/proxy/held-topology.ts";
import { topology } from "../metrics/fixture.ts";

const readable = (held: ReturnType<typeof topology>) =>
  [...held.members.values()].filter((member) => member.readable).map(({ name }) => name);

describe("a topology under a hold", () => {
  test("is itself where nothing is held", () => {
    const now = topology();
    expect(heldTopology(now, "nothing", "")).toBe(now);
  });

  test("has a leader that drains, and reads on the others only", () => {
    const held = heldTopology(topology(), "leader", "a switchover");
    expect(held.leader).toMatchObject({ kind: "draining", member: "a", reason: "a switchover" });
    expect(readable(held)).toEqual(["b", "c"]);
  });

  test("has nobody to read from while everything is held", () => {
    const held = heldTopology(topology(), "everything", "paused");
    expect(readable(held)).toEqual([]);
    expect(held.members.get("b")?.reason).toBe("paused");
  });

  test("keeps what is worse", () => {
    const none = topology({ kind: "none", reason: "nobody holds the leader key" });
    expect(heldTopology(none, "everything", "paused").leader).toBe(none.leader);
  });
});
