// What is tried: one login, by the client's method, the stored secret, the method towards the server and TLS on both ways; and what
// the client has with it. Each cell has a user of its own, by which the access rules of both sides tell it apart.

import { pairwise } from "./pairs.ts";

export const dimensions = {
  method: ["trust", "reject", "password", "md5", "scram-sha-256", "bound", "cert", "cert-map", "clientcert", "none"],
  secret: ["plain", "md5", "scram", "query", "unknown"],
  server: ["trust", "password", "md5", "scram-sha-256", "bound", "cert"],
  sslmode: ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
  record: ["host", "hostssl", "hostnossl"],
  serverTls: ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
} as const;

type Dimension = typeof dimensions;

/** What the client sends where it is asked for a password. */
export type Attempt = "right" | "wrong" | "empty";
/** What it shows where TLS is spoken. */
export type Shown = "none" | "its own" | "over" | "revoked" | "of a stranger" | "of another name";

/** One login. */
export interface Cell {
  /** Also the user's name. */
  readonly user: string;
  /** For a person: what is special about it. */
  readonly about: string;
  readonly method: Dimension["method"][number];
  readonly secret: Dimension["secret"][number];
  readonly server: Dimension["server"][number];
  readonly sslmode: Dimension["sslmode"][number];
  readonly record: Dimension["record"][number];
  readonly serverTls: Dimension["serverTls"][number];
  readonly password: Attempt;
  readonly shown: Shown;
  readonly database: "app" | "nowhere";
  /** Of a SCRAM secret. */
  readonly iterations: number;
  /** Whether the role may log in at all. */
  readonly mayLogIn: boolean;
  /** The name by which it asks for the host; the certificate is 127.0.0.1's. */
  readonly host: "127.0.0.1" | "localhost";
  /** Whether it trusts the authority that the server's certificate is of. */
  readonly trusts: boolean;
  /** Whether the server that it asks has TLS at all. */
  readonly offered: boolean;
}

const wantsCertificate = (method: Cell["method"]): boolean =>
  method === "cert" || method === "cert-map" || method === "clientcert";

/**
 * Records with certificates are hostssl's alone; SCRAM-SHA-256-PLUS and certificates need TLS towards the server too, and `allow` asks
 * for it only when the server refuses to do without.
 */
function possible(each: Pick<Cell, "method" | "server" | "record" | "serverTls">): boolean {
  if (wantsCertificate(each.method) && each.record !== "hostssl") return false;
  if (each.server === "bound") return each.serverTls !== "disable" && each.serverTls !== "allow";
  return !(each.serverTls === "disable" && each.server === "cert");
}

const usual = {
  secret: "plain",
  server: "trust",
  sslmode: "require",
  record: "host",
  serverTls: "prefer",
  password: "right",
  shown: "none",
  database: "app",
  iterations: 4096,
  mayLogIn: true,
  host: "127.0.0.1",
  trusts: true,
  offered: true,
} as const satisfies Partial<Cell>;

type Wish = Partial<Omit<Cell, "user">> & Pick<Cell, "method" | "about">;

/** Every pair of values of all dimensions, by clients that do everything right. */
function paired(): Wish[] {
  const rows = pairwise(dimensions, (row) => possible(row));
  return rows.map((row) => ({
    ...row,
    about: "pairs",
    shown: wantsCertificate(row.method) ? "its own" : "none",
  }));
}

const byPassword = ["password", "md5", "scram-sha-256"] as const;
const known = ["plain", "md5", "scram", "query"] as const;

/** The server's method by which a secret of this kind lets the router in. */
function serverFor(secret: Cell["secret"]): Cell["server"] {
  return secret === "md5" ? "md5" : secret === "scram" || secret === "query" ? "scram-sha-256" : "trust";
}

