// Client's method × stored secret × server's method × TLS on both ways, by three drivers: every cell beside PostgreSQL with the same
// record and the same secret.

import { accountOf } from "./accounts.ts";
import type { Book, Part } from "./book.ts";
import { reportTable } from "./book.ts";
import { type Cell, dimensions, negativeCells, pairedCells } from "./cell.ts";
import { type Comparison, compareAll, describeCell, judge, wordsOf } from "./compare.ts";
import { differences } from "./differences.ts";
import { drivers } from "./drivers.ts";
import { ASKER, type Router, Site, type Way } from "./site.ts";

/** Routers by whether they offer TLS: both go by the records that PostgreSQL has. */
export async function startRouters(site: Site, ways: readonly Way[]): Promise<(cell: Cell) => Router> {
  const { server, authority } = site.papers;
  const start = (name: string, offered: boolean): Promise<Router> => {
    const { userlist, hba, ident } = site.writeFiles(name, ({ cell }) => cell.offered === offered);
    return site.router(name, ways, (configuration) => {
      const files = { file: userlist, hba_file: hba, ident_file: ident };
      configuration.auth = { type: "hba", ...files, ...ASKER, allow_clear_text: true };
      const pair = { cert_file: server.cert, key_file: server.key };
      const believed = { ca_file: authority.ca, crl_file: authority.crl };
      if (offered) configuration["client_tls"] = { mode: "allow", ...pair, ...believed };
    });
  };
  const [encrypted, plain] = [await start("encrypted", true), await start("plain", false)];
  return (cell) => (cell.offered ? encrypted : plain);
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
    await site.admit(accounts);
    const routerOf = await startRouters(site, site.ways());
    const comparisons = await compareAll(accounts, {
      truth: (account) => site.target(account, (account.cell.offered ? site.asked : site.askedPlain).port),
      ours: (account) => site.target(account, routerOf(account.cell).portOf(account.cell)),
    });
    summarize(book, comparisons);
    settle(book, comparisons);
    book.note = `${accounts.length} cells, ${comparisons.length} logins on both sides by ${drivers.map(({ name }) => name).join(", ")}`;
  } finally {
    await site.remove();
  }
}

export const matrix: Part = {
  name: "matrix",
  about: "client's method × stored secret × server's method × TLS, beside PostgreSQL",
  run,
};
