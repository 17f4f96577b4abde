// What a listener makes of startup parameters. Their way through a real login is in test/integration.

import { describe, expect, test } from "vitest";
import { ProxyError } from "../../../src/core/errors.ts";
import { clientFacts, type StartupRules } from "../../../src/proxy/client-facts.ts";

const rules: StartupRules = { ignored: new Set(), addHost: false, replication: "allow" };
const HERE = "10.0.0.1:5555";

function facts(parameters: Readonly<Record<string, string>>, changes: Partial<StartupRules> = {}) {
  return clientFacts(new Map(Object.entries({ user: "app", ...parameters })), HERE, { ...rules, ...changes });
}

const settings = (parameters: Readonly<Record<string, string>>, changes: Partial<StartupRules> = {}) =>
  Object.fromEntries(facts(parameters, changes).settings);

function refusal(parameters: Readonly<Record<string, string>>, changes: Partial<StartupRules> = {}): ProxyError {
  try {
    facts(parameters, changes);
  } catch (error) {
    if (error instanceof ProxyError) return error;
    throw error;
  }
  throw new Error("it was taken");
}

describe("startup parameters", () => {
  test("name a user, and a database that is the user's where there is none", () => {
    expect(facts({})).toMatchObject({ user: "app", database: "app", replication: null });
    expect(facts({ database: "" }).database).toBe("app");
    expect(facts({ database: "shop" }).database).toBe("shop");
    expect(refusal({ user: "" }).sqlstate).toBe("28000");
  });

  test("that are ignored are dropped, in whatever spelling, those inside options too", () => {
    const ignored = new Set(["extra_float_digits", "some.var"]);
    const sent = { Extra_Float_Digits: "1", TimeZone: "UTC", options: "-c some.var=x -c work_mem=1MB" };
    expect(settings(sent, { ignored })).toEqual({ TimeZone: "UTC", work_mem: "1MB" });
    expect(settings({ options: "-e nonsense", a: "b" }, { ignored: new Set(["options"]) })).toEqual({ a: "b" });
    expect(settings({ extra_float_digits: "1" })).toEqual({ extra_float_digits: "1" });
  });

  test.each(["user", "database", "replication", "options"])("cannot be hidden in options: %s", (name) => {
    for (const options of [`-c ${name}=x`, `--${name}=x`, `-c a=b -c${name}=`]) {
      const words = { sqlstate: "42704", message: `unrecognized configuration parameter "${name}"` };
      expect(refusal({ options, replication: "database" })).toMatchObject(words);
      expect(refusal({ options })).toMatchObject(words);
    }
  });

  test("tell the client's address in application_name where that is asked for, as PgBouncer does", () => {
    const added = { addHost: true };
    expect(settings({ application_name: "shop" }, added)).toEqual({ application_name: `shop - ${HERE}` });
    expect(settings({ Application_Name: "shop" }, added)).toEqual({ application_name: `shop - ${HERE}` });
    expect(settings({ options: "-c application_name=x" }, added)).toEqual({ application_name: `x - ${HERE}` });
    expect(settings({}, added)).toEqual({ application_name: `app - ${HERE}` });
    expect(settings({ application_name: "" }, added)).toEqual({ application_name: `app - ${HERE}` });
  });
});

describe("replication", () => {
  test.each([
    ["false", null],
    ["Off", null],
    ["of", null],
    ["0", null],
    ["no", null],
    ["n", null],
    ["true", "physical"],
    ["T", "physical"],
    ["yes", "physical"],
    ["on", "physical"],
    ["1", "physical"],
    ["database", "database"],
  ])("%s is read as PostgreSQL reads it", (value, expected) => {
    expect(facts({ replication: value }).replication).toBe(expected);
  });

  test.each(["o", "", "Database", "2", "maybe"])("%j is refused in PostgreSQL's words", (value) => {
    expect(refusal({ replication: value })).toMatchObject({
      sqlstate: "22023",
      message: `invalid value for parameter "replication": "${value}"`,
      hint: 'Valid values are: "false", 0, "true", 1, "database".',
    });
  });

  test("is refused where the listener says so, with the way out", () => {
    const refused = { replication: { hint: "Go elsewhere." } };
    expect(refusal({ replication: "true" }, refused)).toMatchObject({ sqlstate: "0A000", hint: "Go elsewhere." });
    expect(facts({ replication: "off" }, refused).replication).toBe(null);
  });
});
