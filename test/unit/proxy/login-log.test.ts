import { beforeEach, describe, expect, test } from "vitest";
import { ProxyError } from "../../../src/core/errors.ts";
import { LOGIN_LINES_MAX } from "../../../src/core/limits.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import { LoginLog } from "../../../src/proxy/login-log.ts";
import { FakeClock } from "../../support/fake-clock.ts";

let clock: FakeClock;
let lines: Readonly<Record<string, unknown>>[];
let log: LoginLog;
const wrong = new ProxyError("password_failed", 'password authentication failed for user "x\u001b[2J"');
const who = (user: string | null = "x") => ({ listener: "write", address: "10.0.0.1:4711", user });

beforeEach(() => {
  clock = new FakeClock();
  lines = [];
  log = new LoginLog(clock, { ...silentLogger, info: (fields) => lines.push(fields) });
});

describe("refused logins in the log", () => {
  test("are one line a minute and address, which says how many it stands for", async () => {
    for (let index = 0; index < 5; index += 1) log.refused(who(), wrong, "10.0.0.1");
    expect(lines).toEqual([
      {
        address: "10.0.0.1:4711",
        user: "x",
        code: "password_failed",
        sqlstate: "28P01",
        reason: 'password authentication failed for user "x?[2J"',
      },
    ]);
    log.refused(who(null), wrong, "10.0.0.2");
    expect(lines).toHaveLength(2);
    await clock.advance(60_000);
    log.refused(who(), wrong, "10.0.0.1");
    expect(lines[2]).toMatchObject({ count: 5 });
  });

  test("are one line each where no limit applies", () => {
    for (let index = 0; index < 3; index += 1) log.refused(who(), wrong, null);
    expect(lines).toHaveLength(3);
  });

  test("name users without what a terminal would obey, and not longer than a name may be", () => {
    log.refused(who(`a\r\nb\u0000\u202e${"c".repeat(500)}`), wrong, "10.0.0.1");
    const user = String(lines[0]?.["user"]);
    expect(user).toMatch(/^a\?\?b\?\?c+…$/);
    expect(user.length).toBeLessThan(100);
  });

  test("are bounded over all addresses, minute by minute", async () => {
    for (let index = 0; index < 2 * LOGIN_LINES_MAX; index += 1) log.refused(who(), wrong, `10.0.${index}`);
    expect(lines).toHaveLength(LOGIN_LINES_MAX);
    await clock.advance(60_000);
    log.refused(who(), wrong, "10.1.0.0");
    expect(lines).toHaveLength(LOGIN_LINES_MAX + 1);
  });
});
