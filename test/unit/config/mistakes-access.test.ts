// Settings of access: HBA and ident files, and TLS towards clients.

import { describe, expect, test } from "vitest";
import {
  clusters,
  configOf,
  describeMistakes,
  files,
  load,
  type Mistake,
  makeCertificates,
  problemsOf,
} from "./fixture.ts";

makeCertificates();

for (const [name, text] of Object.entries({
  "trust.conf": "host all all all trust\n",
  "passwords.conf": "local all all scram-sha-256\n",
  "broken.conf":
    "host all all all trust\nhost all +admins all trust\nhost all all db.example md5\nlocal all all peer\n@gone\n",
  "includes.conf": "include_dir hba.d\n@nobody\n",
  "certificates.conf": "hostssl all all all cert map=corp\n",
  "tls.conf": "hostssl all all all trust\nhostgssenc all all all trust\n",
  "none.conf": "# nobody\n",
  "ident.conf": "corp ada alice\n",
  "broken-ident.conf": "corp ada\n",
  "hba.d/10.conf": "host all all all trust\n",
  "hba.d/20.conf": "host all all all ldap\n",
  "ca.crl": "no list",
})) {
  files.set(`/etc/pgsteer/${name}`, text);
}

const hba = (settings: string, more = ""): string => `${clusters}auth: { type: hba, ${settings} }\n${more}`;
const tls = (settings: string): string =>
  `${clusters}auth: { file: userlist.txt }\nclient_tls: { mode: require, cert_file: one.crt, key_file: one.key, ${settings} }\n`;
const own = "cert_file: one.crt, key_file: one.key";

const mistakes: Mistake[] = [
  ["no rules", hba(""), 2, "auth.hba_file", /is missing/, /add hba_file/],
  [
    "rules that are not there",
    hba("hba_file: gone"),
    2,
    "auth.hba_file",
    /does not exist: \/etc\/pgsteer\/gone/,
    /path/,
  ],
  ["rules that say nothing", hba("hba_file: none.conf"), 2, "auth.hba_file", /no rule/, /write one/],
  [
    "rules that ask for passwords nobody has",
    hba("hba_file: passwords.conf"),
    2,
    "auth.file",
    /is missing/,
    /userlist/,
  ],
  [
    "a map with a mistake",
    hba("hba_file: trust.conf, ident_file: broken-ident.conf"),
    2,
    "auth.ident_file",
    /broken-ident.conf:1 ends before its user/,
    /MAP SYSTEM-NAME USER/,
  ],
  [
    "rules that demand certificates nobody is asked for",
    hba("hba_file: certificates.conf, ident_file: ident.conf", `client_tls: { mode: require, ${own} }\n`),
    2,
    "auth.hba_file",
    /demands a certificate.*certificates.conf:1/,
    /ca_file/,
  ],
  ["certificates nobody is asked for", `${clusters}auth: { type: cert }\n`, 2, "auth.type", /is cert/, /ca_file/],
  [
    "clients' certificates without authority",
    `${tls("").replace("require", "verify-full")}`,
    3,
    "client_tls.mode",
    /vouch/,
    /ca_file/,
  ],
  ["old versions", tls("protocols: all"), 3, "client_tls.protocols", /before TLS 1.2/, /secure/],
  ["an old version", tls('protocols: "tlsv1.1,tlsv1.2"'), 3, "client_tls.protocols", /before TLS 1.2/, /secure/],
  ["no versions", tls("protocols: ssl"), 3, "client_tls.protocols", /not a list/, /secure/],
  ["no ciphers", tls("ciphers: NONSENSE"), 3, "client_tls.ciphers", /not a list of ciphers/, /OpenSSL/],
  ["no ciphers for TLS 1.3", tls("tls13_ciphers: TLS_X"), 3, "client_tls.tls13_ciphers", /not a list/, /TLS_AES/],
  ["older ciphers", tls("tls13_ciphers: AES128-SHA"), 3, "client_tls.tls13_ciphers", /begin with TLS_/, /TLS_AES/],
  ["no curve", tls("ecdhcurve: round"), 3, "client_tls.ecdhcurve", /not a curve/, /X25519/],
  [
    "no list of what is revoked",
    tls("ca_file: one.crt, crl_file: ca.crl"),
    3,
    "client_tls.crl_file",
    /no usable list/,
    /X509 CRL/,
  ],
  ["an authority that is none", tls("ca_file: userlist.txt"), 3, "client_tls.ca_file", /no usable certificate/, /PEM/],
  [
    "a name without its key",
    tls("sni: { a.test: { cert_file: two.crt } }"),
    3,
    "client_tls.sni.a.test.cert_file",
    /without key_file/,
    /add/,
  ],
  [
    "a name with another's key",
    tls("sni: { a.test: { cert_file: two.crt, key_file: one.key } }"),
    3,
    "client_tls.sni.a.test.key_file",
    /not the key/,
    /belongs/,
  ],
];

