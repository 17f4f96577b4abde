// The settings of server_tls beyond certificates: what they yield, and the mistakes in them.

import { describe, expect, test } from "vitest";
import { configOf, describeMistakes, fixed, load, type Mistake, makeCertificates } from "./fixture.ts";

makeCertificates();

const optionsOf = (settings: string) => configOf(fixed(`server_tls: { ${settings} }`)).clusters.get("demo")?.serverTls;

describe("server_tls", () => {
  test("is libpq's where nothing is set, but for passwords in clear", () => {
    expect(optionsOf("")).toEqual({
      sslmode: "prefer",
      ca: null,
      cert: null,
      key: null,
      crl: null,
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.3",
      ciphers: null,
      tls13Ciphers: null,
      negotiation: "postgres",
      rules: { channelBinding: "prefer", requireAuth: null, allowClearText: false },
    });
  });

  test("yields what is set", () => {
    const settings =
      "sslmode: require, protocols: tlsv1.3, ciphers: HIGH, tls13_ciphers: TLS_AES_256_GCM_SHA384, sslnegotiation: direct, channel_binding: require, require_auth: scram-sha-256, allow_clear_text: true";
    expect(optionsOf(settings)).toMatchObject({
      minVersion: "TLSv1.3",
      ciphers: "HIGH",
      tls13Ciphers: "TLS_AES_256_GCM_SHA384",
      negotiation: "direct",
      rules: { channelBinding: "require", requireAuth: new Set(["scram-sha-256"]), allowClearText: true },
    });
  });

  test("warns of a list of revoked certificates that nothing is checked against", () => {
    const loaded = load(fixed("server_tls: { crl_file: none.crl }"));
    expect(JSON.stringify(loaded)).toContain("does not exist");
  });
});

const mistakes: Mistake[] = [
  [
    "direct TLS with a way back",
    fixed("server_tls: { sslnegotiation: direct }"),
    6,
    "clusters.demo.server_tls.sslnegotiation",
    /sslmode is prefer/,
    /require/,
  ],
  [
    "methods that are none",
    fixed("server_tls: { require_auth: scram }"),
    6,
    "clusters.demo.server_tls.require_auth",
    /not a list of methods/,
    /scram-sha-256/,
  ],
  [
    "binding to nothing",
    fixed("server_tls: { sslmode: disable, channel_binding: require }"),
    6,
    "clusters.demo.server_tls.channel_binding",
    /sslmode is disable/,
    /sslmode: require/,
  ],
  [
    "a list of revoked certificates that is none",
    fixed("server_tls: { sslmode: verify-full, ca_file: one.crt, crl_file: one.crt }"),
    6,
    "clusters.demo.server_tls.crl_file",
    /cannot be used/,
    /PEM/,
  ],
  [
    "ciphers that are none",
    fixed("server_tls: { ciphers: rot13 }"),
    6,
    "clusters.demo.server_tls.ciphers",
    /cannot be used/,
    /openssl ciphers/,
  ],
];

mistakes.push(
  [
    "versions that are none",
    fixed("server_tls: { protocols: tlsv2 }"),
    6,
    "clusters.demo.server_tls.protocols",
    /not a list of TLS versions/,
    /secure/,
  ],
  [
    "ciphers for TLS 1.3 that are none",
    fixed("server_tls: { tls13_ciphers: TLS_ROT13 }"),
    6,
    "clusters.demo.server_tls.tls13_ciphers",
    /cannot be used/,
    /TLS_AES/,
  ],
);

describeMistakes("in server_tls", mistakes);
