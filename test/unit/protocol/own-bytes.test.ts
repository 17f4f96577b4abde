import { expect, test } from "vitest";
import { ownBytes } from "../../../src/protocol/own-bytes.ts";

test("keeps a few bytes without the block that they came in, and copies none that have memory of their own", () => {
  const block = Buffer.alloc(8_192, "abc");
  const own = ownBytes(block.subarray(1, 4));
  expect([own.toString(), own.buffer.byteLength]).toEqual(["bca", 3]);
  expect(ownBytes(own)).toBe(own);
  expect(ownBytes(block.subarray(8_192)).buffer.byteLength).toBe(0);
});
