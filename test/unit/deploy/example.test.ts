// The configuration that people start from must itself be right.

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";

describe("deploy/pgsteer.yaml", () => {
  test("is accepted without a problem or a warning", () => {
    const readFile = (path: string): string => {
      if (path.endsWith("userlist.txt")) return '"app" "secret"\n';
      throw new Error(`reads ${path}`);
    };
    const env = { PGSTEER_PROBE_PASSWORD: "secret" };
    const text = readFileSync("deploy/pgsteer.yaml", "utf8");
    const loaded = loadConfig(text, "deploy/pgsteer.yaml", readFile, env, () => []);
    expect(loaded).toMatchObject({ ok: true, warnings: [] });
  });
});
