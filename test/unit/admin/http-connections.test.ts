import { connect, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { HttpConnections } from "../../../src/admin/http-connections.ts";
import { waitFor } from "../../support/time.ts";

test("the connection of one address stays while another one opens as many as it can", async () => {
  const connections = new HttpConnections();
  const server = createServer((socket) => connections.enter(socket.on("error", () => {})));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  const sockets: Socket[] = [];
  const open = (localAddress: string): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect({ port, host: "127.0.0.1", localAddress }, () => resolve(socket));
      sockets.push(socket);
      socket.on("error", reject).resume();
    });
  try {
    const honest = await open("127.0.0.2");
    for (let count = 0; count < 300; count += 1) await open("127.0.0.3");
    const left = () => sockets.filter(({ destroyed }) => !destroyed).length;
    await waitFor(() => left() === 128, { timeoutMs: 20_000, what: "the others are closed" });
    expect(honest.destroyed).toBe(false);
    expect(sockets.slice(1, 100).every(({ destroyed }) => destroyed)).toBe(true);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
});
