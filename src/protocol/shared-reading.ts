// Clients' sockets read into one block that all of them share; what came is copied behind what came before, from whomever. A socket
// of net's makes 64 kB of memory for each read instead, which is most of what a small query costs in memory and much of its time.
// Net has the option (`onread`, https://nodejs.org/api/net.html#socketconnectoptions-connectlistener) for outgoing connections only:
// an accepted one is taken over by its handle.

import { Socket } from "node:net";
import { RECEIVE_BYTES_MAX, RECEIVE_BYTES_MIN } from "../core/limits.ts";

/** Gets the bytes of one socket, which are the receiver's to keep. */
type Deliver = (buffer: Buffer, start: number, end: number) => void;

export class SharedReading {
  /** What sockets read into. Nothing in it outlives the read. */
  readonly #block = Buffer.allocUnsafeSlow(RECEIVE_BYTES_MAX);
  /** What is being filled with what came; whoever still needs a part of a former one keeps it alive. */
  #kept = Buffer.allocUnsafeSlow(RECEIVE_BYTES_MIN);
  #filled = 0;

  /**
   * The same connection, which from now on gives its bytes to `receiver`; `socket`, which has not read anything (`pauseOnConnect`),
   * is used up. Where its handle cannot read into given memory: `socket` as it is, with its "data" events.
   */
  take(socket: Socket, receiver: Receiver): Socket {
    const handle: unknown = Reflect.get(socket, "_handle");
    if (typeof handle !== "object" || handle === null || !("useUserBuffer" in handle)) return socket.resume();
    const callback = (bytes: number): boolean => {
      this.#keep(bytes, receiver.deliver);
      return true;
    };
    const options = { allowHalfOpen: true, onread: { buffer: this.#block, callback } };
    // As net itself does; its types have other handles in mind.
    Reflect.set(options, "handle", handle);
    const taken = new Socket(options);
    // Without a handle there is nothing to close; its server counts it out.
    Reflect.set(socket, "_handle", null);
    socket.destroy();
    return taken;
  }

  #keep(bytes: number, deliver: Deliver): void {
    if (bytes > RECEIVE_BYTES_MIN / 2) {
      deliver(Buffer.from(this.#block.subarray(0, bytes)), 0, bytes);
      return;
    }
    if (this.#filled + bytes > this.#kept.length) {
      this.#kept = Buffer.allocUnsafeSlow(RECEIVE_BYTES_MIN);
      this.#filled = 0;
    }
    const kept = this.#kept;
    const start = this.#filled;
    const end = start + bytes;
    this.#filled = end;
    this.#block.copy(kept, start, 0, bytes);
    deliver(kept, start, end);
  }
}

/** Who gets a socket's bytes; set before anything is read. */
export class Receiver {
  deliver: Deliver = () => {};
}
