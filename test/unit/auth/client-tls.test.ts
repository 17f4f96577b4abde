// What the settings of client_tls come to. Handshakes are in test/unit/proxy/client-tls-socket.test.ts.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ClientTlsOptions, clientTlsContext, plainClientTls } from "../../../src/auth/client-tls.ts";
import { makeCertificates } from "../../support/certificates.ts";

const directory = mkdtempSync(join(tmpdir(), "pgsteer-client-tls-"));
let certificates: Awaited<ReturnType<typeof makeCertificates>>;

beforeAll(async () => {
  certificates = await makeCertificates(directory);
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

const context = (mode: ClientTlsOptions["mode"], changes: Partial<ClientTlsOptions> = {}) =>
  clientTlsContext({ ...plainClientTls(mode, certificates.server), ...changes });

describe("TLS towards clients", () => {
  test("is off, offered or required, and asks for certificates, as PgBouncer's modes say", () => {
    const { ca } = certificates.server;
    expect(clientTlsContext(plainClientTls("disable", null))).toEqual({ kind: "off" });
    expect(context("allow")).toMatchObject({ required: false, certificates: "ignored" });
    expect(context("prefer")).toMatchObject({ required: false, certificates: "ignored" });
    expect(context("require")).toMatchObject({ required: true, certificates: "ignored" });
    expect(context("require", { ca })).toMatchObject({ required: true, certificates: "asked" });
    expect(context("verify-ca", { ca })).toMatchObject({ required: true, certificates: "demanded" });
    expect(context("verify-full", { ca })).toMatchObject({ required: true, certificates: "demanded" });
  });

  test("has a context for each name, and the usual one for all others", () => {
    const { client, server } = certificates;
    const tls = context("require", {
      sni: new Map([
        ["a.test", client],
        ["*.b.test", client],
      ]),
    });
    if (tls.kind === "off" || tls.contextFor === null) throw new Error("no contexts");
    const own = (name: string): boolean => tls.contextFor?.(name) !== tls.context;
    expect(["a.test", "A.Test.", "x.b.test"].map(own)).toEqual([true, true, true]);
    expect(["", "b.test", "x.y.b.test", "other", "c.a.test"].map(own)).toEqual([false, false, false, false, false]);
    const plain = context("require", { own: server });
    expect(plain.kind === "on" && plain.contextFor).toBeNull();
  });

  test("needs a certificate and the key that belongs to it, and ciphers that exist", () => {
    const { client, server } = certificates;
    expect(() => clientTlsContext(plainClientTls("require", null))).toThrow("needed");
    expect(() => context("require", { own: { cert: server.cert, key: client.key } })).toThrow();
    expect(() => context("require", { ciphers: "NONSENSE" })).toThrow();
    expect(() => context("require", { tls13Ciphers: "TLS_NONSENSE" })).toThrow();
    expect(() => context("require", { ecdhCurve: "nonsense" })).toThrow();
    expect(() => context("require", { crl: "nonsense" })).toThrow();
  });
});
