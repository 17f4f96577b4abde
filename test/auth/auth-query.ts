// What becomes of a user whom only auth_query knows, in order: the password is changed, runs out, the role may not log in, is dropped and
// made again; then there is no leader, then nobody at all, then all is well again. A list for people, judged by states.

import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { errorFields, frontend, RawClient, type RawMessage, startup } from "../support/raw-client.ts";
import { type Login, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";
import { type Book, type Part, reportTable } from "./book.ts";

const ASKER = { user: "asker", password: "asker-secret" } as const;
const USER = "carol";

/** How a login, and a statement behind it, ended: `in`, or SQLSTATE and words. */
async function outcomeOf(login: Login): Promise<string> {
  const client = await RawClient.open(login.port, login.host);
  try {
    client.send(startup({ user: login.user, database: login.database }));
    const last = (await client.authenticate(login.user, login.password)).at(-1);
    if (last?.type === "E") return wordsOf(last);
    if (last?.type !== "Z") return "the connection ended";
    client.send(frontend.query("SELECT 1"));
    const failed = (await client.untilReady()).find((each) => each?.type === "E");
    return failed == null ? "in" : `in; a statement: ${wordsOf(failed)}`;
  } finally {
    client.destroy();
  }
}

function wordsOf({ body }: RawMessage): string {
  const { C, M } = errorFields(body);
  return `${C} ${M}`;
}

const REFUSED = `28P01 password authentication failed for user "${USER}"`;
const WAITED = "in; a statement: 57P03 query_wait_timeout";
/** Of somebody unknown as of a wrong password: what is remembered may not be true any more. */
const NOT_NOW = "57P03 users cannot be authenticated at this time";

class Story {
  readonly #book: Book;
  readonly #pgsteer: Pgsteer;
  readonly rows: string[][] = [];
  #happened = "";

  constructor(book: Book, pgsteer: Pgsteer) {
    this.#book = book;
    this.#pgsteer = pgsteer;
  }

  happens(what: string): void {
    this.#happened = what;
  }

  /** One login, at the first attempt; what it has to come to. */
  async login(
    password: string,
    expected: string,
    route: "write" | "read" = "write",
    user: string = USER,
  ): Promise<void> {
    const outcome = await outcomeOf(this.#pgsteer.login(route, { user, password, database: APPLICATION.database }));
    this.rows.push([this.#happened, `${user}, password ${password}, ${route}`, outcome]);
    this.#book.equal(`${this.#happened}: ${user}, password ${password}, ${route}`, outcome, expected);
    this.#happened = "";
  }
}

async function changes(story: Story, book: Book, cluster: Cluster, pgsteer: Pgsteer): Promise<void> {
  const leader = await cluster.requireLeader();
  const sql = (text: string) => cluster.sql(leader, text);
  story.happens("nothing yet: there is no such role");
  await story.login("one", REFUSED);
  await sql(`CREATE ROLE ${USER} LOGIN PASSWORD 'one'`);
  story.happens("the role is made, with password one");
  await story.login("one", "in");
  await story.login("two", REFUSED);
  const old = await RawClient.login(
    pgsteer.login("write", { user: USER, password: "one", database: APPLICATION.database }),
  );
  await sql(`ALTER ROLE ${USER} PASSWORD 'two'`);
  story.happens("the password becomes two");
  await story.login("two", "in");
  await story.login("one", REFUSED);
  book.equal("who was in before stays in", await old.value("SELECT session_user"), USER);
  old.destroy();
  await sql(`ALTER ROLE ${USER} VALID UNTIL '2020-01-01'`);
  story.happens("the password has run out (VALID UNTIL)");
  await story.login("two", REFUSED);
  await sql(`ALTER ROLE ${USER} VALID UNTIL 'infinity'`);
  story.happens("it is valid again");
  await story.login("two", "in");
  await sql(`ALTER ROLE ${USER} NOLOGIN`);
  story.happens("the role may not log in (NOLOGIN)");
  await story.login("two", REFUSED);
  await sql(`ALTER ROLE ${USER} LOGIN; SET password_encryption = 'md5'; ALTER ROLE ${USER} PASSWORD 'three'`);
  story.happens("it may again; its secret is an md5 hash, which SCRAM cannot check");
  await story.login("three", REFUSED);
  await sql(`DROP ROLE ${USER}`);
  story.happens("the role is dropped");
  await story.login("three", REFUSED);
  await sql(`CREATE ROLE ${USER} LOGIN PASSWORD 'four'`);
  story.happens("it is made again, with password four");
  await story.login("four", "in");
}

/** Waits until pgsteer itself says that it writes: what follows shall be a matter of logins alone. */
async function ready({ httpUrl }: Pgsteer): Promise<void> {
  const look = async () => (await fetch(`${httpUrl}/readyz?route=write`)).status === 200;
  await waitFor(look, { timeoutMs: 60_000, intervalMs: 20, what: "pgsteer writes" });
}

async function losses(story: Story, cluster: Cluster, pgsteer: Pgsteer): Promise<void> {
  const leader = await cluster.requireLeader();
  const [replica = ""] = await cluster.replicas();
  await cluster.killNode(leader);
  story.happens("the leader's node dies: its replica is asked");
  await story.login("four", "in", "read");
  await story.login("wrong", REFUSED, "read");
  await story.login("wrong", REFUSED, "write");
  await cluster.waitFor(async () => (await cluster.leader()) === replica, 60_000, "the replica leads");
  await cluster.waitFor(
    async () => (await cluster.sql(replica, "SELECT pg_is_in_recovery() AS r")).rows[0]?.["r"] === false,
    30_000,
    "it takes writes",
  );
  await ready(pgsteer);
  story.happens("the replica leads");
  await story.login("four", "in");
  await cluster.killNode(replica);
  story.happens("its node dies, too: what was last heard counts");
  await story.login("four", WAITED);
  await story.login("wrong", NOT_NOW);
  await story.login("wrong", NOT_NOW, "write", "mallory");
  await story.login("four", WAITED);
  await cluster.startMember(replica);
  await cluster.startMember(leader);
  await cluster.waitHealthy(120_000);
  await ready(pgsteer);
  story.happens("all are back");
  await story.login("four", "in");
  await story.login("wrong", REFUSED);
}

async function run(book: Book): Promise<void> {
  const cluster = await startCluster({ members: 2 });
  try {
    const leader = await cluster.requireLeader();
    await cluster.sql(leader, `CREATE ROLE ${ASKER.user} LOGIN SUPERUSER PASSWORD '${ASKER.password}'`);
    const pgsteer = await startPgsteer(cluster, {
      ready: "sql",
      configure: (configuration) => {
        Object.assign(configuration.auth, ASKER);
        configuration.pool["query_wait_timeout"] = "2s";
      },
    });
    const asked = () => queryOnce(cluster.login(leader), "SELECT 1");
    await waitFor(asked, { timeoutMs: 10_000, what: "the leader answers" });
    const story = new Story(book, pgsteer);
    await changes(story, book, cluster, pgsteer);
    await losses(story, cluster, pgsteer);
    book.say(reportTable(["what happens", "who logs in", "what becomes of it"], story.rows));
    book.note = `${story.rows.length} logins, each at the first attempt`;
  } finally {
    await cluster.remove();
  }
}

export const authQuery: Part = {
  name: "auth-query",
  about: "passwords and roles that change, leaders that are away",
  run,
};
