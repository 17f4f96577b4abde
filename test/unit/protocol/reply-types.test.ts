// Which message types are a server's after its login.

import { describe, expect, test } from "vitest";
import { isReply } from "../../../src/protocol/reply-types.ts";

describe("a server's message after the login", () => {
  test("has one of the protocol's types, and none of the login's", () => {
    const found = Array.from({ length: 256 }, (_, type) => type).filter((type) => isReply(type));
    expect(found.map((type) => String.fromCharCode(type)).toSorted()).toEqual([..."123ACDEGHINSTVWZcdnst"]);
  });
});
