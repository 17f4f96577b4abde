import { describe, expect, test } from "vitest";
import {
  disturbance,
  openFilesMaxOf,
  parseMachineTime,
  parseOpenFilesMax,
  parseResidentBytes,
  parseStat,
  parseStatWithChildren,
  processorTimeOf,
  residentBytesOf,
} from "../../../bench/processor-time.ts";

const fields = "S 1 4242 4242 0 -1 4194560 5234 0 12 0 221 176 3 4 20 0 11 0 289012 1215950848 40123";

describe("/proc of a process", () => {
  test("has user and system time in hundredths of a second", () => {
    expect(parseStat(`4242 (node) ${fields}\n`)).toEqual({ userUs: 2_210_000, systemUs: 1_760_000 });
  });

  test("has the time of children that ended", () => {
    expect(parseStatWithChildren(`4242 (node) ${fields}\n`)).toBe(221 + 176 + 3 + 4);
  });

  test("may have blanks and parentheses in the command", () => {
    expect(parseStat(`4242 (a) S 1 (b c)) ${fields}`)).toEqual({ userUs: 2_210_000, systemUs: 1_760_000 });
  });

  test("is refused when it is cut short", () => {
    expect(() => parseStat("4242 (node) S 1 4242")).toThrow("not a line");
    expect(() => parseStat("")).toThrow("not a line");
  });

  test("has resident memory in kilobytes of 1024 bytes, unless the process is a zombie", () => {
    expect(parseResidentBytes("Name:\tnode\nVmHWM:\t  9000 kB\nVmRSS:\t  8684 kB\n")).toBe(8684 * 1024);
    expect(() => parseResidentBytes("Name:\tnode\nState:\tZ (zombie)\n")).toThrow("VmRSS");
  });

  test("has the soft limit of open files", () => {
    expect(parseOpenFilesMax("Max open files            1024                 524288               files\n")).toBe(1024);
    expect(parseOpenFilesMax("Max open files            unlimited            unlimited            files\n")).toBe(
      Number.POSITIVE_INFINITY,
    );
    expect(() => parseOpenFilesMax("Max processes 5 5 processes\n")).toThrow("open files");
  });

  test("can be read for this very process", () => {
    expect(processorTimeOf(process.pid).userUs).toBeGreaterThan(0);
    expect(residentBytesOf(process.pid)).toBeGreaterThan(1_000_000);
    expect(openFilesMaxOf("self")).toBeGreaterThan(0);
  });
});

describe("/proc/stat of the machine", () => {
  const before = parseMachineTime("cpu  100 0 50 800 10 0 5 20 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
  const after = parseMachineTime("cpu  130 0 70 830 10 0 5 40 70 0\ncpu0 9 9 9 9 9 9 9 9 9 9\n");

  test("is read for all processors together, guest time not counted twice", () => {
    expect(before).toEqual({ total: 985, busy: 150, stolen: 20 });
    expect(after).toEqual({ total: 1085, busy: 200, stolen: 40 });
  });

  test("says which share was stolen, and which went to processes that are not ours", () => {
    const measured = disturbance({ ...before, ours: 7 }, { ...after, ours: 17 });
    expect(measured).toEqual({ stolen: 0.2, others: 0.4 });
  });

  test("never says that others took less than nothing, or a share of no time", () => {
    expect(disturbance({ ...before, ours: 0 }, { ...after, ours: 60 }).others).toBe(0);
    expect(disturbance({ ...before, ours: 0 }, { ...before, ours: 0 })).toEqual({ stolen: 0, others: 0 });
  });
});
