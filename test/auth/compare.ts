// The same login at PostgreSQL and through the router, by every driver that can make it: what differs, and which of that is known.

import type { Account } from "./accounts.ts";
import type { Cell } from "./cell.ts";
import { type Driver, drivers } from "./drivers.ts";
import type { Outcome, Target } from "./target.ts";

/** One driver's login on both sides. */
export interface Comparison {
  readonly cell: Cell;
  readonly driver: string;
  readonly truth: Outcome;
  readonly ours: Outcome;
}

/** A difference that is meant, with its reason; `applies` names the cells, `ours` what is expected there. */
export interface Difference {
  readonly name: string;
  readonly reason: string;
  applies(comparison: Comparison): boolean;
}

export type Verdict =
  | { readonly kind: "equal" }
  | { readonly kind: "known"; readonly difference: Difference }
  | { readonly kind: "different" };

/** Where a cell's client logs in directly, and through the router. */
export interface Sides {
  truth(account: Account): Target;
  ours(account: Account): Target;
}

/** Logins at a time: they mostly wait, and a machine has few processors. */
const AT_ONCE = 4;

export async function compareAll(
  accounts: readonly Account[],
  sides: Sides,
  chosen: readonly Driver[] = drivers,
): Promise<Comparison[]> {
  const jobs = accounts.flatMap((account) => chosen.map((driver) => ({ account, driver })));
  const found: (Comparison | null)[] = Array.from({ length: jobs.length }, () => null);
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < jobs.length; index = next++) {
      const job = jobs[index];
      if (job !== undefined) found[index] = await compare(job.account, job.driver, sides);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return found.filter((each) => each !== null);
}

/** Null where the driver cannot be told to log in like that. */
async function compare(account: Account, driver: Driver, sides: Sides): Promise<Comparison | null> {
  const [truth, ours] = [sides.truth(account), sides.ours(account)];
  if (!driver.can(truth)) return null;
  return { cell: account.cell, driver: driver.name, truth: await driver.login(truth), ours: await driver.login(ours) };
}

/** What both must agree on, in words. */
export function wordsOf(outcome: Outcome): string {
  if (outcome.kind === "out") return `${outcome.code ?? "-"} ${outcome.message}`;
  return `in as ${outcome.as}${outcome.encrypted === true ? ", TLS" : outcome.encrypted === false ? ", in clear" : ""}`;
}

export function judge(comparison: Comparison, differences: readonly Difference[]): Verdict {
  if (wordsOf(comparison.truth) === wordsOf(comparison.ours)) return { kind: "equal" };
  const difference = differences.find((each) => each.applies(comparison));
  return difference === undefined ? { kind: "different" } : { kind: "known", difference };
}

/** A cell in one line, for a person. */
export function describeCell({ cell, driver }: Pick<Comparison, "cell" | "driver">): string {
  const tls = `sslmode=${cell.sslmode} ${cell.record} server_tls=${cell.serverTls}`;
  return `${cell.user} ${driver}: ${cell.about}; ${cell.method} from ${cell.secret}, server ${cell.server}; ${tls}`;
}
