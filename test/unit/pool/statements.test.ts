// Statements that are known apart from any server: one for each text in use, counted by their holders; and what a server has, by
// last use.

import { describe, expect, test } from "vitest";
import {
  Preparation,
  SERVER_NAME_PREFIX,
  ServerStatements,
  Statement,
  StatementRegistry,
} from "../../../src/pool/statements.ts";
import { frontend } from "../../support/raw-client.ts";

const definition = (sql: string, types = "\0\0"): Buffer => Buffer.from(`${sql}\0${types}`, "latin1");

describe("Statement", () => {
  test("is the Parse message that the client sent, under its name on servers", () => {
    const statement = new Statement("elsewhere", definition("SELECT 1"));
    expect(statement.parseMessage()).toEqual(frontend.parse("SELECT 1", "elsewhere"));
    expect(new Statement("", definition("SELECT 1")).parseMessage()).toEqual(frontend.parse("SELECT 1"));
  });

  test("keeps parameter types and bytes that are no text", () => {
    const bytes = Buffer.from("SELECT '\xff\xfe'\0\0\x02\0\0\0\x17\0\0\0\x19", "latin1");
    const message = new Statement("s", bytes).parseMessage();
    expect(message.subarray(5 + 2)).toEqual(bytes);
    expect(message.readInt32BE(1)).toBe(message.length - 1);
  });

  test("can be parsed with other parameter types than its own, and knows its own", () => {
    const types = Buffer.from("\0\x02\0\0\0\x17\0\0\0\x19", "latin1");
    const statement = new Statement("s", definition("SELECT $1, $2"));
    expect(statement.parseMessage(types)).toEqual(
      new Statement("s", Buffer.concat([Buffer.from("SELECT $1, $2\0"), types])).parseMessage(),
    );
    expect([statement.declares(types), statement.declares(Buffer.alloc(2))]).toEqual([false, true]);
  });

  test("tells its text, and none where it does not end", () => {
    expect(new Statement("", definition("SELECT 1")).text).toBe("SELECT 1");
    expect(new Statement("", definition("")).text).toBe("");
    expect(new Statement("", Buffer.from("SELECT 1")).text).toBe("");
  });
});

describe("StatementRegistry", () => {
  test("gives the same statement for the same text and types, and another one for any difference", () => {
    const registry = new StatementRegistry();
    const one = registry.hold(definition("SELECT $1"));
    expect(registry.hold(definition("SELECT $1"))).toBe(one);
    const typed = registry.hold(definition("SELECT $1", "\0\x01\0\0\0\x17"));
    const spaced = registry.hold(definition("SELECT  $1"));
    expect(new Set([one, typed, spaced].map(({ serverName }) => serverName)).size).toBe(3);
    expect(one.serverName.startsWith(SERVER_NAME_PREFIX)).toBe(true);
    expect(registry.size).toBe(3);
  });

  test("tells texts apart byte by byte", () => {
    const registry = new StatementRegistry();
    registry.hold(Buffer.from("SELECT '\xc3\xa9'\0\0\0", "latin1"));
    registry.hold(Buffer.from("SELECT '\xe9'\0\0\0", "latin1"));
    expect(registry.size).toBe(2);
  });

  test("forgets a statement with its last holder, and never gives its name again", () => {
    const registry = new StatementRegistry();
    const one = registry.hold(definition("SELECT 1"));
    registry.hold(definition("SELECT 1"));
    registry.release(one);
    expect(registry.size).toBe(1);
    registry.release(one);
    expect(registry.size).toBe(0);
    const again = registry.hold(definition("SELECT 1"));
    expect(again).not.toBe(one);
    expect(again.serverName).not.toBe(one.serverName);
  });

  test("is not moved by a release too many, of a stranger, or of a statement that has a successor", () => {
    const registry = new StatementRegistry();
    const one = registry.hold(definition("SELECT 1"));
    registry.release(one);
    registry.release(one);
    const successor = registry.hold(definition("SELECT 1"));
    registry.release(one);
    registry.release(new Statement("stranger", definition("SELECT 1")));
    expect(registry.size).toBe(1);
    expect(registry.hold(definition("SELECT 1"))).toBe(successor);
  });

  test("gives another statement for the text of one that was retired, and forgets neither too early", () => {
    const registry = new StatementRegistry();
    const stale = registry.hold(definition("SELECT 1"));
    registry.retire(stale);
    const fresh = registry.hold(definition("SELECT 1"));
    expect(fresh.serverName).not.toBe(stale.serverName);
    registry.release(stale);
    expect(registry.hold(definition("SELECT 1"))).toBe(fresh);
    registry.retire(stale);
    expect(registry.hold(definition("SELECT 1"))).toBe(fresh);
  });

  test("gives another statement for the same text in another place, and keeps count of both", () => {
    const registry = new StatementRegistry();
    const here = registry.hold(definition("SELECT 1"), "here");
    const there = registry.hold(definition("SELECT 1"), "there");
    expect(registry.hold(definition("SELECT 1"), "here")).toBe(here);
    expect(there).not.toBe(here);
    registry.release(there);
    expect(registry.size).toBe(1);
    registry.retire(here);
    expect(registry.hold(definition("SELECT 1"), "here")).not.toBe(here);
  });

  test("shares no statement that is for once", () => {
    const registry = new StatementRegistry();
    const shared = registry.hold(definition("SELECT 1"));
    const once = registry.once(definition("SELECT 1"));
    expect(once.serverName).not.toBe(shared.serverName);
    registry.release(once);
    expect(registry.size).toBe(1);
  });
});

