// What a session keeps, on every version: settings follow their client and nobody else meets them, statements by name, what binds a
// client to its server, and what takes it all away.

import { deepStrictEqual, match, ok, strictEqual } from "node:assert/strict";
import { frontend, type RawClient } from "../support/raw-client.ts";
import type { Check, Trial } from "./trial.ts";

/** Every setting of the session as text, without those that say how one came, or that are there once PL/pgSQL was used. */
const ALL_SETTINGS = `SELECT string_agg(name || '=' || coalesce(setting, ''), E'\\n' ORDER BY name) FROM pg_settings
  WHERE name NOT IN ('application_name', 'seed') AND name !~ '^(tcp_|plpgsql)'`;

/**
 * SQL that gives every setting that an ordinary user can change another value. Left out: what ends with the transaction, what only
 * a seed or an encoding can be, what has to go with the client's connection, and what a server that had temporary tables cannot change.
 */
const CHANGES = `SELECT string_agg(format('SET %I = %L', name, other), ';') FROM (
    SELECT name, CASE vartype
      WHEN 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
      WHEN 'enum' THEN (SELECT e FROM unnest(enumvals) e WHERE e <> setting ORDER BY e LIMIT 1)
      WHEN 'integer' THEN CASE setting WHEN max_val THEN min_val ELSE max_val END
      WHEN 'real' THEN CASE setting WHEN max_val THEN min_val ELSE max_val END
      END AS other
    FROM pg_settings WHERE context = 'user'
      AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable', 'seed',
        'exit_on_error', 'temp_buffers', 'ssl_renegotiation_limit', 'default_with_oids', 'client_min_messages')
      AND name !~ '^tcp_') s
  WHERE other IS NOT NULL`;

/** Another client whose transactions fall onto all of the pool's servers, one after another, and what of `sql` they show. */
async function onAllServers(trial: Trial, sql: string): Promise<string[]> {
  const clients = await Promise.all(Array.from({ length: 4 }, () => trial.client("write")));
  const seen = [];
  for (const client of clients) await client.simple("BEGIN");
  for (const client of clients) seen.push(await client.value(sql));
  for (const client of clients) await client.simple("COMMIT");
  for (const client of clients) client.destroy();
  return seen;
}

/** Each of the client's transactions on another server than the last: somebody else holds that one meanwhile. */
async function wandering(trial: Trial, client: RawClient, look: () => Promise<void>): Promise<void> {
  const other = await trial.client("write");
  for (let round = 0; round < 3; round += 1) {
    await look();
    await other.simple("BEGIN");
    await look();
    await other.simple("COMMIT");
  }
  other.destroy();
  strictEqual(await client.value("SELECT 'alive'"), "alive");
}

async function everySetting(trial: Trial): Promise<string> {
  const direct = await trial.direct();
  const client = await trial.client("write");
  const [before] = await onAllServers(trial, ALL_SETTINGS);
  const changes = await direct.value(CHANGES);
  ok(!(await direct.simple(changes)).some((each) => each.startsWith("E")), "PostgreSQL takes all of the changes");
  ok(!(await client.simple(changes)).some((each) => each.startsWith("E")), "pgsteer passes all of the changes on");
  const wanted = (await direct.value(ALL_SETTINGS)).split("\n");
  deepStrictEqual((await client.value(ALL_SETTINGS)).split("\n"), wanted, "settings follow their client");
  for (const seen of await onAllServers(trial, ALL_SETTINGS))
    strictEqual(seen, before, "another client meets none of them");
  await wandering(trial, client, async () => {
    deepStrictEqual((await client.value(ALL_SETTINGS)).split("\n"), wanted, "settings follow their client");
  });
  await client.simple("RESET ALL");
  strictEqual(await client.value(ALL_SETTINGS), before, "RESET ALL takes them away");
  return `${changes.split(";").length} settings`;
}

/** Settings that no server declares are listed nowhere, and can be all that a row security policy looks at. */
async function customSettings(trial: Trial): Promise<undefined> {
  const client = await trial.client("write", { "app.kind": "started" });
  const shown = "SELECT concat_ws(',', current_setting('app.kind', true), current_setting('app.tenant', true))";
  await client.simple("SET app.tenant = 'seven'");
  await client.simple("SET work_mem = '9MB'");
  for (const seen of await onAllServers(trial, shown)) match(seen, /^,?$/, "another client meets none of them");
  await wandering(trial, client, async () => strictEqual(await client.value(shown), "started,seven"));
}

