// Frontend messages with parameters, portals and formats, where those of the other tests have none.

import { cstring, int32, message } from "../support/raw-client.ts";

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
};

const lengthAndText = (text: string): Buffer => Buffer.concat([int32(Buffer.byteLength(text)), Buffer.from(text)]);

/** Bind with parameters and results as text. */
export function bind(portal: string, statement: string, values: readonly string[]): Buffer {
  return message(
    "B",
    cstring(portal),
    cstring(statement),
    int16(0),
    int16(values.length),
    ...values.map(lengthAndText),
    int16(0),
  );
}

export const close = (kind: "S" | "P", name: string): Buffer => message("C", Buffer.from(kind), cstring(name));

export const copyFail = (reason: string): Buffer => message("f", cstring(reason));

/** OID of btrim(text), a function whose answer is its argument. */
const BTRIM = 885;

/** Fast-path call of btrim(text), argument and result as text. */
export function functionCall(argument: string): Buffer {
  return message("F", int32(BTRIM), int16(0), int16(1), lengthAndText(argument), int16(0));
}

export const sslRequest = (): Buffer => message("", int32(80_877_103));
export const gssencRequest = (): Buffer => message("", int32(80_877_104));
export const cancelRequest = (key: Buffer): Buffer => message("", int32(80_877_102), key);