/** What does not get in, and why. */
function refused(): Wish[] {
  const cells: Wish[] = [];
  for (const method of byPassword) {
    for (const secret of known) {
      const base = { method, secret, server: serverFor(secret) } as const;
      cells.push({ ...base, about: "wrong password", password: "wrong" });
      cells.push({ ...base, about: "empty password", password: "empty" });
      cells.push({ ...base, about: "wrong database", database: "nowhere" });
    }
    cells.push({ method, secret: "unknown", about: "unknown user" });
    cells.push({ method, secret: "unknown", about: "unknown user, wrong database", database: "nowhere" });
    cells.push({ method, about: "wrong password, wrong database", password: "wrong", database: "nowhere" });
    cells.push({ method, about: "TLS missing", record: "hostssl", sslmode: "disable" });
    cells.push({ method, about: "TLS refused", record: "hostnossl" });
  }
  for (const secret of ["plain", "scram", "query"] as const) {
    const base = { method: "scram-sha-256", secret, server: serverFor(secret), mayLogIn: false } as const;
    cells.push({ ...base, about: "may not log in" });
    cells.push({ ...base, about: "may not log in, wrong password", password: "wrong" });
  }
  cells.push({ method: "trust", about: "trusted, but may not log in", mayLogIn: false });
  cells.push({ method: "bound", secret: "scram", about: "bound, wrong password", password: "wrong" });
  cells.push({ method: "bound", about: "bound, but TLS missing", sslmode: "disable" });
  cells.push({ method: "trust", secret: "unknown", about: "trusted, but unknown" });
  cells.push({ method: "trust", about: "trusted, wrong database", database: "nowhere" });
  cells.push(
    { method: "reject", about: "rejected" },
    { method: "reject", about: "rejected in clear", sslmode: "disable" },
  );
  cells.push({ method: "reject", secret: "unknown", about: "rejected, unknown" });
  cells.push(
    { method: "none", about: "no record" },
    { method: "none", about: "no record, in clear", sslmode: "disable" },
  );
  cells.push({ method: "none", secret: "unknown", about: "no record, unknown", database: "nowhere" });
  for (const method of ["cert", "cert-map", "clientcert"] as const) {
    for (const shown of ["none", "over", "revoked", "of a stranger", "of another name"] as const) {
      cells.push({ method, record: "hostssl", about: `certificate: ${shown}`, shown });
    }
    cells.push({ method, record: "hostssl", about: "certificate needed, TLS missing", sslmode: "disable" });
    cells.push({
      method,
      record: "hostssl",
      secret: "unknown",
      about: "certificate of an unknown user",
      shown: "its own",
    });
  }
  cells.push({
    method: "clientcert",
    record: "hostssl",
    about: "its certificate, wrong password",
    shown: "its own",
    password: "wrong",
  });
  // A certificate is checked also where no record asks for one.
  for (const shown of ["over", "revoked", "of a stranger"] as const) {
    cells.push({ method: "scram-sha-256", about: `certificate, unasked: ${shown}`, shown });
  }
  return [...cells, ...serverDistrusted()];
}

/** What the client refuses, and a server without TLS. */
function serverDistrusted(): Wish[] {
  const method = "scram-sha-256";
  const cells: Wish[] = [
    { method, about: "server of another authority", sslmode: "verify-ca", trusts: false },
    { method, about: "server of another authority", sslmode: "verify-full", trusts: false },
    { method, about: "server of another name, not looked at", sslmode: "verify-ca", host: "localhost" },
    { method, about: "server of another name", sslmode: "verify-full", host: "localhost" },
  ];
  for (const sslmode of dimensions.sslmode) cells.push({ method, about: "no TLS there", sslmode, offered: false });
  cells.push({ method, about: "no TLS there, wrong password", sslmode: "prefer", offered: false, password: "wrong" });
  cells.push({ method, about: "no TLS there, hostssl", sslmode: "prefer", offered: false, record: "hostssl" });
  cells.push({ method: "bound", about: "no TLS there, bound", sslmode: "prefer", offered: false });
  return cells;
}

/** A cell of somebody's own: usual but for what is wished. */
export const cellOf = (user: string, wish: Wish): Cell => ({ ...usual, ...wish, user });

function numbered(prefix: string, wishes: readonly Wish[]): Cell[] {
  return wishes.map((wish, index) => cellOf(`${prefix}${String(index + 1).padStart(3, "0")}`, wish));
}

/** Who proves nothing that the router could show to a server, which has the secret to ask for itself. */
const asked: readonly Wish[] = [
  { method: "trust", secret: "query", server: "md5", about: "asked for, though trusted" },
  {
    method: "cert",
    secret: "query",
    server: "md5",
    record: "hostssl",
    shown: "its own",
    about: "asked for, though certified",
  },
];

/** Clients that do everything right: every value beside every other. */
export const pairedCells = (): Cell[] => [...numbered("pair", paired()), ...numbered("also", asked)];
/** Clients that do one thing wrong, or meet one. */
export const negativeCells = (): Cell[] => numbered("neg", refused());
