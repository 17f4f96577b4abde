// What a client gets otherwise through the router than from PostgreSQL itself, and why: the whole list. An entry that no longer makes a
// difference anywhere is a failure, so that the list stays true.

import type { Cell } from "./cell.ts";
import type { Comparison, Difference } from "./compare.ts";

/** Whether what is stored of a user can log the router in by the server's method. */
export function canLogIn({ method, secret, server }: Cell): boolean {
  // Nobody to log in as is told apart by the server itself.
  if (server === "trust" || server === "cert" || secret === "unknown") return true;
  if (secret === "plain") return true;
  if (server === "md5") return secret === "md5" || secret === "query";
  if (server === "password" || secret === "md5") return false;
  // A SCRAM secret logs in with the keys that the client proved to have.
  return method !== "trust" && method !== "cert" && method !== "cert-map";
}

const refusedBy = (comparison: Comparison): string =>
  comparison.ours.kind === "out" ? `${comparison.ours.code ?? "-"} ${comparison.ours.message}` : "in";

export const differences: readonly Difference[] = [
  {
    name: "the server wants more than is known",
    reason:
      "PostgreSQL has only to check a client; the router has to log in itself, which an md5 hash or a SCRAM secret alone cannot do by every method",
    applies: (comparison) =>
      !canLogIn(comparison.cell) && /^(08001|-) .*but only an? .* of user .* is known/.test(refusedBy(comparison)),
  },
  {
    name: "md5 from a password in clear",
    reason:
      "PostgreSQL keeps a SCRAM secret of every password here and asks for SCRAM; the router keeps the password and asks for md5, as PgBouncer does: node-postgres notices an empty password with SCRAM alone",
    applies: ({ cell, driver, ours }) =>
      driver === "node-postgres" &&
      cell.method === "md5" &&
      cell.secret === "plain" &&
      cell.password === "empty" &&
      ours.kind === "out" &&
      ours.code === "28P01",
  },
];
