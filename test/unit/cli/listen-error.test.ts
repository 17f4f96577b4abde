import { createServer } from "node:net";
import { describe, expect, test } from "vitest";
import { describeListenError } from "../../../src/cli/listen-error.ts";
import { configOf, rest } from "../config/fixture.ts";

const config = configOf(`${rest}
listeners:
  - { name: one, port: 5000, route: write }
  - { name: two, port: 5001, route: read }
http: { port: 7001 }
`);

/** What Node says when the address cannot be had. */
function listenError(address: string, port: number): Promise<unknown> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", resolve);
    server.listen({ host: address, port }, () => server.close(() => resolve(null)));
  });
}

const failure = (code: string, port: number) =>
  Object.assign(new Error(`listen ${code}`), { code, syscall: "listen", address: "127.0.0.1", port });

describe("an address that cannot be had", () => {
  test("is named with its setting", () => {
    expect(describeListenError(failure("EADDRINUSE", 5001), config)).toMatch(
      /^cannot listen on 127\.0\.0\.1:5001 \(listeners\[1\], "two"\): another process listens there/,
    );
    expect(describeListenError(failure("EADDRINUSE", 7001), config)).toContain("(http)");
    expect(describeListenError(failure("EACCES", 5000), config)).toContain("below 1024");
    expect(describeListenError(failure("EMFILE", 5000), config)).toContain("listen EMFILE");
  });

  test("is understood as Node reports it", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen({ host: "127.0.0.1", port: 0 }, resolve));
    try {
      const address = taken.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      const error = await listenError("127.0.0.1", port);
      expect(describeListenError(error, config)).toContain(`127.0.0.1:${port} (its setting): another process`);
      const named = configOf(`${rest}\nlisteners: [{ name: x, address: localhost, port: ${port}, route: write }]\n`);
      expect(describeListenError(error, named)).toContain(`127.0.0.1:${port} (listeners[0], "x")`);
    } finally {
      taken.close();
    }
    expect(describeListenError(await listenError("nowhere.invalid", 5000), config)).toContain("has no address");
    expect(describeListenError(await listenError("192.0.2.1", 5000), config)).toContain("no such address");
  });

  test("of a Unix-domain socket is named by its path", async () => {
    const named = configOf(`${rest}\nlisteners: [{ name: x, address: /nowhere, port: 1, route: write }]\n`);
    const path = "/nowhere/.s.PGSQL.1";
    const error = await new Promise((resolve) => createServer().once("error", resolve).listen({ path }));
    expect(describeListenError(error, named)).toBe(
      `cannot listen on ${path} (listeners[0], "x"): its directory does not exist, or this user may not write there`,
    );
    const taken = Object.assign(new Error("taken"), { code: "EADDRINUSE", syscall: "listen", address: path, port: -1 });
    expect(describeListenError(taken, named)).toContain(
      "another process listens there already, or the file is no socket",
    );
    const chmod = Object.assign(new Error("no"), { code: "EPERM", syscall: "chmod", path });
    expect(describeListenError(chmod, named)).toBe(`cannot listen on ${path} (listeners[0], "x"): EPERM`);
  });

  test("is not seen in other errors", () => {
    expect(describeListenError(new Error("a bug"), config)).toBeNull();
  });
});
