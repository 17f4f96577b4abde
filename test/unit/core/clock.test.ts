// The machine's clock, after a pause of the whole process: an answer that has arrived is no answer that is missing.

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../src/core/clock.ts";
import { millis } from "../../../src/core/units.ts";

let listener: Server;
let asking: Socket;
let answering: Socket;

beforeEach(async () => {
  listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  asking = connect((listener.address() as AddressInfo).port, "127.0.0.1");
  [answering] = (await once(listener, "connection")) as [Socket];
  await once(asking, "connect");
});

afterEach(() => {
  asking.destroy();
  answering.destroy();
  listener.close();
});

function stall(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until) {
    // The whole process does nothing else.
  }
}

test("reads what has arrived before deadlines that a pause has let pass", async () => {
  const order: string[] = [];
  asking.on("data", () => order.push("answer"));
  const over = new Promise<void>((resolve) => {
    systemClock.after(millis(10), () => {
      order.push("deadline");
      resolve();
    });
  });
  answering.write("here");
  stall(100);
  await over;
  expect(order).toEqual(["answer", "deadline"]);
});

test("lets the answer take the deadline back", async () => {
  const order: string[] = [];
  const deadline = systemClock.after(millis(10), () => order.push("deadline"));
  asking.on("data", () => {
    order.push("answer");
    deadline.cancel();
  });
  answering.write("here");
  stall(100);
  await once(asking, "data");
  await new Promise<void>((resolve) => systemClock.after(millis(5), resolve));
  expect(order).toEqual(["answer"]);
});

test("keeps a deadline where nothing has arrived", async () => {
  const over = new Promise((resolve) => systemClock.after(millis(10), () => resolve("over")));
  stall(100);
  expect(await over).toBe("over");
});
