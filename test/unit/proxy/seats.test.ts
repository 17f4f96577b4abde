// Clients at once, per database and per user.

import { describe, expect, test } from "vitest";
import { Seats } from "../../../src/proxy/seats.ts";

describe("seats", () => {
  test("are limited per database and per user, and say which limit is met", () => {
    const seats = new Seats({ databaseClients: () => 2, userClients: (name) => (name === "ann" ? 1 : 0) });
    expect(seats.take("a", "ann")).toBeNull();
    expect(seats.take("b", "ann")).toMatchObject({
      sqlstate: "53300",
      message: 'too many connections for role "ann"',
      detail: "max_user_client_connections is 1.",
    });
    expect(seats.take("a", "bob")).toBeNull();
    expect(seats.take("a", "bob")).toMatchObject({
      sqlstate: "53300",
      message: 'too many connections for database "a"',
      detail: "max_db_client_connections is 2.",
    });
    expect(seats.take("b", "bob")).toBeNull();
  });

  test("that are given back can be taken again, and a refusal takes none", () => {
    const seats = new Seats({ databaseClients: () => 1, userClients: () => 0 });
    expect(seats.take("a", "ann")).toBeNull();
    for (let count = 0; count < 3; count += 1) expect(seats.take("a", "bob")).not.toBeNull();
    seats.leave("a", "ann");
    expect(seats.take("a", "bob")).toBeNull();
  });

  test("follow new limits, without sending anybody away", () => {
    const seats = new Seats({ databaseClients: () => 0, userClients: () => 0 });
    for (let count = 0; count < 3; count += 1) expect(seats.take("a", "ann")).toBeNull();
    seats.reconfigure({ databaseClients: () => 3, userClients: () => 0 });
    expect(seats.take("a", "ann")).not.toBeNull();
    seats.leave("a", "ann");
    expect(seats.take("a", "ann")).toBeNull();
  });
});