async function reportedSettings(trial: Trial): Promise<undefined> {
  const changes = new Map([
    ["TimeZone", "Asia/Tokyo"],
    ["DateStyle", "German, DMY"],
    ["IntervalStyle", "iso_8601"],
    ["application_name", "wanderer"],
    ["default_transaction_read_only", "on"],
    ["search_path", "pg_catalog, public"],
    ["scram_iterations", "5000"],
    ["standard_conforming_strings", "off"],
  ]);
  const [client, direct] = [await trial.client("write"), await trial.direct()];
  const reported = [...changes].filter(([name]) => direct.parameters.has(name));
  for (const [name, value] of reported) await client.simple(`SET ${name} = '${value}'`);
  for (const [name, value] of reported) await direct.simple(`SET ${name} = '${value}'`);
  for (const [name] of reported)
    strictEqual(client.parameters.get(name), direct.parameters.get(name), `${name} is told`);
  await wandering(trial, client, async () => {
    for (const [name] of reported) strictEqual(await client.value(`SHOW ${name}`), direct.parameters.get(name), name);
  });
  // Undone by a rollback, and told so.
  await client.simple("BEGIN; SET LOCAL TimeZone = 'UTC'; SET DateStyle = 'ISO'");
  await client.simple("ROLLBACK");
  strictEqual(client.parameters.get("TimeZone"), "Asia/Tokyo");
  strictEqual(await client.value("SHOW DateStyle"), direct.parameters.get("DateStyle"));
}

async function startupSettings(trial: Trial): Promise<undefined> {
  const parameters = {
    search_path: "pg_catalog",
    statement_timeout: "33s",
    options: "-c work_mem=7MB",
    "own.setting": "o",
  };
  const client = await trial.client("write", parameters);
  const shown = async (): Promise<string[]> => {
    const names = ["search_path", "statement_timeout", "work_mem", "own.setting"];
    const values = [];
    for (const name of names) values.push(await client.value(`SHOW ${name}`));
    return values;
  };
  await wandering(trial, client, async () => deepStrictEqual(await shown(), ["pg_catalog", "33s", "7MB", "o"]));
  await client.simple("SET work_mem = '9MB'; SET statement_timeout = 0");
  await client.simple("RESET work_mem; RESET statement_timeout");
  deepStrictEqual(await shown(), ["pg_catalog", "33s", "7MB", "o"]);
}

async function listens(trial: Trial): Promise<undefined> {
  for (const door of ["write", "session"] as const) {
    const [listener, other] = [await trial.client(door), await trial.client("write")];
    await listener.simple("LISTEN news");
    await other.simple("NOTIFY news, 'here'");
    const heard = await listener.next();
    strictEqual(heard?.type, "A", door);
    match(heard.body.toString("latin1", 4), /^news\0here\0$/);
    await listener.simple("UNLISTEN *");
  }
}

async function temporaryTables(trial: Trial): Promise<undefined> {
  const [one, other] = [await trial.client("write"), await trial.client("write")];
  for (const client of [one, other]) {
    deepStrictEqual(await client.simple("CREATE TEMP TABLE mine (id int)"), ["C CREATE TABLE", "Z I"]);
    await client.simple("INSERT INTO mine VALUES (1)");
  }
  for (const client of [one, other, one]) strictEqual(await client.value("SELECT count(*) FROM mine"), "1");
  one.destroy();
  other.destroy();
  for (const seen of await onAllServers(trial, "SELECT to_regclass('pg_temp.mine') IS NULL")) strictEqual(seen, "t");
}

async function advisoryLocks(trial: Trial): Promise<undefined> {
  const [one, other] = [await trial.client("write"), await trial.client("write")];
  await one.simple("SELECT pg_advisory_lock(7)");
  strictEqual(await other.value("SELECT pg_try_advisory_lock(7)"), "f");
  strictEqual(await one.value("SELECT pg_advisory_unlock(7)"), "t");
  strictEqual(await other.value("SELECT pg_try_advisory_lock(7)"), "t");
}

async function heldCursors(trial: Trial): Promise<undefined> {
  const client = await trial.client("write");
  await client.simple("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 3); COMMIT");
  await wandering(trial, client, async () => undefined);
  strictEqual(await client.value("FETCH 1 FROM c"), "1");
  await client.simple("PREPARE q AS SELECT 'prepared'");
  strictEqual(await client.value("EXECUTE q"), "prepared");
}

