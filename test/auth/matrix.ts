// Client's method × stored secret × server's method × TLS on both ways, by three drivers: every cell beside PostgreSQL with the same
// record and the same secret.

import { type Account, accountOf } from "./accounts.ts";
import type { Book, Part } from "./book.ts";
import { reportTable } from "./book.ts";
import { type Cell, dimensions, negativeCells, pairedCells } from "./cell.ts";
import { type Comparison, compareAll, describeCell, judge, wordsOf } from "./compare.ts";
import { differences } from "./differences.ts";
import { drivers } from "./drivers.ts";
import { type Router, Site } from "./site.ts";

const METHODS = ["trust", "password", "md5", "scram-sha-256"] as const;

/** Why a cell cannot be run; null when it can. */
function obstacle(cell: Cell): string | null {
  if (cell.record !== "host" || !["bound", ...METHODS].includes(cell.method)) return "needs an HBA file";
  if (cell.secret === "query") return "needs auth_query";
  if (cell.server === "bound") return "needs channel binding towards servers";
  if (cell.shown !== "none") return "needs client certificates";
  if (!cell.offered) return "needs an HBA file";
  return null;
}

async function startRouters(site: Site): Promise<(cell: Cell) => Router> {
  const { server } = site.papers;
  const { userlist } = site.writeFiles();
  const ways = site.ways().filter(({ name }) => !name.endsWith("-bound"));
  const routers = new Map<string, Router>();
  for (const type of METHODS) {
    const router = await site.router(type, ways, (configuration) => {
      configuration.auth = { type, file: userlist, allow_clear_text: true };
      configuration["client_tls"] = { mode: "allow", cert_file: server.cert, key_file: server.key };
    });
    routers.set(type, router);
  }
  return (cell) => {
    const router = routers.get(cell.method === "bound" ? "scram-sha-256" : cell.method);
    if (router === undefined) throw new Error(`there is no router for ${cell.method}`);
    return router;
  };
}

/** Counts each comparison, and says what was not equal. */
export function settle(book: Book, comparisons: readonly Comparison[]): void {
  const known = new Map<string, number>();
  for (const comparison of comparisons) {
    const verdict = judge(comparison, differences);
    if (verdict.kind === "different") {
      const { truth, ours } = comparison;
      book.fail(`${describeCell(comparison)}\n  PostgreSQL: ${wordsOf(truth)}\n  pgsteer:    ${wordsOf(ours)}`);
    } else {
      book.pass();
      if (verdict.kind === "known") known.set(verdict.difference.name, (known.get(verdict.difference.name) ?? 0) + 1);
    }
  }
  for (const { name } of differences) if (!known.has(name)) book.fail(`a listed difference that is none: ${name}`);
  const rows = differences.map(({ name, reason }) => [name, String(known.get(name) ?? 0), reason]);
  if (rows.length > 0) book.say(reportTable(["known difference", "logins", "reason"], rows));
}

/** How the values of one dimension fared, driver by driver. */
function summarize(book: Book, comparisons: readonly Comparison[]): void {
  const rows: string[][] = [];
  for (const name of Object.keys(dimensions) as (keyof typeof dimensions)[]) {
    for (const value of dimensions[name]) {
      const some = comparisons.filter(({ cell }) => cell[name] === value);
      const inside = some.filter(({ truth }) => truth.kind === "in").length;
      const equal = some.filter((each) => judge(each, []).kind === "equal").length;
      rows.push([`${name} ${value}`, String(some.length), String(inside), String(some.length - inside), String(equal)]);
    }
  }
  book.say(reportTable(["", "logins", "PostgreSQL lets in", "refuses", "equal"], rows));
}

async function run(book: Book): Promise<void> {
  const site = await Site.start("auth-matrix");
  try {
    const accounts = [...pairedCells(), ...negativeCells()].map(accountOf);
    const runnable: Account[] = [];
    const reasons = new Map<string, number>();
    for (const account of accounts) {
      const reason = obstacle(account.cell);
      if (reason === null) runnable.push(account);
      else reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    }
    for (const [reason, count] of reasons) book.skip(reason, count);
    await site.admit(runnable);
    const routerOf = await startRouters(site);
    const comparisons = await compareAll(runnable, {
      truth: (account) => site.target(account, (account.cell.offered ? site.asked : site.askedPlain).port),
      ours: (account) => site.target(account, routerOf(account.cell).portOf(account.cell)),
    });
    summarize(book, comparisons);
    settle(book, comparisons);
    book.note = `${runnable.length} cells, ${comparisons.length} logins on both sides by ${drivers.map(({ name }) => name).join(", ")}`;
  } finally {
    await site.remove();
  }
}

export const matrix: Part = {
  name: "matrix",
  about: "client's method × stored secret × server's method × TLS, beside PostgreSQL",
  run,
};
