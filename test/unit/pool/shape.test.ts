// Shapes of prepared statements, as servers tell them: what counts when two are compared, and who hears what.

import { describe, expect, test } from "vitest";
import { columnsOf, type Describable, Description, Shape } from "../../../src/pool/shape.ts";
import { Backend } from "../../../src/protocol/constants.ts";
import { MalformedBody } from "../../../src/protocol/reader.ts";

interface Column {
  readonly name?: string;
  readonly table?: number;
  readonly number?: number;
  readonly type?: number;
  readonly modifier?: number;
  readonly format?: number;
}

/** A RowDescription's body. */
function rows(...columns: readonly Column[]): Buffer {
  const parts = columns.map(({ name = "a", table = 1, number = 1, type = 23, modifier = -1, format = 0 }) => {
    const field = Buffer.alloc(18);
    field.writeInt32BE(table, 0);
    field.writeInt16BE(number, 4);
    field.writeInt32BE(type, 6);
    field.writeInt16BE(4, 10);
    field.writeInt32BE(modifier, 12);
    field.writeInt16BE(format, 16);
    return Buffer.concat([Buffer.from(`${name}\0`), field]);
  });
  return Buffer.concat([Buffer.from([0, columns.length]), ...parts]);
}

const shape = (...columns: readonly Column[]): Shape => {
  const body = rows(...columns);
  return new Shape(Buffer.alloc(2), columnsOf(body, 0, body.length));
};

describe("Shape", () => {
  test.each<[string, Column]>([
    ["table", { table: 2 }],
    ["column number in its table", { number: 7 }],
    ["format", { format: 1 }],
  ])("is the same whatever a column's %s", (_name, column) => {
    expect(shape({}, column).equals(shape({}, {}))).toBe(true);
  });

  test.each<[string, Column]>([
    ["name", { name: "b" }],
    ["type", { type: 25 }],
    ["modifier", { modifier: 9 }],
  ])("is another one with another %s", (_name, column) => {
    expect(shape({}, column).equals(shape({}, {}))).toBe(false);
  });

  test("is another one with more columns, no rows, no columns, or other parameters", () => {
    const [none, empty, one] = [new Shape(Buffer.alloc(2), null), shape(), shape({})];
    const parameters = new Shape(Buffer.from([0, 1, 0, 0, 0, 23]), null);
    const all = [none, empty, one, shape({}, {}), parameters];
    for (const each of all) expect(all.filter((other) => other.equals(each))).toEqual([each]);
    expect(none.equals(new Shape(Buffer.alloc(2), null))).toBe(true);
  });

  test("cannot be read from a column that is cut", () => {
    const body = rows({ name: "first" }, { name: "second" });
    for (let end = 3; end < body.length; end += 1) {
      if (end === rows({ name: "first" }).length) continue;
      expect(() => columnsOf(body, 0, end), `up to ${end}`).toThrow(MalformedBody);
    }
  });
});

describe("Description", () => {
  const subject = (): Describable => ({ shape: null, asked: false });
  const hear = (description: Description, type: number, body: Buffer) => description.hear(type, body, 0, body.length);

  test("gives its subject the shape that is heard", () => {
    const about = subject();
    const description = new Description(about, () => expect.unreachable());
    expect(about.asked).toBe(true);
    hear(description, Backend.ParameterDescription, Buffer.from([0, 1, 0, 0, 0, 23]));
    hear(description, Backend.RowDescription, rows({}));
    description.completed();
    expect([about.asked, about.shape?.parameters.length, about.shape?.columns?.length]).toEqual([false, 6, 12]);
  });

  test("knows statements without rows", () => {
    const about = subject();
    const description = new Description(about, () => {});
    hear(description, Backend.ParameterDescription, Buffer.alloc(2));
    hear(description, Backend.NoData, Buffer.alloc(0));
    expect(about.shape?.equals(new Shape(Buffer.alloc(2), null))).toBe(true);
  });

  test.each(["failed", "skipped"] as const)("says so where it %s", (ending) => {
    const about = subject();
    let told = 0;
    const description = new Description(about, () => {
      told += 1;
    });
    description[ending]();
    expect([about.asked, about.shape, told]).toEqual([false, null, 1]);
  });
});
