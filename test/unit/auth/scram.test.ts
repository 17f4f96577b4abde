// SCRAM-SHA-256: RFC 7677's example, the two roles against each other, and every way in which a message can be wrong.

import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { preparePassword } from "../../../src/auth/password.ts";
import {
  authMessage,
  deriveScramKeys,
  hmacSha256,
  ScramDerivations,
  sha256,
  xorKeys,
} from "../../../src/auth/scram.ts";
import { ScramClient, type ScramClientBinding, type ScramClientStep } from "../../../src/auth/scram-client.ts";
import { ScramServer, type ScramServerStep, type ScramVerifier } from "../../../src/auth/scram-server.ts";

const PASSWORD = "pencil";
const derivations = new ScramDerivations();
const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");

function verifierFor(password: string): ScramVerifier {
  return { iterations: 4096, salt, ...deriveScramKeys(password, salt, 4096), doomed: false };
}

const verifier = verifierFor(PASSWORD);
const newClient = (password = PASSWORD, binding?: ScramClientBinding) =>
  new ScramClient({ kind: "password", password, derivations }, randomBytes, binding);
const newServer = (from: ScramVerifier = verifier) => new ScramServer(from, randomBytes);

function sent(step: ScramClientStep | ScramServerStep): Buffer {
  if (!("message" in step)) throw new Error(`unexpected step ${JSON.stringify(step)}`);
  return step.message;
}

/** A server that has received `n,,n=,r=abc`, and the nonce that it made of it. */
function serverInTheMiddle(flag = "n"): { server: ScramServer; nonce: string } {
  const server = newServer();
  const nonce = /^r=([^,]+)/.exec(sent(server.clientFirst(Buffer.from(`${flag},,n=,r=abc`))).toString())?.[1] ?? "";
  return { server, nonce };
}

/** A client that has sent its first message, and its nonce. */
function clientInTheMiddle(): { client: ScramClient; nonce: string } {
  const client = newClient();
  return { client, nonce: sent(client.first()).toString().slice("n,,n=,r=".length) };
}

