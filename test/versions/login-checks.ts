// Logging in, on every version: authentication methods, refusals, reported parameters, and the protocol's minor version.

import { deepStrictEqual, match, ok, strictEqual } from "node:assert/strict";
import { APPLICATION } from "../support/cluster.ts";
import { cstring, errorFields, int32, message, RawClient, type RawMessage, startup } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { LEGACY } from "./pair.ts";
import type { Check, Trial } from "./trial.ts";

const AUTHENTICATION = { md5: 5, sasl: 10 } as const;

/** The method that the primary itself asks a user for, and that the user then gets in through pgsteer. */
async function logsInBy(trial: Trial, as: Omit<Login, "host" | "port">, method: number): Promise<void> {
  const { port } = trial.pair.primary;
  const direct = trial.keep(await RawClient.open(port));
  direct.send(startup({ user: as.user, database: as.database }));
  const seen = await direct.authenticate(as.user, as.password);
  strictEqual(seen[0]?.body.readInt32BE(0), method, "the method that the server asks for");
  for (const door of ["write", "session", "read"] as const) {
    const client = trial.keep(await RawClient.login(trial.login(door, as)));
    strictEqual(await client.value("SELECT session_user"), as.user);
  }
}

/** SQLSTATE with which a login through pgsteer is refused. */
async function refusal(trial: Trial, as: Partial<Login>): Promise<string> {
  const login = { ...trial.login("write"), ...as };
  const client = trial.keep(await RawClient.open(login.port));
  client.send(startup({ user: login.user, database: login.database }));
  const last = (await client.authenticate(login.user, login.password)).at(-1);
  return last?.type === "E" ? (errorFields(last.body)["C"] ?? "none") : `none: ${last?.type ?? "EOF"}`;
}

/** Parameters whose values say through which address one came. */
const OWN_WAY = new Set(["application_name"]);

async function reportsTheSame(trial: Trial): Promise<string> {
  const direct = await trial.direct();
  const wanted = [...direct.parameters].filter(([name]) => !OWN_WAY.has(name)).toSorted();
  for (const door of ["write", "session", "auto"] as const) {
    const client = await trial.client(door);
    const told = [...client.parameters].filter(([name]) => !OWN_WAY.has(name)).toSorted();
    // On `auto` it is the route that is told.
    if (door !== "auto") deepStrictEqual(told, wanted, `parameters told by ${door}`);
    else
      deepStrictEqual(
        told.map(([name]) => name),
        wanted.map(([name]) => name),
      );
  }
  return String(wanted.length + OWN_WAY.size);
}

async function tellsStandby(trial: Trial): Promise<string | undefined> {
  const told = async (door: "write" | "read") => (await trial.client(door)).parameters.get("in_hot_standby") ?? "none";
  const reported = [await told("write"), await told("read")].join(" ");
  if (trial.major >= 14) strictEqual(reported, "off on");
  // Older servers report nothing, and whether they are in recovery has to be asked.
  strictEqual(await trial.value("write", "SELECT pg_is_in_recovery()"), "f");
  strictEqual(await trial.value("read", "SELECT pg_is_in_recovery()"), "t");
  return reported;
}

/** What a server makes of a minor version that is asked for. */
interface Negotiated {
  /** Body of NegotiateProtocolVersion in hex; null where it is not sent. */
  readonly counter: string | null;
  readonly keyBytes: number;
}

async function negotiate(login: Login, minor: number, options: readonly string[], trial: Trial): Promise<Negotiated> {
  const client = trial.keep(await RawClient.open(login.port));
  const pairs = {
    user: login.user,
    database: login.database,
    ...Object.fromEntries(options.map((each) => [each, "1"])),
  };
  const strings = Object.entries(pairs).flatMap(([name, value]) => [cstring(name), cstring(value)]);
  client.send(message("", int32((3 << 16) | minor), ...strings, Buffer.alloc(1)));
  const seen = await client.authenticate(login.user, login.password);
  const find = (type: string): RawMessage | undefined =>
    seen.filter((each) => each !== null).find((each) => each.type === type);
  const error = find("E");
  if (error !== undefined) throw new Error(`3.${minor} is refused: ${errorFields(error.body)["M"]}`);
  return { counter: find("v")?.body.toString("hex") ?? null, keyBytes: (find("K")?.body.length ?? 0) - 4 };
}

/** NegotiateProtocolVersion: the newest version that is served, and options that are not known. */
function counterOf(minor: number, options: readonly string[]): string {
  const names = options.map(cstring);
  return Buffer.concat([int32((3 << 16) | minor), int32(options.length), ...names]).toString("hex");
}

/** What is asked for, and what a server that knows 3.2 says to it. */
const requests = [
  { minor: 0, options: [], counter: null },
  { minor: 2, options: [], counter: null },
  { minor: 99, options: [], counter: counterOf(2, []) },
  { minor: 2, options: ["_pq_.unknown"], counter: counterOf(2, ["_pq_.unknown"]) },
] as const;

async function speaks32(trial: Trial): Promise<string> {
  const direct = trial.pair.primary.login(APPLICATION);
  const seen: string[] = [];
  for (const { minor, options, counter } of requests) {
    const asked = `3.${minor}${options.length > 0 ? " with an unknown option" : ""}`;
    const server = await negotiate(direct, minor, options, trial);
    const ours = await negotiate(trial.login("write"), minor, options, trial);
    // The router is a server of its own: it says what PostgreSQL 18 says, whatever stands behind it.
    if (trial.major >= 18) strictEqual(server.counter, counter, `PostgreSQL's own answer to ${asked}`);
    strictEqual(ours.counter, counter, `NegotiateProtocolVersion for ${asked}`);
    if (minor === 0) strictEqual(ours.keyBytes, 4, `bytes of the cancel key for ${asked}`);
    else ok(ours.keyBytes >= 4 && ours.keyBytes <= 256, `cancel key of ${ours.keyBytes} bytes for ${asked}`);
    seen.push(`${server.keyBytes}/${ours.keyBytes}`);
  }
  return `key ${seen[1]}`;
}

export const loginChecks: readonly Check[] = [
  {
    name: "is the version it should be",
    run: async (trial) => {
      const version = await trial.value("write", "SHOW server_version");
      match(version, new RegExp(`^${trial.major}\\.`));
      return version;
    },
  },
  { name: "login by SCRAM", run: async (trial) => void (await logsInBy(trial, APPLICATION, AUTHENTICATION.sasl)) },
  { name: "login by md5", run: async (trial) => void (await logsInBy(trial, LEGACY, AUTHENTICATION.md5)) },
  {
    name: "refusals",
    run: async (trial) => {
      strictEqual(await refusal(trial, { password: "wrong" }), "28P01");
      strictEqual(await refusal(trial, { user: "nobody" }), "28P01");
      strictEqual(await refusal(trial, { database: "nowhere" }), "3D000");
    },
  },
  { name: "reported parameters", run: reportsTheSame },
  { name: "in_hot_standby", run: tellsStandby },
  { name: "protocol 3.0, 3.2, 3.99", run: speaks32 },
];
