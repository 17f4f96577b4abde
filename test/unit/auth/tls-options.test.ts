// libpq's sslmode, mode by mode, against a real TLS server.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { clientTlsContext, plainClientTls } from "../../../src/auth/client-tls.ts";
import { ALPN_POSTGRESQL, type ServerTlsOptions, serverTls } from "../../../src/auth/tls-options.ts";

interface Certificates {
  readonly ca: string;
  readonly otherCa: string;
  readonly cert: string;
  readonly key: string;
}

/** A certificate for the name `pg.test` under one authority, and the certificate of another. */
function makeCertificates(directory: string): Certificates {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: directory, stdio: "pipe" });
  const read = (name: string) => readFileSync(join(directory, name), "utf8");
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  for (const name of ["ca", "other"]) {
    openssl(
      "req",
      "-x509",
      ...newKey,
      "-keyout",
      `${name}.key`,
      "-out",
      `${name}.crt`,
      "-subj",
      `/CN=${name}`,
      "-days",
      "2",
    );
  }
  openssl("req", ...newKey, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=pg.test");
  openssl(
    ...["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
    ...["-out", "server.crt", "-days", "2"],
  );
  return { ca: read("ca.crt"), otherCa: read("other.crt"), cert: read("server.crt"), key: read("server.key") };
}

const directory = mkdtempSync(join(tmpdir(), "pgsteer-tls-"));
let certificates: Certificates;
let server: Server;
const sockets = new Set<Socket>();

beforeAll(async () => {
  certificates = makeCertificates(directory);
  const tls = clientTlsContext(plainClientTls("require", certificates));
  if (tls.kind === "off") throw new Error("no context");
  const secured = { isServer: true, secureContext: tls.context, ALPNProtocols: [ALPN_POSTGRESQL] };
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    new TLSSocket(socket, secured).on("error", () => {}).end("x");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

/** Whether a handshake with the server, addressed as `host`, succeeds; its error code when it does not. */
function handshake(options: Partial<ServerTlsOptions>, host: string): Promise<string> {
  const tls = serverTls({ sslmode: "prefer", ca: null, cert: null, key: null, ...options });
  if (tls.kind === "off") return Promise.resolve("off");
  const address = server.address();
  const port = isAddress(address) ? address.port : 0;
  return new Promise((resolve) => {
    const socket = connectTcp({ host: "127.0.0.1", port }, () => {
      const secured = connect({ ...tls.connectionOptions(host), socket }, () => {
        resolve(secured.alpnProtocol === ALPN_POSTGRESQL ? "ok" : "no ALPN");
        secured.destroy();
      });
      secured.on("error", (error) => {
        resolve("code" in error ? String(error.code) : error.message);
        socket.destroy();
      });
    });
  });
}

function isAddress(address: string | AddressInfo | null): address is AddressInfo {
  return typeof address === "object" && address !== null;
}

describe("TLS towards servers", () => {
  test("disable is off, and the others say what a connection in clear is to them", () => {
    const rule = (sslmode: ServerTlsOptions["sslmode"]) => {
      const tls = serverTls({ sslmode, ca: null, cert: null, key: null });
      return tls.kind === "off" ? "off" : tls.plain;
    };
    expect(rule("disable")).toBe("off");
    expect(rule("allow")).toBe("first");
    expect(rule("prefer")).toBe("fallback");
    for (const sslmode of ["require", "verify-ca", "verify-full"] as const) expect(rule(sslmode)).toBe("never");
  });

  test.each([
    ["allow", "none", "elsewhere.test", "ok"],
    ["prefer", "none", "elsewhere.test", "ok"],
    ["prefer", "other", "elsewhere.test", "ok"],
    ["require", "none", "elsewhere.test", "ok"],
    ["require", "right", "elsewhere.test", "ok"],
    ["require", "other", "pg.test", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
    ["verify-ca", "right", "elsewhere.test", "ok"],
    ["verify-ca", "right", "127.0.0.1", "ok"],
    ["verify-ca", "other", "pg.test", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
    ["verify-ca", "none", "pg.test", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
    ["verify-full", "right", "pg.test", "ok"],
    ["verify-full", "right", "elsewhere.test", "ERR_TLS_CERT_ALTNAME_INVALID"],
    ["verify-full", "right", "127.0.0.1", "ERR_TLS_CERT_ALTNAME_INVALID"],
    ["verify-full", "other", "pg.test", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
  ] as const)("%s with the %s authority towards %s: %s", async (sslmode, authority, host, outcome) => {
    const ca = { none: null, right: certificates.ca, other: certificates.otherCa }[authority];
    expect(await handshake({ sslmode, ca }, host)).toBe(outcome);
  });

  test("refuses certificates that are none", () => {
    expect(() => serverTls({ sslmode: "require", ca: null, cert: "x", key: "y" })).toThrow();
  });
});