describe("the derivation of keys", () => {
  test("gives proof and signature of RFC 7677, section 3", () => {
    const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const keys = deriveScramKeys(PASSWORD, salt, 4096);
    const message = authMessage(
      "n=user,r=rOprNGfwEbeRWgbNEkqO",
      `r=${nonce},s=${salt.toString("base64")},i=4096`,
      `c=biws,r=${nonce}`,
    );
    const proof = xorKeys(keys.clientKey, hmacSha256(keys.storedKey, message));
    expect(proof.toString("base64")).toBe("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    const signature = hmacSha256(keys.serverKey, message);
    expect(signature.toString("base64")).toBe("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    expect(sha256(keys.clientKey)).toEqual(keys.storedKey);
  });

  test("is remembered, by password, salt and iterations, up to a bound", () => {
    const kept = new ScramDerivations(2);
    const first = kept.derive("a", salt, 4096);
    expect(kept.derive("a", salt, 4096)).toBe(first);
    kept.derive("b", salt, 4096);
    expect(kept.derive("a", Buffer.alloc(16), 4096)).not.toEqual(first);
    expect(kept.size).toBe(2);
    expect(kept.derive("a", salt, 4096)).toEqual(first);
    expect(kept.derive("a", salt, 4096).storedKey).not.toEqual(kept.derive("a", salt, 4097).storedKey);
    kept.clear();
    expect(kept.size).toBe(0);
  });
});

describe("preparePassword", () => {
  test.each([
    ["plain ASCII", "pencil", "pencil"],
    ["compatibility characters are normalised", "\u2168", "IX"],
    ["a soft hyphen is dropped", "I\u00adX", "IX"],
    ["a no-break space becomes a space", "a\u00a0b", "a b"],
    ["a prohibited character leaves all as it is", "\u2168\u0007", "\u2168\u0007"],
    ["an unassigned code point leaves all as it is", "\u2168\u0221", "\u2168\u0221"],
    ["mixed directions leave all as it is", "\u2168\u0627", "\u2168\u0627"],
    ["what becomes empty stays as it is", "\u00ad", "\u00ad"],
    ["an ASCII control character alone", "\u0007", "\u0007"],
    ["empty", "", ""],
  ])("%s", (_what, written, prepared) => {
    expect(preparePassword(written).toString()).toBe(prepared);
  });

  test("leaves bytes alone that are not UTF-8", () => {
    const bytes = Buffer.from([0x70, 0xe4, 0xff]);
    expect(preparePassword(bytes)).toEqual(bytes);
  });
});

describe("the two roles against each other", () => {
  test("agree on any password", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), (password) => {
        const [client, server] = [newClient(password), newServer(verifierFor(password))];
        const serverFirst = sent(server.clientFirst(sent(client.first())));
        const last = server.clientFinal(sent(client.serverFirst(serverFirst)));
        expect(last.kind).toBe("verified");
        expect(client.serverFinal(sent(last)).kind).toBe("verified");
      }),
      { numRuns: 30 },
    );
  });

  test("disagree on different passwords", () => {
    const [client, server] = [newClient("pencil "), newServer()];
    const serverFirst = sent(server.clientFirst(sent(client.first())));
    expect(server.clientFinal(sent(client.serverFirst(serverFirst)))).toEqual({ kind: "wrong-password" });
  });

  test("a doomed exchange fails although the proof is right", () => {
    const [client, server] = [newClient(), newServer({ ...verifier, doomed: true })];
    const serverFirst = sent(server.clientFirst(sent(client.first())));
    expect(server.clientFinal(sent(client.serverFirst(serverFirst)))).toEqual({ kind: "wrong-password" });
  });

  test("no changed byte of a client's final message is verified, nor any part of it", () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 255 }), fc.boolean(), (seed, change, cut) => {
        const [client, server] = [newClient(), newServer()];
        const final = sent(client.serverFirst(sent(server.clientFirst(sent(client.first())))));
        const at = seed % final.length;
        const broken = cut ? final.subarray(0, at) : Buffer.from(final);
        if (!cut) broken[at] = (broken[at] ?? 0) ^ change;
        expect(server.clientFinal(broken).kind).not.toBe("verified");
      }),
      { numRuns: 200 },
    );
  });

  test("no changed byte of a server's messages is verified, nor any part of them", () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        fc.boolean(),
        (seed, change, cut, early) => {
          const [client, server] = [newClient(), newServer()];
          const broken = (message: Buffer): Buffer => {
            const at = seed % message.length;
            const copy = Buffer.from(cut ? message.subarray(0, at) : message);
            if (!cut) copy[at] = (copy[at] ?? 0) ^ change;
            return copy;
          };
          const serverFirst = sent(server.clientFirst(sent(client.first())));
          const second = client.serverFirst(early ? broken(serverFirst) : serverFirst);
          const last = second.kind === "send" ? server.clientFinal(second.message) : null;
          if (early) expect(last?.kind).not.toBe("verified");
          else expect(client.serverFinal(broken(sent(last ?? second))).kind).toBe("failed");
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("the server's side", () => {
  test.each([
    ["nothing", ""],
    ["channel binding, which was not offered", "p=tls-server-end-point,,n=,r=abc"],
    ["an unknown flag", "x,,n=,r=abc"],
    ["no comma behind the flag", "n;,n=,r=abc"],
    ["no second comma", "n,n=,r=abc"],
    ["no nonce", "n,,n="],
    ["an empty nonce", "n,,n=,r="],
    ["attributes in the wrong order", "n,,r=abc,n="],
    ["a space in the nonce", "n,,n=,r=a c"],
    ["a zero byte", "n,,n=,r=abc\0"],
  ])("refuses a first message with %s", (_what, message) => {
    expect(newServer().clientFirst(Buffer.from(message))).toMatchObject({
      kind: "failed",
      error: { code: "protocol_violation" },
    });
  });

  test.each([
    ["an authorization identity", "n,a=other,n=,r=abc"],
    ["a mandatory extension", "n,,m=x,n=,r=abc"],
  ])("does not support %s", (_what, message) => {
    expect(newServer().clientFirst(Buffer.from(message))).toMatchObject({
      kind: "failed",
      error: { sqlstate: "0A000" },
    });
  });

  test("ignores the name, and optional extensions", () => {
    expect(newServer().clientFirst(Buffer.from("y,,n=anybody,r=abc,x=1")).kind).toBe("continue");
    expect(newServer().clientFirst(Buffer.from([...Buffer.from("n,,n="), 0xff, ...Buffer.from(",r=abc")])).kind).toBe(
      "continue",
    );
  });

  const proof = Buffer.alloc(32).toString("base64");
  test.each([
    ["another nonce", () => `c=biws,r=abcdef,p=${proof}`],
    ["the client's nonce alone", () => `c=biws,r=abc,p=${proof}`],
    ["a nonce with something behind it", (nonce: string) => `c=biws,r=${nonce}x,p=${proof}`],
    ["the header of the flag y", (nonce: string) => `c=eSws,r=${nonce},p=${proof}`],
    ["channel binding data", (nonce: string) => `c=cD10bHM=,r=${nonce},p=${proof}`],
    ["a short proof", (nonce: string) => `c=biws,r=${nonce},p=AAAA`],
    ["a proof that is not base64", (nonce: string) => `c=biws,r=${nonce},p=${"*".repeat(44)}`],
    ["no proof", (nonce: string) => `c=biws,r=${nonce}`],
    ["something behind the proof", (nonce: string) => `c=biws,r=${nonce},p=${proof},x=1`],
    ["a zero byte", (nonce: string) => `c=biws,r=${nonce},p=${proof}\0`],
    ["nothing", () => ""],
  ])("refuses a final message with %s", (_what, message) => {
    const { server, nonce } = serverInTheMiddle();
    expect(server.clientFinal(Buffer.from(message(nonce)))).toMatchObject({
      kind: "failed",
      error: { code: "protocol_violation" },
    });
  });

  test("a proof of zeros is a wrong password, with either flag", () => {
    const [plain, capable] = [serverInTheMiddle("n"), serverInTheMiddle("y")];
    expect(plain.server.clientFinal(Buffer.from(`c=biws,r=${plain.nonce},p=${proof}`)).kind).toBe("wrong-password");
    expect(capable.server.clientFinal(Buffer.from(`c=eSws,r=${capable.nonce},p=${proof}`)).kind).toBe("wrong-password");
  });

  test("takes each message once, and in order", () => {
    expect(newServer().clientFinal(Buffer.from("c=biws,r=abc,p=AAAA")).kind).toBe("failed");
    const { server } = serverInTheMiddle();
    expect(server.clientFirst(Buffer.from("n,,n=,r=abc")).kind).toBe("failed");
    expect(server.clientFinal(Buffer.from("")).kind).toBe("failed");
  });
});

describe("the client's side", () => {
  const salt64 = salt.toString("base64");
  test.each([
    ["another nonce", () => `r=abcdef,s=${salt64},i=4096`],
    ["our own nonce, reflected", (nonce: string) => `r=${nonce},s=${salt64},i=4096`],
    ["our own message, reflected", (nonce: string) => `n,,n=,r=${nonce}`],
    ["too few iterations", (nonce: string) => `r=${nonce}x,s=${salt64},i=4095`],
    ["too many iterations", (nonce: string) => `r=${nonce}x,s=${salt64},i=1000001`],
    ["iterations beyond any number", (nonce: string) => `r=${nonce}x,s=${salt64},i=${"9".repeat(30)}`],
    ["negative iterations", (nonce: string) => `r=${nonce}x,s=${salt64},i=-1`],
    ["no salt", (nonce: string) => `r=${nonce}x,s=,i=4096`],
    ["a salt that is not base64", (nonce: string) => `r=${nonce}x,s=%%%%,i=4096`],
    ["something behind it", (nonce: string) => `r=${nonce}x,s=${salt64},i=4096,x=1`],
    ["a mandatory extension", (nonce: string) => `m=x,r=${nonce}x,s=${salt64},i=4096`],
    ["a zero byte", (nonce: string) => `r=${nonce}x,s=${salt64},i=4096\0`],
    ["nothing", () => ""],
  ])("refuses a server's first message with %s", (_what, message) => {
    const { client, nonce } = clientInTheMiddle();
    expect(client.serverFirst(Buffer.from(message(nonce))).kind).toBe("failed");
  });

  test.each([
    ["an error", "e=invalid-proof"],
    ["a signature of zeros", `v=${Buffer.alloc(32).toString("base64")}`],
    ["a short signature", "v=AAAA"],
    ["something behind the signature", `v=${Buffer.alloc(32).toString("base64")},x=1`],
    ["nothing", ""],
  ])("refuses a server's final message with %s", (_what, message) => {
    const { client, nonce } = clientInTheMiddle();
    expect(client.serverFirst(Buffer.from(`r=${nonce}x,s=${salt64},i=4096`)).kind).toBe("send");
    expect(client.serverFinal(Buffer.from(message)).kind).toBe("failed");
  });

  test("refuses its own proof as the server's signature", () => {
    const { client, nonce } = clientInTheMiddle();
    const final = sent(client.serverFirst(Buffer.from(`r=${nonce}x,s=${salt64},i=4096`))).toString();
    expect(client.serverFinal(Buffer.from(`v=${final.slice(final.indexOf(",p=") + 3)}`)).kind).toBe("failed");
  });

  test("takes each message once, and in order", () => {
    expect(newClient().serverFirst(Buffer.from("r=abc,s=AAAA,i=4096")).kind).toBe("failed");
    const { client } = clientInTheMiddle();
    expect(client.serverFinal(Buffer.from("v=AAAA")).kind).toBe("failed");
    expect(client.first().kind).toBe("failed");
  });
});
