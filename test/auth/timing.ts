// Whether the time, the messages or their lengths tell an unknown user from a wrong password: so many logins of each, one after the
// other, at pgsteer and at PostgreSQL with the same records. Figures are printed; what is judged is what was sent, never how fast.

import { median, percentile } from "../../bench/statistics.ts";
import { accountOf } from "./accounts.ts";
import { type Book, type Part, reportTable } from "./book.ts";
import { type Cell, cellOf } from "./cell.ts";
import { type Refusal, refused } from "./probe.ts";
import { ASKER, Site } from "./site.ts";

const LOGINS = 500;
/** Several, so that no user's own luck counts. */
const USERS = 10;
const METHODS = ["scram-sha-256", "md5", "password"] as const;

interface Question {
  /** 4096 unless said. */
  readonly iterations?: number;
  readonly method: (typeof METHODS)[number];
  readonly secret: Cell["secret"];
}

const questions: readonly Question[] = [
  { method: "scram-sha-256", secret: "scram" },
  { method: "scram-sha-256", secret: "scram", iterations: 9000 },
  { method: "scram-sha-256", secret: "plain" },
  { method: "scram-sha-256", secret: "query" },
  { method: "md5", secret: "md5" },
  { method: "md5", secret: "scram" },
  { method: "md5", secret: "query" },
  { method: "password", secret: "scram" },
  { method: "password", secret: "plain" },
];

const namesOf = ({ method, secret, iterations = 0 }: Question, kind: "known" | "dummy"): string[] =>
  Array.from({ length: USERS }, (_, index) => `${kind}_${method.replaceAll("-", "")}_${secret}_${iterations}_${index}`);

/** The chance that a login of the one is slower than one of the other: 0.5 when nothing tells them apart. */
export function overlap(left: readonly number[], right: readonly number[]): number {
  const all = [...left.map((ms) => ({ ms, isLeft: true })), ...right.map((ms) => ({ ms, isLeft: false }))];
  all.sort((a, b) => a.ms - b.ms);
  let ranks = 0;
  for (const [index, { isLeft }] of all.entries()) if (isLeft) ranks += index + 1;
  return (ranks - (left.length * (left.length + 1)) / 2) / (left.length * right.length);
}

interface Seen {
  readonly wrong: Refusal[];
  readonly unknown: Refusal[];
}

/** Logins of both kinds in turn, each time from the other one. */
async function measure(port: number, question: Question): Promise<Seen> {
  const [known, unknown] = [namesOf(question, "known"), namesOf(question, "dummy")];
  const seen: Seen = { wrong: [], unknown: [] };
  for (let index = 0; index < LOGINS; index += 1) {
    const pair = [
      { names: known, to: seen.wrong },
      { names: unknown, to: seen.unknown },
    ];
    for (const { names, to } of index % 2 === 0 ? pair : pair.toReversed()) {
      to.push(await refused(port, names[index % USERS] ?? "", "app"));
    }
  }
  return seen;
}

/** What was sent, how often. */
function kinds(refusals: readonly Refusal[]): string {
  const counts = new Map<string, number>();
  for (const { sqlstate, message, exchange } of refusals) {
    const kind = `${sqlstate} ${message}: ${exchange}`;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].map(([kind, count]) => `${count} × ${kind}`).join("; ");
}

function row(name: string, { wrong, unknown }: Seen): string[] {
  const shown = (refusals: readonly Refusal[]): string => {
    const times = refusals.map(({ ms }) => ms);
    const at = (part: number): string => (percentile(times, part) ?? 0).toFixed(2);
    return `${median(times).toFixed(2)} [${at(0.25)}..${at(0.75)}]`;
  };
  const times = (refusals: readonly Refusal[]): number[] => refusals.map(({ ms }) => ms);
  return [name, shown(wrong), shown(unknown), overlap(times(wrong), times(unknown)).toFixed(2)];
}

async function run(book: Book): Promise<void> {
  const site = await Site.start("auth-timing");
  try {
    const accounts = questions.flatMap((question) =>
      (["known", "dummy"] as const).flatMap((kind) =>
        namesOf(question, kind).map((user) => {
          const secret = kind === "known" ? question.secret : "unknown";
          return accountOf(
            cellOf(user, { method: question.method, secret, iterations: question.iterations ?? 4096, about: "timing" }),
          );
        }),
      ),
    );
    await site.admit(accounts);
    const rows: string[][] = [];
    for (const question of questions) {
      const { method, secret, iterations } = question;
      const what = `${method}, ${secret} stored${iterations === undefined ? "" : `, ${iterations} iterations`}`;
      const label = what.replaceAll(/[^a-z0-9]+/g, "-");
      // A list as there are: all of one kind.
      const own = new Set(namesOf(question, "known"));
      const { userlist } = site.writeFiles(label, ({ cell }) => own.has(cell.user));
      const router = await site.router(`pgsteer-${label}`, [{ name: "prefer", settings: {} }], (configuration) => {
        configuration.auth = {
          type: method,
          file: userlist,
          allow_clear_text: true,
          ...(secret === "query" ? ASKER : {}),
        };
      });
      const way = { server: "trust", serverTls: "prefer" } as const;
      for (const [name, port] of [
        ["pgsteer", router.portOf(way)],
        ["PostgreSQL", site.asked.port],
      ] as const) {
        const seen = await measure(port, question);
        rows.push(row(`${what}, ${name}`, seen));
        if (name === "pgsteer") {
          const [wrong, unknown] = [kinds(seen.wrong), kinds(seen.unknown)];
          book.equal(`${what}: what is sent`, unknown, wrong);
          book.equal(`${what}: refused`, /^500 × 28P01 [^;]*$/.test(wrong), true);
        }
      }
      await router.pgsteer.stop();
    }
    book.say(reportTable([`ms, ${LOGINS} of each`, "wrong password", "unknown user", "overlap"], rows));
    book.note = `overlap 0.50: nothing tells them apart`;
  } finally {
    await site.remove();
  }
}

export const timing: Part = { name: "timing", about: "unknown user against wrong password", run };
