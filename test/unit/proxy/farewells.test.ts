import { connect, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { FAREWELLS_MAX } from "../../../src/core/limits.ts";
import { Farewells } from "../../../src/proxy/farewells.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { waitFor } from "../../support/time.ts";

test("are sent to those who are waited for, of whom there are only so many, and for so long", async () => {
  const clock = new FakeClock();
  const farewells = new Farewells(clock);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    farewells.say(socket, Buffer.from("go"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  const heard = { go: 0, ends: 0 };
  const clients: Socket[] = [];
  try {
    for (let index = 0; index < FAREWELLS_MAX + 10; index += 1) {
      const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      clients.push(client);
      client.on("data", (chunk) => {
        if (chunk.toString() === "go") heard.go += 1;
      });
      // Closed with bytes unread: a reset in place of an end.
      for (const event of ["end", "error"]) {
        client.on(event, () => {
          heard.ends += 1;
        });
      }
      client.write("something that nobody reads");
    }
    const all = () => heard.ends === FAREWELLS_MAX + 10;
    await waitFor(all, { timeoutMs: 20_000, what: "all have heard the end" });
    expect([heard.go, farewells.size]).toEqual([FAREWELLS_MAX, FAREWELLS_MAX]);
    clients[0]?.end();
    await waitFor(() => farewells.size < FAREWELLS_MAX, { timeoutMs: 20_000, what: "one has closed its side" });
    await clock.advance(5_000);
    await waitFor(() => farewells.size === 0, { timeoutMs: 20_000, what: "the others were cut off" });
  } finally {
    for (const client of clients) client.destroy();
    server.close();
  }
});
