import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { sightsOf } from "./sights.ts";

const TIME = "2026-11-20T22:00:00.123Z";

test("a log's lines about the leader are read, and nothing else of it", () => {
  const directory = mkdtempSync(join(tmpdir(), "pgsteer-sights-"));
  const line = (fields: object) => JSON.stringify({ level: "info", time: TIME, ...fields });
  const lines = [
    line({ msg: "pgsteer starts", pid: 1 }),
    line({ leader: "node1", epoch: 2, timeline: 3, revision: "7", msg: "leader is writable" }),
    line({ reason: "the leader key is gone", msg: "no leader is served" }),
    line({ member: "node1", epoch: null, msg: "leader deposed: its connections are cut" }),
    line({ member: "node1", reason: "refused", msg: "cannot connect to the server" }),
    "Error: none of ours",
    '{"level":"info","ti',
    "",
  ];
  try {
    const file = join(directory, "pgsteer.log");
    writeFileSync(file, lines.join("\n"));
    const at = Date.parse(TIME);
    expect(sightsOf("pgsteer1", file)).toMatchObject([
      { router: "pgsteer1", at, what: "start", member: null },
      { what: "served", member: "node1", timeline: 3 },
      { what: "other", member: null, text: "no leader is served: the leader key is gone" },
      { what: "deposed", member: "node1", timeline: null },
    ]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