describe("ServerStatements", () => {
  const named = (count: number) =>
    Array.from({ length: count }, (_, index) => new Statement(`s${index}`, definition(`SELECT ${index}`)));

  const plain = (statement: Statement): Preparation => new Preparation(statement, true);
  const has = (statements: ServerStatements, statement: Statement): boolean => statements.get(statement) !== null;

  const prepare = (statements: ServerStatements, ...list: Statement[]): void => {
    for (const each of list) statements.end(statements.preparing(plain(each)), true);
  };
  const close = (statements: ServerStatements, statement: Statement): void =>
    statements.end(statements.closing(statement), true);

  test("has what was prepared until it is closed", () => {
    const statements = new ServerStatements();
    const [one, other] = named(2);
    if (one === undefined || other === undefined) throw new Error("none");
    prepare(statements, one);
    expect([has(statements, one), has(statements, other), statements.size]).toEqual([true, false, 1]);
    prepare(statements, one);
    expect(statements.size).toBe(1);
    close(statements, other);
    close(statements, one);
    expect([has(statements, one), statements.size]).toEqual([false, 0]);
  });

  test("expects what is on its way, and takes back what an error refused or skipped, whatever was sent behind it", () => {
    const statements = new ServerStatements();
    const [one] = named(1);
    if (one === undefined) throw new Error("none");
    const refused = statements.preparing(plain(one));
    expect(has(statements, one)).toBe(true);
    const skipped = statements.closing(one);
    expect(has(statements, one)).toBe(false);
    const again = statements.preparing(plain(one));
    statements.end(refused, false);
    statements.end(skipped, false);
    expect(has(statements, one)).toBe(true);
    statements.end(again, true);
    expect(has(statements, one)).toBe(true);
    statements.end(statements.closing(one), false);
    expect(has(statements, one)).toBe(true);
    statements.end(statements.preparing(plain(one)), false);
    expect([has(statements, one), statements.size]).toEqual([true, 1]);
  });

  test("has the last preparation of a statement, and the one before where the last was refused or skipped", () => {
    const statements = new ServerStatements();
    const [one] = named(1);
    if (one === undefined) throw new Error("none");
    const [first, second, third] = [plain(one), plain(one), plain(one)];
    statements.end(statements.preparing(first), true);
    const [closed, again] = [statements.closing(one), statements.preparing(second)];
    expect(statements.get(one)).toBe(second);
    statements.end(closed, false);
    statements.end(again, false);
    expect(statements.get(one)).toBe(first);
    statements.end(statements.closing(one), true);
    const late = statements.preparing(third);
    statements.clear();
    statements.end(late, true);
    expect(statements.get(one)).toBe(third);
  });

  test("has a surplus only beyond the bound: what was not used for longest, whatever was asked for meanwhile", () => {
    const statements = new ServerStatements();
    const [first, second, third, unknown] = named(4);
    if (!(first && second && third && unknown)) throw new Error("none");
    prepare(statements, first, second, third);
    expect(statements.surplus(3)).toBeNull();
    expect(statements.surplus(2)).toBe(first);
    has(statements, first);
    has(statements, unknown);
    expect(statements.surplus(2)).toBe(second);
    close(statements, second);
    expect(statements.surplus(1)).toBe(third);
    expect(statements.surplus(0)).toBe(third);
    expect(new ServerStatements().surplus(0)).toBeNull();
  });

  test("has no named one left when it is cleared, but those on their way; the unnamed one is no matter of DEALLOCATE", () => {
    const statements = new ServerStatements();
    const [one, other, late] = named(3);
    if (!(one && other && late)) throw new Error("none");
    prepare(statements, one, other);
    const change = statements.preparing(plain(late));
    const unnamed = plain(new Statement("", definition("SELECT 1")));
    statements.unnamed = unnamed;
    statements.clear();
    expect([has(statements, one), has(statements, late), statements.size]).toEqual([false, true, 1]);
    statements.end(change, true);
    expect(statements.size).toBe(1);
    expect(statements.unnamed).toBe(unnamed);
  });
});
