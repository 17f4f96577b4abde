// What binds a SCRAM exchange to its TLS connection: the data for each kind of certificate, as OpenSSL makes them, and who is refused.

import { execFileSync } from "node:child_process";
import { createHash, randomBytes, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { endPointBinding } from "../../../src/auth/channel-binding.ts";
import { ClientAuthentication } from "../../../src/auth/client-authentication.ts";
import { authMessage, deriveScramKeys, hmacSha256, xorKeys } from "../../../src/auth/scram.ts";

const PASSWORD = "secret";
const certificateHash = createHash("sha256").update("a certificate").digest();
const HEADER = "p=tls-server-end-point,,";

/** The DER of a self-signed certificate that `openssl req` makes with these words. */
function certificate(...words: readonly string[]): Buffer {
  const directory = mkdtempSync(join(tmpdir(), "channel-binding-"));
  try {
    const file = join(directory, "made.crt");
    const files = ["-keyout", join(directory, "made.key"), "-out", file, "-subj", "/CN=made", "-days", "2"];
    execFileSync("openssl", ["req", "-x509", "-nodes", ...words, ...files], { stdio: "pipe" });
    return new X509Certificate(readFileSync(file)).raw;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("the data of tls-server-end-point", () => {
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
  test.each([
    ["ECDSA with SHA-256", [...ec, "-sha256"], "sha256"],
    ["ECDSA with SHA-384", [...ec, "-sha384"], "sha384"],
    ["RSA with SHA-512", ["-newkey", "rsa:2048", "-sha512"], "sha512"],
    // RFC 5929: nothing weaker than SHA-256.
    ["RSA with SHA-1", ["-newkey", "rsa:2048", "-sha1"], "sha256"],
  ])("are the certificate's hash, for %s", (_name, words, hash) => {
    const der = certificate(...words);
    expect(endPointBinding(der)).toEqual(createHash(hash).update(der).digest());
  });

  test("do not exist for a signature without a hash of its own", () => {
    expect(endPointBinding(certificate("-newkey", "ed25519"))).toBeNull();
  });

  test("do not exist for what is no certificate", () => {
    const der = certificate(...ec);
    expect(endPointBinding(Buffer.alloc(0))).toBeNull();
    expect(endPointBinding(Buffer.from("308", "hex"))).toBeNull();
    for (let length = 0; length < der.length; length += 7) {
      const cut = endPointBinding(der.subarray(0, length));
      expect(cut === null || cut.length >= 32).toBe(true);
    }
  });
});

/** A login over TLS with a certificate that can be bound to, or without one. */
function login(channelBinding: Buffer | null): ClientAuthentication {
  return new ClientAuthentication({
    method: "scram-sha-256",
    user: "app",
    secret: { kind: "plain", password: PASSWORD },
    random: randomBytes,
    mockKey: Buffer.alloc(32),
    channelBinding,
  });
}

/** SASLInitialResponse. */
function initial(mechanism: string, first: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(first.length);
  return Buffer.concat([Buffer.from(`${mechanism}\0`), length, Buffer.from(first)]);
}

/** Plays a client that binds to `data` after `header`, and returns how it ends. */
function bound(server: ClientAuthentication, header: string, data: Buffer, password = PASSWORD): unknown {
  server.start();
  const challenge = server.answer(initial("SCRAM-SHA-256-PLUS", `${header}n=,r=abc`));
  if (challenge.kind !== "send") return challenge;
  const serverFirst = challenge.payload.toString();
  const [, nonce = "", salt = "", iterations] = /^r=([^,]+),s=([^,]+),i=(\d+)$/.exec(serverFirst) ?? [];
  const keys = deriveScramKeys(password, Buffer.from(salt, "base64"), Number(iterations));
  const binding = Buffer.concat([Buffer.from(header), data]).toString("base64");
  const message = authMessage("n=,r=abc", serverFirst, `c=${binding},r=${nonce}`);
  const proof = xorKeys(keys.clientKey, hmacSha256(keys.storedKey, message));
  return server.answer(Buffer.from(`c=${binding},r=${nonce},p=${proof.toString("base64")}`));
}

describe("SCRAM-SHA-256-PLUS", () => {
  test("is offered first, where there is something to bind to", () => {
    const offer = login(certificateHash).start();
    expect(offer).toMatchObject({ code: 10, payload: Buffer.from("SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0") });
    expect(login(null).start()).toMatchObject({ code: 10, payload: Buffer.from("SCRAM-SHA-256\0\0") });
  });

  test("lets in who knows the password and sees our certificate", () => {
    expect(bound(login(certificateHash), HEADER, certificateHash)).toMatchObject({ kind: "ok" });
  });

  test("refuses who sees another's certificate: somebody is in the middle", () => {
    const other = createHash("sha256").update("another").digest();
    const error = { sqlstate: "28000", message: "SCRAM channel binding check failed" };
    expect(bound(login(certificateHash), HEADER, other)).toMatchObject({ kind: "failed", error });
  });

  test("refuses a wrong password", () => {
    const end = bound(login(certificateHash), HEADER, certificateHash, "wrong");
    expect(end).toMatchObject({ kind: "failed", error: { sqlstate: "28P01" } });
  });

  test("refuses a type of binding that is not ours", () => {
    const message = 'unsupported SCRAM channel-binding type "tls-unique"';
    const end = bound(login(certificateHash), "p=tls-unique,,", certificateHash);
    expect(end).toMatchObject({ kind: "failed", error: { sqlstate: "08P01", message } });
  });

  test.each(["n,,", "y,,"])("refuses the flag of %s, which does not bind", (header) => {
    const end = bound(login(certificateHash), header, Buffer.alloc(0));
    expect(end).toMatchObject({ kind: "failed", error: { sqlstate: "08P01", message: "malformed SCRAM message" } });
  });

  test("refuses a client who was told that we do not bind: somebody changed our offer", () => {
    const server = login(certificateHash);
    server.start();
    expect(server.answer(initial("SCRAM-SHA-256", "y,,n=,r=abc"))).toMatchObject({
      kind: "failed",
      error: { sqlstate: "28000", message: "SCRAM channel binding negotiation error" },
    });
  });

  test("may be left aside by a client that does not know it", () => {
    const server = login(certificateHash);
    server.start();
    expect(server.answer(initial("SCRAM-SHA-256", "n,,n=,r=abc"))).toMatchObject({ kind: "send", code: 11 });
  });

  test("cannot be chosen where it was not offered", () => {
    expect(bound(login(null), HEADER, certificateHash)).toMatchObject({
      kind: "failed",
      error: { sqlstate: "08P01", message: "client selected an invalid SASL authentication mechanism" },
    });
  });
});
