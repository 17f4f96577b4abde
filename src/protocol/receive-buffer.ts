// Memory that a socket reads into, again and again: net's `onread` option (https://nodejs.org/api/net.html#socketconnectoptions-connectlistener).
// By default what was received is left to whoever got it; only when the owner says that all of it has been used is its memory read
// into again. What is encrypted does not come this way: TLS reads for itself.

import { Buffer } from "node:buffer";
import { RECEIVE_BYTES_MAX, RECEIVE_BYTES_MIN } from "../core/limits.ts";

/** What a client may have on its way: as much as makes its socket congested. */
const SPARE_BLOCKS_MAX = 1;

/** Net's option of the same name. */
interface OnRead {
  readonly buffer: () => Uint8Array;
  readonly callback: (bytes: number, buffer: Uint8Array) => boolean;
}

export class ReceiveBuffer {
  /** Who gets the bytes; a socket has one before it reads anything. */
  deliver: (buffer: Buffer, start: number, end: number) => void = () => {};
  /** What is read into, as a whole; from `#from` on nobody needs it. */
  #block: Buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES_MIN);
  #from = 0;
  /** The part that the socket has. */
  #view: Buffer = this.#block;
  /** Blocks before this one that may still be needed, and such as are not: a few of the largest. */
  #lent: Buffer[] = [];
  #spare: Buffer[] = [];
  /** Somebody else than the present owner may need what is in the block. */
  #forsaken = false;
  /** How far the present read, or the last one, came; whether what it brought may still be needed. */
  #end = 0;
  #needed = false;
  readonly #read = (bytes: number): boolean => {
    const view = this.#view;
    const start = view.byteOffset;
    this.#end = start + bytes;
    this.#needed = true;
    this.deliver(this.#block, start, this.#end);
    this.#prepare(bytes === view.length);
    return true;
  };
  /** For the options of the socket. */
  readonly option: OnRead = { buffer: () => this.#view, callback: this.#read };

  /** All bytes received so far have been used, those of the present call included. */
  reuse(): void {
    this.#needed = false;
    this.reuseEarlier();
  }

  /** Whether there is memory that `reuseEarlier` would free. */
  get holdsEarlier(): boolean {
    return this.#from > 0 || this.#lent.length > 0;
  }

  /** The same of everything before the present call. */
  reuseEarlier(): void {
    if (this.#lent.length > 0) {
      this.#spare = this.#lent;
      this.#lent = [];
    }
    if (!this.#forsaken) this.#from = 0;
  }

  /** What was received so far belongs to somebody who may take long over it. */
  forsake(): void {
    this.#lent = [];
    this.#forsaken = true;
  }

  /** Chooses what the next read goes into. */
  #prepare(filled: boolean): void {
    if (this.#needed || this.#forsaken) this.#from = this.#end;
    const grows = filled && this.#block.length < RECEIVE_BYTES_MAX;
    if (this.#forsaken || grows || this.#block.length - this.#from < RECEIVE_BYTES_MIN / 2) this.#exchange(grows);
    if (this.#view.byteOffset !== this.#from || this.#view.buffer !== this.#block.buffer) {
      this.#view = this.#from === 0 ? this.#block : this.#block.subarray(this.#from);
    }
  }

  #exchange(grows: boolean): void {
    const size = grows ? RECEIVE_BYTES_MAX : this.#block.length;
    const keeps = !this.#forsaken && size === RECEIVE_BYTES_MAX && this.#block.length === size;
    if (keeps && this.#lent.length < SPARE_BLOCKS_MAX) this.#lent.push(this.#block);
    this.#block = (size === RECEIVE_BYTES_MAX ? this.#spare.pop() : undefined) ?? Buffer.allocUnsafeSlow(size);
    this.#forsaken = false;
    this.#from = 0;
  }
}