/** Everything that a session can have, gone after one command. */
async function discardsAll(trial: Trial): Promise<undefined> {
  const client = await trial.client("write");
  await client.simple("SET work_mem = '9MB'; CREATE TEMP TABLE gone (id int); LISTEN gone");
  client.send(frontend.parse("SELECT 'kept'", "kept"), frontend.sync());
  await client.untilReady();
  deepStrictEqual(await client.simple("DISCARD ALL"), ["C DISCARD ALL", "Z I"]);
  strictEqual(await client.value("SELECT to_regclass('pg_temp.gone') IS NULL"), "t");
  strictEqual(await client.value("SHOW work_mem"), await (await trial.direct()).value("SHOW work_mem"));
  client.send(frontend.bind("kept"), frontend.execute(), frontend.sync());
  const answer = await client.untilReady();
  ok(
    answer.some((each) => each?.type === "E"),
    "the statement is gone",
  );
  deepStrictEqual(await client.extended("SELECT 'again'", "kept"), ["1", "2", "T", "D again", "C SELECT 1", "Z I"]);
}

async function plansAfterDdl(trial: Trial): Promise<undefined> {
  await trial.superuser("CREATE TABLE shape (a int); GRANT ALL ON shape TO PUBLIC; INSERT INTO shape VALUES (1)");
  const client = await trial.client("write");
  const again = async (): Promise<string[]> => {
    client.send(frontend.bind("plan"), frontend.execute(), frontend.sync());
    return (await client.untilReady()).map((each) => each?.type ?? "EOF");
  };
  await client.extended("SELECT * FROM shape", "plan");
  deepStrictEqual(await again(), ["2", "D", "C", "Z"]);
  await trial.superuser("ALTER TABLE shape ADD COLUMN b int");
  deepStrictEqual(await again(), ["E", "Z"], "the plan is refused once");
  client.send(Buffer.from("C\0\0\0\nSplan\0", "latin1"), frontend.sync());
  await client.untilReady();
  deepStrictEqual(await client.extended("SELECT * FROM shape", "plan"), ["1", "2", "T", "D 1", "C SELECT 1", "Z I"]);
  deepStrictEqual(await again(), ["2", "D", "C", "Z"]);
  await trial.superuser("DROP TABLE shape");
}

/** A client's names work on every server; what the servers call its statements is ours. */
async function statementNames(trial: Trial): Promise<string> {
  const client = await trial.client("write");
  await client.extended("SELECT 'one' AS mark", "first");
  await client.extended("SELECT 'two' AS mark", "second");
  await wandering(trial, client, async () => {
    for (const [name, value] of [
      ["first", "one"],
      ["second", "two"],
    ] as const) {
      client.send(frontend.bind(name), frontend.execute(), frontend.sync());
      ok(
        (await client.untilReady()).some((each) => each?.type === "D" && each.body.includes(value)),
        name,
      );
    }
  });
  const names =
    "SELECT string_agg(name, ',') FROM pg_prepared_statements WHERE statement LIKE 'SELECT ''one'' AS mark%'";
  match(await client.value(names), /^pgsteer_\d+$/);
  const bound = await trial.client("session");
  await bound.extended("SELECT 'one' AS mark", "first");
  strictEqual(await bound.value(names), "first");
  // The columns that each version has can be read through it all.
  const columns = await client.value("SELECT count(*) FROM pg_prepared_statements p, LATERAL (SELECT p.*) q");
  match(columns, /^\d+$/);
  return `${await bound.value("SELECT count(*) FROM information_schema.columns WHERE table_name = 'pg_prepared_statements'")} columns`;
}

/** In session mode the session is the server's own; the next client finds nothing of it. */
async function sessionMode(trial: Trial): Promise<undefined> {
  for (let round = 0; round < 5; round += 1) {
    const client = await trial.client("session");
    strictEqual(await client.value("SELECT to_regclass('pg_temp.left_over') IS NULL"), "t");
    strictEqual(await client.value("SELECT count(*) FROM pg_prepared_statements"), "0");
    strictEqual(
      await client.value("SELECT count(*) FROM pg_settings WHERE source = 'session' AND name !~ '^transaction_'"),
      "0",
    );
    await client.simple("CREATE TEMP TABLE left_over (id int); SET work_mem = '9MB'; PREPARE left_over AS SELECT 1");
    strictEqual(await client.value("SHOW work_mem"), "9MB");
    strictEqual(await client.value("SELECT count(*) FROM left_over"), "0");
    client.destroy();
  }
}

export const sessionChecks: readonly Check[] = [
  { name: "every setting follows its client", run: everySetting },
  { name: "custom settings follow their client", run: customSettings },
  { name: "reported settings follow and are told", run: reportedSettings },
  { name: "settings of the startup packet", run: startupSettings },
  { name: "LISTEN and NOTIFY", run: listens },
  { name: "temporary tables", run: temporaryTables },
  { name: "advisory locks", run: advisoryLocks },
  { name: "cursors WITH HOLD, SQL PREPARE", run: heldCursors },
  { name: "DISCARD ALL", run: discardsAll },
  { name: "plans after DDL", run: plansAfterDdl },
  { name: "statement names", run: statementNames },
  { name: "session mode", run: sessionMode },
];
