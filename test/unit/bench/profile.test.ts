import { describe, expect, test } from "vitest";
import { selfTimes } from "../../../bench/profile.ts";

const node = (id: number, functionName: string, url = "", lineNumber = -1) => ({
  id,
  callFrame: { functionName, scriptId: "0", url, lineNumber, columnNumber: 1 },
  hitCount: 0,
});

describe("a profile of processor time", () => {
  test("says which functions the time awake went to, the calls of one function together", () => {
    const profile = {
      nodes: [
        node(1, "(root)"),
        node(2, "(idle)"),
        node(3, "writeBuffer"),
        node(4, "flush", "file:///home/me/pgsteer/src/protocol/transport.ts", 89),
        node(5, "writeBuffer"),
      ],
      samples: [2, 3, 4, 5, 2],
      timeDeltas: [7, 1000, 600, 300, 100],
    };
    expect(selfTimes(JSON.stringify(profile), 9)).toEqual([
      { where: "writeBuffer", share: 0.7 },
      { where: "flush src/protocol/transport.ts:90", share: 0.3 },
    ]);
    expect(selfTimes(JSON.stringify(profile), 1)).toHaveLength(1);
  });

  test("of a process that only slept is empty", () => {
    expect(selfTimes(JSON.stringify({ nodes: [node(1, "(idle)")], samples: [1], timeDeltas: [5] }), 9)).toEqual([]);
  });
});