describeMistakes("of access", mistakes);

describe("an HBA file", () => {
  test("has all its problems told at once, by file and line", () => {
    const told = problemsOf(hba("hba_file: broken.conf")).map(({ key, message }) => `${key} ${message}`);
    expect(told).toEqual([
      "auth.hba_file names a file with a problem: /etc/pgsteer/broken.conf:2 has +admins, which asks who is a member of which role; pgsteer does not know that",
      "auth.hba_file names a file with a problem: /etc/pgsteer/broken.conf:3 has the host name db.example; pgsteer does not trust the name service with who may log in",
      "auth.hba_file names a file with a problem: /etc/pgsteer/broken.conf:4 has the method peer, which asks the system who is at the other end of a Unix-domain socket, which Node.js cannot",
      "auth.hba_file names a file with a problem: /etc/pgsteer/broken.conf:5 asks for a file that does not exist: /etc/pgsteer/gone",
    ]);
    expect(problemsOf(hba("hba_file: includes.conf")).map(({ message }) => message)).toEqual([
      expect.stringMatching(/hba.d\/20.conf:1 has the method ldap, which asks an LDAP server/),
      "names a file with a problem: /etc/pgsteer/includes.conf:2 asks for a file that does not exist: /etc/pgsteer/nobody",
    ]);
  });

  test("becomes rules, with their maps", () => {
    const { auth } = configOf(
      hba(
        "hba_file: certificates.conf, ident_file: ident.conf",
        `client_tls: { mode: verify-full, ca_file: one.crt, ${own} }\n`,
      ),
    );
    expect(auth).toMatchObject({ type: "hba", hba: { asksPasswords: false, rules: [{ method: "cert" }] } });
    expect(auth.hba?.maps.allows("corp", "ada", "alice")).toBe(true);
    expect(configOf(hba("hba_file: passwords.conf, file: userlist.txt")).auth.hba?.asksPasswords).toBe(true);
  });

  test("is warned about where its lines fit nobody", () => {
    const warnings = (text: string): readonly string[] => {
      const loaded = load(text);
      return loaded.ok ? loaded.warnings.filter((each) => each.includes(": auth.")) : [JSON.stringify(loaded.problems)];
    };
    expect(warnings(hba("hba_file: tls.conf"))).toEqual([
      expect.stringMatching(/fits nobody: .*tls.conf:1 is for TLS/),
      expect.stringMatching(/fits nobody: .*tls.conf:2 is for GSSAPI/),
    ]);
    expect(
      warnings(hba("hba_file: certificates.conf", `client_tls: { mode: require, ca_file: one.crt, ${own} }\n`)),
    ).toEqual([expect.stringMatching(/certificates.conf:1 has the map corp, which is empty/)]);
    expect(warnings(`${clusters}auth: { type: trust, hba_file: trust.conf }\n`)).toEqual([
      expect.stringMatching(/auth.hba_file is not used: type is trust/),
    ]);
  });
});

describe("TLS towards clients", () => {
  test("is taken as it is written", () => {
    const { clientTls } = configOf(
      tls(
        `ca_file: two.crt, protocols: "tlsv1.3", ciphers: fast, tls13_ciphers: TLS_AES_256_GCM_SHA384, ecdhcurve: X25519, sni: { A.test: { ${own} } }`,
      ),
    );
    expect(clientTls).toMatchObject({
      mode: "require",
      ca: files.get("/etc/pgsteer/two.crt"),
      minVersion: "TLSv1.3",
      maxVersion: "TLSv1.3",
      ciphers: null,
      tls13Ciphers: "TLS_AES_256_GCM_SHA384",
      ecdhCurve: "X25519",
    });
    expect([...clientTls.sni.keys()]).toEqual(["a.test"]);
    expect(configOf(tls("protocols: tlsv1.2, ciphers: all")).clientTls).toMatchObject({
      maxVersion: "TLSv1.2",
      ciphers: "ALL:!aNULL:!eNULL",
    });
  });
});
