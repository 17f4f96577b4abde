// Runs the scenarios of one Node.js driver, one after another, and reports them as SCENARIOS.md demands. What a scenario leaves
// open is dropped at its end; one that takes too long is left behind and its connections are taken from it.

const SCENARIO_MS = 20_000;

const SCENARIOS = `
simple_query multi_statement extended_query parameters_null_and_arrays named_prepared unnamed_prepared prepared_after_ddl
prepared_many pipeline cursor cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel ssl large_objects
binary_types errors error_in_transaction savepoints set_show set_local startup_options temp_tables advisory_locks
with_hold_cursor sql_prepare isolation_levels read_only_session notices backend_pid two_phase reconnect wrong_password
unknown_database concurrency pool close_midway orm_schema
`
  .trim()
  .split(/\s+/);

/** Where to connect. */
export const environment = Object.fromEntries(
  ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLROOTCERT", "SCHEMA"].map((name) => {
    const value = process.env[name];
    if (value === undefined) throw new Error(`${name} is not set`);
    return [name, value];
  }),
);
export const SCHEMA = environment.SCHEMA;
// Some drivers read these by themselves, and each scenario says what it wants.
delete process.env.PGSSLROOTCERT;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const written = (value) =>
  JSON.stringify(value, (_, each) => (typeof each === "bigint" ? `${each}n` : each === undefined ? null : each));

/** Throws unless both are written alike in JSON. */
export function equal(found, expected, what = "") {
  if (written(found) !== written(expected))
    throw new Error(
      `${what === "" ? "" : `${what}: `}${written(found)?.slice(0, 300)}, not ${written(expected).slice(0, 300)}`,
    );
}

export function check(condition, what) {
  if (!condition) throw new Error(what);
}

/** What the server said, also where an ORM has wrapped it. Codes of Prisma's own look alike: P1000 and on. */
export function sqlstateOf(error) {
  for (let each = error; each !== null && typeof each === "object"; each = each.cause) {
    const code = each.meta?.driverAdapterError?.cause?.originalCode ?? each.originalCode ?? each.code;
    if (typeof code === "string" && /^(?!P[1-9])[0-9A-Z]{5}$/.test(code)) return code;
  }
  return null;
}

/** Awaits `work`, which has to fail with `sqlstate`; returns the error. */
export async function refused(work, sqlstate) {
  let failure = null;
  try {
    await (typeof work === "function" ? work() : work);
  } catch (error) {
    failure = error;
  }
  if (failure === null) throw new Error(`no error, but ${sqlstate} was due`);
  if (sqlstateOf(failure) !== sqlstate)
    throw new Error(`${failure.message} [${sqlstateOf(failure) ?? failure.code}], not ${sqlstate}`, { cause: failure });
  return failure;
}

let opened = [];
/** Remembers a connection that the scenario has to close; `drop` closes it in any state, at once. */
export function track(connection) {
  opened.push(connection);
  return connection;
}

const describe = (error) => {
  const state = sqlstateOf(error);
  return `${error?.message ?? String(error)}${state === null ? "" : ` [${state}]`}`.slice(0, 1500);
};

async function outcomeOf(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("timed out")), SCENARIO_MS);
  });
  try {
    const running = work();
    running.catch(() => {});
    await Promise.race([running, late]);
    return { status: "passed" };
  } catch (error) {
    console.error(error);
    return { status: "failed", detail: describe(error) };
  } finally {
    clearTimeout(timer);
    const left = opened;
    opened = [];
    for (const connection of left) await Promise.resolve(connection.drop()).catch(() => {});
  }
}

/** Runs `scenarios` (functions of `driver` by name); the others have to be in `skips`, with the reason. */
export async function main(driver, scenarios, skips) {
  // What breaks outside of any promise belongs to the scenario that runs; it will time out or fail by itself.
  process.on("uncaughtException", (error) => console.error("uncaught", error));
  process.on("unhandledRejection", (error) => console.error("unhandled", error));
  const administer = (sql) => outcomeOf(async () => void (await (await driver.connect()).q(sql)));
  const asked = process.env.ONLY?.split(",") ?? SCENARIOS;
  const begun = await administer(`CREATE SCHEMA ${SCHEMA}`);
  for (const scenario of SCENARIOS.filter((name) => asked.includes(name))) {
    const work = scenarios[scenario];
    const skipped = skips[scenario];
    let outcome;
    if (begun.status !== "passed") outcome = { status: "failed", detail: `no schema: ${begun.detail}` };
    else if (skipped !== undefined) outcome = { status: "skipped", detail: skipped };
    else if (work === undefined) outcome = { status: "failed", detail: "the program has no such scenario" };
    else outcome = await outcomeOf(() => work(driver));
    await new Promise((resolve) => process.stdout.write(`${JSON.stringify({ scenario, ...outcome })}\n`, resolve));
  }
  await administer(`DROP SCHEMA ${SCHEMA} CASCADE`);
  process.exit(0);
}
