// Logins that must not succeed, and some that must, side by side with PostgreSQL: the same records, the same secrets, the same answer.
// `npm run test:auth` has all of them, with all drivers; here it is node-postgres alone, which names the SQLSTATE.

import { afterAll, beforeAll, expect, test } from "vitest";
import { accountOf } from "../auth/accounts.ts";
import { negativeCells, pairedCells } from "../auth/cell.ts";
import { type Comparison, compareAll, describeCell, judge, wordsOf } from "../auth/compare.ts";
import { differences } from "../auth/differences.ts";
import { drivers } from "../auth/drivers.ts";
import { startRouters } from "../auth/matrix.ts";
import { Site } from "../auth/site.ts";

let site: Site | null = null;
let comparisons: readonly Comparison[] = [];

beforeAll(async () => {
  site = await Site.start("auth-matrix");
  const started = site;
  // One way to the server: the others are the whole proof's.
  const cells = [...negativeCells(), ...pairedCells()].filter(({ server }) => server !== "bound");
  const accounts = cells.map((cell) => accountOf({ ...cell, serverTls: "prefer" }));
  await started.admit(accounts);
  const ways = started.ways().filter(({ name }) => name === "prefer");
  const routerOf = await startRouters(started, ways);
  comparisons = await compareAll(
    accounts,
    {
      truth: (account) => started.target(account, (account.cell.offered ? started.asked : started.askedPlain).port),
      ours: (account) => started.target(account, routerOf(account.cell).portOf(account.cell)),
    },
    drivers.filter(({ name }) => name === "node-postgres"),
  );
});

afterAll(async () => {
  await site?.remove();
});

test("are tried, refused ones and others", () => {
  const inside = comparisons.filter(({ truth }) => truth.kind === "in").length;
  expect(inside).toBeGreaterThan(10);
  expect(comparisons.length - inside).toBeGreaterThan(70);
});

test("end as they do at PostgreSQL, with its SQLSTATE and its words", () => {
  const different = comparisons.filter((each) => judge(each, differences).kind === "different");
  const shown = different.map((each) => `${describeCell(each)}: ${wordsOf(each.truth)} | ${wordsOf(each.ours)}`);
  expect(shown).toEqual([]);
});
