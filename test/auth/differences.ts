// What a client gets otherwise through the router than from PostgreSQL itself, and why: the whole list. An entry that no longer makes a
// difference anywhere is a failure, so that the list stays true.

import type { Cell } from "./cell.ts";
import type { Comparison, Difference } from "./compare.ts";

/** Whether the router can log in by the server's method with what is stored, and with what a client of this method shows. */
function canLogIn({ method, secret, server }: Cell): boolean {
  if (server === "trust" || server === "cert" || secret === "plain") return true;
  if (secret === "unknown") return false;
  if (server === "md5") return secret === "md5" || secret === "query";
  if (server === "password" || secret === "md5") return false;
  // A SCRAM secret logs in with the keys that the client proved to have.
  return method !== "trust" && method !== "cert" && method !== "cert-map";
}

const saidBy = ({ ours }: Comparison): string => (ours.kind === "out" ? `${ours.code ?? "-"} ${ours.message}` : "in");

export const differences: readonly Difference[] = [
  {
    name: "the server wants more than is known",
    reason:
      "PostgreSQL has only to check a client; the router has to log in itself, which an md5 hash or a SCRAM secret alone cannot do by every method",
    applies: (comparison) =>
      comparison.cell.secret !== "unknown" &&
      !canLogIn(comparison.cell) &&
      /but (only .* of user .* (is|are)|none is) known/.test(saidBy(comparison)),
  },
  {
    name: "nobody to log in as",
    reason:
      "trust and certificates let in a name that is no role; a server that asks for a password does so before it says that there is no such role",
    applies: (comparison) =>
      comparison.cell.secret === "unknown" && /the password of user .*, but none is known/.test(saidBy(comparison)),
  },
  {
    name: "may not log in, by auth_query",
    reason:
      "PostgreSQL says of a role without LOGIN, once its password is right, that it may not; PgBouncer's default query, which is pgsteer's, does not return it, so that nobody knows it",
    applies: (comparison) =>
      !comparison.cell.mayLogIn &&
      comparison.cell.secret === "query" &&
      /password authentication failed/.test(saidBy(comparison)),
  },
  {
    name: "md5 from a password in clear",
    reason:
      "PostgreSQL keeps a SCRAM secret of every password here and asks for SCRAM; the router keeps the password and asks for md5, as PgBouncer does: node-postgres notices an empty password with SCRAM alone",
    applies: (comparison) => {
      const { cell, driver } = comparison;
      const isIt = driver === "node-postgres" && cell.method === "md5" && cell.secret === "plain";
      return isIt && cell.password === "empty" && saidBy(comparison).startsWith("28P01 ");
    },
  },
  {
    name: "a certificate that is not valid",
    reason:
      "PostgreSQL ends the handshake with an alert; Node.js judges when the handshake is over, so that the client gets the reason as an error: 28000",
    applies: (comparison) =>
      ["over", "revoked", "of a stranger"].includes(comparison.cell.shown) &&
      /connection requires a valid client certificate/.test(saidBy(comparison)),
  },
  {
    name: "TLS in spite of N",
    reason:
      "postgres.js begins TLS although the server has none; PostgreSQL closes, the router says first, in clear, that this is no startup packet",
    applies: ({ cell, driver, ours }) => !cell.offered && driver === "postgres.js" && ours.kind === "out",
  },
];
