// TLS on both sides: what clients may ask for in each mode of client_tls, what they can verify, and what server_tls demands of
// PostgreSQL in each sslmode. Certificates are made for the test.

import { chownSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Authority, type CertificateFiles } from "../support/authority.ts";
import { makeCertificates } from "../support/certificates.ts";
import { APPLICATION, type Cluster, PROBE, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { temporaryServerDirectory } from "../support/processes.ts";
import { psql } from "../support/programs.ts";
import { cstring, errorFields, int32, message, outline, RawClient, startup } from "../support/raw-client.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let cluster: Cluster;
let right = "";
let wrong = "";

beforeAll(async () => {
  const directory = temporaryServerDirectory("tls");
  right = join(directory, "right");
  wrong = join(directory, "wrong");
  for (const each of [right, wrong]) {
    mkdirSync(each);
    await makeCertificates(each);
  }
  // PostgreSQL wants its key for itself.
  const { uid, gid } = statSync(directory);
  chownSync(join(right, "server.key"), uid, gid);
  cluster = await startCluster({
    directory,
    members: 1,
    postgres: {
      parameters: {
        ssl: "on",
        ssl_cert_file: join(right, "server.crt"),
        ssl_key_file: join(right, "server.key"),
        ssl_ca_file: join(right, "ca.crt"),
      },
      hba: [
        "hostssl all client 127.0.0.0/8 cert",
        "hostnossl all client 127.0.0.0/8 reject",
        "hostnossl all encrypted 127.0.0.0/8 reject",
        "hostssl all clear 127.0.0.0/8 reject",
      ],
    },
  });
  await cluster.sql(
    "node1",
    "CREATE ROLE client LOGIN; CREATE ROLE encrypted LOGIN PASSWORD 'encrypted'; CREATE ROLE clear LOGIN PASSWORD 'clear'",
  );
});

afterAll(async () => {
  await cluster?.remove();
});

describe("a client", () => {
  const modes = ["disable", "allow", "prefer", "require"] as const;
  const routers = new Map<string, Pgsteer>();

  beforeAll(async () => {
    for (const mode of modes) {
      const files = { cert_file: join(right, "server.crt"), key_file: join(right, "server.key") };
      const router = await startPgsteer(cluster, {
        name: `client-${mode}`,
        ready: "http",
        configure: (configuration) => {
          configuration["client_tls"] = mode === "disable" ? { mode } : { mode, ...files };
        },
      });
      routers.set(mode, router);
    }
  });

  const router = (mode: string): Pgsteer => {
    const found = routers.get(mode);
    if (found === undefined) throw new Error(`no router for ${mode}`);
    return found;
  };

  /** How psql fares: `TLS`, `clear`, or what it said. */
  async function fares(mode: string, env: Readonly<Record<string, string>>): Promise<string> {
    const { code, stdout, stderr } = await psql(router(mode).login("write"), ["-c", "SELECT 1", "-c", "\\conninfo"], {
      env,
    });
    if (code !== 0) return stderr.replaceAll(/\s+/g, " ");
    return stdout.includes("SSL connection (protocol: TLSv1.3") ? "TLS" : "clear";
  }

  test.each([
    ["disable", "disable", "clear"],
    ["disable", "prefer", "clear"],
    ["disable", "require", /server does not support SSL, but SSL was required/],
    ["allow", "disable", "clear"],
    ["allow", "require", "TLS"],
    ["prefer", "disable", "clear"],
    ["prefer", "prefer", "TLS"],
    ["require", "disable", /FATAL: connection requires TLS/],
    ["require", "allow", "TLS"],
    ["require", "require", "TLS"],
  ])("under client_tls.mode %s with sslmode=%s is served: %s", async (mode, sslmode, expected) => {
    const outcome = await fares(mode, { PGSSLMODE: sslmode });
    if (typeof expected === "string") expect(outcome).toBe(expected);
    else expect(outcome).toMatch(expected);
  });

  test("can verify the certificate, and the name in it", async () => {
    const root = (directory: string) => ({ PGSSLROOTCERT: join(directory, "ca.crt") });
    expect(await fares("require", { PGSSLMODE: "verify-ca", ...root(right) })).toBe("TLS");
    expect(await fares("require", { PGSSLMODE: "verify-full", ...root(right) })).toBe("TLS");
    expect(await fares("require", { PGSSLMODE: "verify-ca", ...root(wrong) })).toMatch(/certificate verify failed/);
    const elsewhere = { PGHOST: "localhost", PGHOSTADDR: "127.0.0.1", ...root(right) };
    expect(await fares("require", { PGSSLMODE: "verify-ca", ...elsewhere })).toBe("TLS");
    expect(await fares("require", { PGSSLMODE: "verify-full", ...elsewhere })).toMatch(
      /does not match host name "localhost"/,
    );
  });

  test("can bind its SCRAM exchange to the connection", async () => {
    const binding = { PGSSLMODE: "require", PGCHANNELBINDING: "require" };
    expect(await fares("require", binding)).toBe("TLS");
    expect(await fares("disable", { ...binding, PGSSLMODE: "prefer" })).toMatch(/channel binding required/);
  });

  test("gets every byte of 20 MB, and can send as many", async () => {
    const login = router("require").login("write");
    const env = { PGSSLMODE: "require" };
    const sum = "SELECT count(*), sum(hashtext(line)::bigint) FROM wide";
    const make = "CREATE UNLOGGED TABLE wide AS SELECT n || repeat('x', 1000) AS line FROM generate_series(1, 20000) n";
    await queryOnce(cluster.login("node1", APPLICATION), make);
    const file = join(cluster.directory, "wide.txt");
    expect(await psql(login, ["-c", `\\copy wide to '${file}'`], { env })).toMatchObject({ code: 0, stderr: "" });
    const before = await psql(login, ["-c", sum], { env });
    expect(before.stdout).toMatch(/^20000\|/);
    const back = ["-c", "TRUNCATE wide", "-c", `\\copy wide from '${file}'`, "-c", sum];
    expect(await psql(login, back, { env })).toMatchObject({ code: 0, stdout: before.stdout });
  });

  test("that sends bytes in clear behind its SSLRequest is ended, and they are not parsed", async () => {
    const client = await RawClient.open(router("prefer").ports.write);
    client.send(message("", int32(80_877_103)), startup({ user: "app", database: "app" }));
    const seen = await client.untilEnd();
    expect(outline(seen)).toEqual(["E FATAL 08P01", "EOF"]);
    expect(errorFields(seen[0]?.body ?? Buffer.alloc(0))["M"]).toBe("received unencrypted data after SSLRequest");
  });

  test("is answered N where there is no TLS, or no GSSAPI, and goes on in clear", async () => {
    for (const [mode, code] of [
      ["disable", 80_877_103],
      ["disable", 80_877_104],
      ["prefer", 80_877_104],
    ] as const) {
      const client = await RawClient.open(router(mode).ports.write);
      client.send(message("", int32(code)));
      expect((await client.bytes(1)).toString()).toBe("N");
      client.send(startup({ user: APPLICATION.user, database: APPLICATION.database }));
      expect((await client.authenticate(APPLICATION.user, APPLICATION.password)).at(-1)?.type).toBe("Z");
      client.destroy();
    }
  });

  test("that breaks off the handshake harms nobody", async () => {
    const client = await RawClient.open(router("require").ports.write);
    client.send(message("", int32(80_877_103)));
    expect((await client.bytes(1)).toString()).toBe("S");
    client.send(Buffer.from("this is no handshake"), cstring("at all"));
    await client.untilEnd().catch(() => []);
    const half = await RawClient.open(router("require").ports.write);
    half.send(message("", int32(80_877_103)));
    await half.bytes(1);
    half.socket.resetAndDestroy();
    expect(await fares("require", { PGSSLMODE: "require" })).toBe("TLS");
    expect(router("require").process.alive()).toBe(true);
  });
});

describe("certificates that are exchanged while pgsteer runs", () => {
  let pgsteer: Pgsteer;
  let authority: Authority;
  let directory = "";
  const live = new Set<TLSSocket>();
  const at = (name: string): string => join(directory, name);
  const logged = (words: string): number => readFileSync(pgsteer.log, "utf8").split(words).length - 1;

  /** Puts a certificate and its key where pgsteer looks for them. */
  const install = (files: CertificateFiles): void => {
    writeFileSync(at("now.crt"), readFileSync(files.cert));
    writeFileSync(at("now.key"), readFileSync(files.key), { mode: 0o600 });
  };

  async function taken(words: string, change: () => void | Promise<void>): Promise<void> {
    const before = logged(words);
    await change();
    await waitFor(() => logged(words) > before, { timeoutMs: 20_000, intervalMs: 20, what: words });
  }

  beforeAll(async () => {
    directory = join(temporaryServerDirectory("rotation"), "ca");
    authority = await Authority.found(directory);
    for (const name of ["old", "new"]) await authority.issue({ name, names: "IP:127.0.0.1" });
    await authority.issue({ name: "named", names: "DNS:named.test" });
    await authority.issue({ name: "app" });
    install({ cert: at("old.crt"), key: at("old.key") });
    pgsteer = await startPgsteer(cluster, {
      name: "rotating",
      configure: (configuration) => {
        configuration.pool["max_client_conn"] = 200;
        configuration["client_tls"] = {
          mode: "verify-full",
          cert_file: at("now.crt"),
          key_file: at("now.key"),
          ca_file: authority.ca,
          crl_file: authority.crl,
          sni: { "named.test": { cert_file: at("named.crt"), key_file: at("named.key") } },
        };
      },
    });
  });

  afterAll(async () => {
    for (const socket of live) socket.destroy();
    await pgsteer?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  /** A client that is logged in, over TLS. */
  async function loggedIn(): Promise<Client> {
    const credentials = { cert: readFileSync(at("app.crt")), key: readFileSync(at("app.key")) };
    const client = new Client({ ...pgsteer.login("write"), ssl: { rejectUnauthorized: false, ...credentials } });
    client.on("error", () => {});
    await client.connect();
    return client;
  }

  /** psql, with channel_binding=require and all that is to be verified. */
  async function fares(env: Readonly<Record<string, string>> = {}, host = "127.0.0.1"): Promise<string> {
    const files = { PGSSLROOTCERT: authority.ca, PGSSLCERT: at("app.crt"), PGSSLKEY: at("app.key") };
    const login = { ...pgsteer.login("write"), host };
    const wanted = { PGHOSTADDR: "127.0.0.1", PGSSLMODE: "verify-full", PGCHANNELBINDING: "require", ...files, ...env };
    const { code, stderr } = await psql(login, ["-c", "SELECT 1"], { env: wanted });
    return code === 0 ? "ok" : stderr.replaceAll(/\s+/g, " ");
  }

  /** The name in the certificate that a new connection is shown. */
  function shown(): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connectTls({
        host: "127.0.0.1",
        port: pgsteer.ports.write,
        rejectUnauthorized: false,
        ALPNProtocols: ["postgresql"],
      });
      live.add(socket);
      socket.once("secureConnect", () => {
        resolve(socket.getPeerX509Certificate()?.subject ?? "none");
        socket.destroy();
      });
      socket.on("error", reject);
    });
  }

  test("harm none of 100 clients; new ones get the new certificate, and bind their login to it", async () => {
    const clients = await Promise.all(Array.from({ length: 100 }, loggedIn));
    expect([await shown(), await fares()]).toEqual(["CN=old", "ok"]);
    // One file after the other: in between they do not belong together.
    await taken("cannot be used", () => writeFileSync(at("now.crt"), readFileSync(at("new.crt"))));
    expect([await shown(), await fares()]).toEqual(["CN=old", "ok"]);
    await taken("are in force", () => install({ cert: at("new.crt"), key: at("new.key") }));
    expect([await shown(), await fares()]).toEqual(["CN=new", "ok"]);
    const answers = await Promise.all(clients.map((client) => client.query("SELECT 1 AS one")));
    expect(answers.filter(({ rows }) => rows[0]?.one === 1)).toHaveLength(100);
    await Promise.all(clients.map((client) => client.end()));
  });

  test("are chosen by the name that a client asks for, whose login is bound to that one", async () => {
    expect(await fares({}, "named.test")).toBe("ok");
    expect(await fares({ PGSSLSNI: "0" }, "named.test")).toMatch(/does not match host name "named.test"/);
  });

  test("are demanded of clients, valid and not revoked, as soon as the list says so", async () => {
    const without = { PGSSLCERT: "/nowhere", PGSSLKEY: "/nowhere" };
    expect(await fares(without)).toMatch(/FATAL: connection requires a valid client certificate/);
    expect(await fares({ PGSSLMODE: "disable", PGCHANNELBINDING: "disable" })).toMatch(
      /FATAL: connection requires TLS/,
    );
    expect(await fares()).toBe("ok");
    await taken("are in force", () => authority.revoke("app"));
    for (const name of ["127.0.0.1", "named.test"]) {
      expect(await fares({}, name)).toMatch(/FATAL: connection requires a valid client certificate/);
    }
  });

  test("that fail in a handshake are counted, and logged with the client's address", async () => {
    const foreign = await fares({ PGSSLROOTCERT: join(right, "ca.crt") });
    expect(foreign).toMatch(/certificate verify failed/);
    await waitFor(() => logged("TLS handshake failed") > 0, { timeoutMs: 5000, what: "it is logged" });
    expect(readFileSync(pgsteer.log, "utf8")).toMatch(/"address":"127\.0\.0\.1:\d+","code":"tls_handshake_failed"/);
    const metrics = await (await fetch(`${pgsteer.httpUrl}/metrics`)).text();
    expect(metrics).toMatch(/code="tls_handshake_failed"[^\n]* [1-9]/);
  });
});

