// The driver programs: one row each. A program keeps the contract of SCENARIOS.md.

import { join } from "node:path";
import { nothingToInstall, npmToolchain, python, sourcesOf, stateOf, type Toolchain } from "./toolchains.ts";

/** A driver program: what it needs, and the command that runs it. */
export interface Driver {
  /** As in the report and in --only. */
  readonly name: string;
  readonly toolchain: Toolchain;
  readonly command: readonly [string, ...string[]];
  readonly cwd: string;
}

const node = npmToolchain("node");
const prisma = npmToolchain("prisma", [["node_modules/.bin/prisma", "generate"]]);

const inNode = (name: string, ...args: string[]): Driver => ({
  name,
  toolchain: node,
  command: [process.execPath, ...args],
  cwd: stateOf("node"),
});

const inPython = (name: string, ...args: string[]): Driver => ({
  name,
  toolchain: python,
  command: [join(stateOf("python"), "venv", "bin", "python"), "-B", ...args],
  cwd: sourcesOf("python"),
});

export const drivers: readonly Driver[] = [
  { name: "psql", toolchain: nothingToInstall, command: ["bash", "program.sh"], cwd: sourcesOf("psql") },
  inNode("node-postgres", "node-postgres.mjs"),
  inNode("postgres.js", "postgres-js.mjs"),
  inNode("drizzle-pg", "drizzle.mjs", "pg"),
  inNode("drizzle-postgres.js", "drizzle.mjs", "postgres.js"),
  { name: "prisma", toolchain: prisma, command: [process.execPath, "program.mjs"], cwd: stateOf("prisma") },
  inPython("psycopg2", "with_psycopg2.py"),
  inPython("psycopg3", "with_psycopg3.py", "sync"),
  inPython("psycopg3-async", "with_psycopg3.py", "async"),
  inPython("asyncpg", "with_asyncpg.py"),
  inPython("sqlalchemy-psycopg3", "with_sqlalchemy.py", "psycopg"),
  inPython("sqlalchemy-asyncpg", "with_sqlalchemy.py", "asyncpg"),
  inPython("django", "with_django.py"),
];
