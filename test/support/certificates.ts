// Certificates for tests, made with openssl: an authority, a server's certificate for 127.0.0.1 alone by default, and a client's.

import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** PEM texts. */
interface Pems {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/**
 * Makes `ca`, `server` (for `names`, as openssl writes them) and `client` in `directory`, each as `.crt` and `.key`. Returns
 * what either side needs.
 */
export async function makeCertificates(
  directory: string,
  names = "IP:127.0.0.1",
): Promise<{ readonly client: Pems; readonly server: Pems }> {
  const path = (name: string): string => join(directory, name);
  const openssl = (...words: readonly string[]) => run("openssl", words);
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const authority = ["-keyout", path("ca.key"), "-out", path("ca.crt"), "-subj", "/CN=authority", "-days", "2"];
  await openssl("req", "-x509", ...newKey, ...authority);
  for (const [name, usage] of [
    ["server", "serverAuth,clientAuth"],
    ["client", "clientAuth"],
  ] as const) {
    writeFileSync(path(`${name}.ext`), `subjectAltName=${names}\nextendedKeyUsage=${usage}\n`);
    const request = ["-keyout", path(`${name}.key`), "-out", path(`${name}.csr`), "-subj", `/CN=${name}`];
    await openssl("req", ...newKey, ...request);
    const signer = ["-CA", path("ca.crt"), "-CAkey", path("ca.key"), "-CAcreateserial", "-days", "2"];
    const files = ["-in", path(`${name}.csr`), "-out", path(`${name}.crt`), "-extfile", path(`${name}.ext`)];
    await openssl("x509", "-req", ...signer, ...files);
  }
  const read = (name: string): string => readFileSync(path(name), "utf8");
  const pems = (name: string): Pems => ({ ca: read("ca.crt"), cert: read(`${name}.crt`), key: read(`${name}.key`) });
  return { client: pems("client"), server: pems("server") };
}
