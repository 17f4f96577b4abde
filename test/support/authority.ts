// A certificate authority of a test, kept by `openssl ca`: certificates that are valid, over, revoked, or of a stranger, and the list
// of those revoked (https://docs.openssl.org/3.0/man1/openssl-ca/). Whoever reads the files afterwards may read all of them.

import { execFile } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { handToServers } from "./processes.ts";

const run = promisify(execFile);

/** What a certificate says, and for how long. */
export interface CertificateWish {
  /** Names the files: `<name>.crt` and `<name>.key`. */
  readonly name: string;
  /** As openssl's -subj; `/CN=<name>` by default. */
  readonly subject?: string;
  /** As openssl writes subjectAltName; none by default. */
  readonly names?: string;
  /** Was valid until the year 2021. */
  readonly over?: boolean;
}

/** Where a certificate and its key are. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

const CONFIGURATION = `[ca]
default_ca = here
[here]
database = ./index.txt
serial = ./serial
crlnumber = ./crlnumber
new_certs_dir = .
certificate = ./ca.crt
private_key = ./ca.key
default_md = sha256
default_days = 2
default_crl_days = 2
unique_subject = no
policy = anything
copy_extensions = copy
[anything]
countryName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
[req]
distinguished_name = nothing
[nothing]
`;

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** One authority, in a directory of its own. One request at a time: `openssl ca` keeps books in files. */
export class Authority {
  readonly directory: string;
  /** Its own certificate. */
  readonly ca: string;
  /** What it has revoked; written by `revoke`, empty at first. */
  readonly crl: string;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(directory: string) {
    this.directory = directory;
    this.ca = join(directory, "ca.crt");
    this.crl = join(directory, "ca.crl");
  }

  /** Makes `directory`, the authority's own certificate and an empty list of revoked ones. */
  static async found(directory: string, subject = "/CN=authority"): Promise<Authority> {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    const authority = new Authority(directory);
    const write = (name: string, text: string) => writeFileSync(join(directory, name), text);
    write("ca.cnf", CONFIGURATION);
    write("index.txt", "");
    write("serial", "1000\n");
    write("crlnumber", "1000\n");
    const itself = ["-keyout", "ca.key", "-out", "ca.crt", "-subj", subject, "-days", "2"];
    const extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign"];
    await authority.#openssl("req", "-x509", ...NEW_KEY, ...itself, ...extensions);
    await authority.#writeCrl();
    return authority;
  }

  /** Makes a key, and a certificate for it. */
  issue(wish: CertificateWish): Promise<CertificateFiles> {
    return this.#inTurn(async () => {
      const { name, subject = `/CN=${name}`, names, over = false } = wish;
      const request = ["-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", subject];
      const alternative = names === undefined ? [] : ["-addext", `subjectAltName=${names}`];
      await this.#openssl("req", "-new", ...NEW_KEY, ...request, ...alternative, "-config", "ca.cnf");
      const past = over ? ["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"] : [];
      await this.#openssl(
        "ca",
        "-config",
        "ca.cnf",
        "-batch",
        "-notext",
        "-in",
        `${name}.csr`,
        "-out",
        `${name}.crt`,
        ...past,
      );
      const files = { cert: join(this.directory, `${name}.crt`), key: join(this.directory, `${name}.key`) };
      // libpq and PostgreSQL both refuse a key that others may read.
      chmodSync(files.key, 0o600);
      return files;
    });
  }

  /** Puts one of its certificates on the list. */
  revoke(name: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#openssl("ca", "-config", "ca.cnf", "-revoke", `${name}.crt`);
      await this.#writeCrl();
    });
  }

  async #writeCrl(): Promise<void> {
    await this.#openssl("ca", "-config", "ca.cnf", "-gencrl", "-out", "ca.crl");
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work, work);
    this.#last = mine.catch(() => {});
    return mine;
  }

  async #openssl(...words: readonly string[]): Promise<void> {
    await run("openssl", words, { cwd: this.directory });
  }
}

/** Hands a key to the user that PostgreSQL runs as, which wants it for itself. */
export function handKey(files: CertificateFiles): CertificateFiles {
  handToServers(files.key);
  return files;
}
