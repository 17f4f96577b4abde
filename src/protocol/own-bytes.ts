// Bytes that are kept for longer than the call that brought them: in memory of their own, for a few of them would keep alive the whole
// block that they were read into.

const nothing = Buffer.alloc(0);

/** `bytes`, or a copy where they share memory with others. */
export function ownBytes(bytes: Buffer): Buffer {
  if (bytes.length === 0) return nothing;
  if (bytes.buffer.byteLength === bytes.length) return bytes;
  const own = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(own);
  return own;
}