describe("towards PostgreSQL", () => {
  const userlist = { client: "unused", encrypted: "encrypted", clear: "clear" };

  /** A pgsteer with these settings of server_tls. */
  async function router(name: string, tls: Readonly<Record<string, string>>): Promise<Pgsteer> {
    return startPgsteer(cluster, {
      name: `server-${name}`,
      ready: "none",
      users: userlist,
      configure: (configuration) => {
        const demo = configuration.clusters["demo"];
        if (demo !== undefined) demo["server_tls"] = tls;
        configuration.pool["query_wait_timeout"] = "2s";
      },
    });
  }

  /** Whether a server connection of `user` is encrypted; the error's SQLSTATE and DETAIL or text when there is none. */
  async function encrypted(of: Pgsteer, user: string = APPLICATION.user, password: string = APPLICATION.password) {
    const statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    const login = { ...of.login("write"), user, password };
    await waitFor(() => fetch(`${of.httpUrl}/livez`), { timeoutMs: 30_000, what: "it listens" });
    try {
      return (await queryOnce(login, statement)).rows[0]?.["ssl"];
    } catch (error) {
      const fields = error as { code?: string; detail?: string; message?: string };
      return `${fields.code} ${fields.message} ${fields.detail ?? ""}`;
    }
  }

  test.each([
    ["disable", false],
    ["allow", false],
    ["prefer", true],
    ["require", true],
  ])("sslmode %s without a CA: encrypted is %s", async (sslmode, expected) => {
    const of = await router(sslmode, { sslmode });
    expect(await encrypted(of)).toBe(expected);
    if (sslmode === "allow") {
      expect(await encrypted(of, "encrypted", "encrypted")).toBe(true);
      expect(await encrypted(of, "clear", "clear")).toBe(false);
    }
    if (sslmode === "prefer") {
      expect(await encrypted(of, "encrypted", "encrypted")).toBe(true);
      expect(await encrypted(of, "clear", "clear")).toBe(false);
    }
    if (sslmode === "disable")
      expect(await encrypted(of, "encrypted", "encrypted")).toMatch(/^28000 .*rejects connection/);
    if (sslmode === "require") expect(await encrypted(of, "clear", "clear")).toMatch(/^28000 .*rejects connection/);
    await of.stop();
  });

  test.each(["require", "verify-ca", "verify-full"])("sslmode %s with the right CA", async (sslmode) => {
    const of = await router(`${sslmode}-right`, { sslmode, ca_file: join(right, "ca.crt") });
    expect(await encrypted(of)).toBe(true);
    await of.stop();
  });

  test.each(["require", "verify-ca", "verify-full"])(
    "sslmode %s with another CA refuses, and says why",
    async (sslmode) => {
      const of = await router(`${sslmode}-wrong`, { sslmode, ca_file: join(wrong, "ca.crt") });
      expect(await encrypted(of)).toMatch(/^57P03 query_wait_timeout .*certificate/);
      await of.stop();
    },
  );

  test("shows its own certificate where PostgreSQL asks for one", async () => {
    const files = { cert_file: join(right, "client.crt"), key_file: join(right, "client.key") };
    const of = await router("cert", { sslmode: "verify-full", ca_file: join(right, "ca.crt"), ...files });
    expect(await encrypted(of, "client", "unused")).toBe(true);
    await of.stop();
  });

  test("sslmode require refuses a server without TLS, prefer takes it as it is", async () => {
    let postgres: Postgres | null = null;
    try {
      postgres = await startPostgres("no-tls");
      const { port, login } = postgres;
      await queryOnce(login, `CREATE ROLE ${APPLICATION.user} LOGIN`);
      await queryOnce(login, `CREATE DATABASE ${APPLICATION.database}`);
      await queryOnce(login, `CREATE ROLE ${PROBE.user} LOGIN IN ROLE pg_monitor`);
      const outcome: unknown[] = [];
      let topology = "";
      for (const sslmode of ["prefer", "require"]) {
        const of = await startPgsteer(cluster, {
          name: `plain-${sslmode}`,
          ready: "none",
          configure: (configuration) => {
            const probe = configuration.clusters["demo"]?.["probe"];
            const hosts = [`127.0.0.1:${port}`];
            configuration.clusters["demo"] = { source: "static", static: { hosts }, probe, server_tls: { sslmode } };
            configuration.pool["query_wait_timeout"] = "2s";
          },
        });
        outcome.push(await encrypted(of));
        topology = await (await fetch(`${of.httpUrl}/topology`)).text();
        await of.stop();
      }
      expect(outcome).toEqual([false, expect.stringMatching(/^57P03 query_wait_timeout /)]);
      expect(topology).toContain("server does not support TLS, but sslmode demands it");
    } finally {
      await postgres?.remove();
    }
  });
});
