// What a server may send once somebody is logged in, by message type. Anything else, passed on, would make a client wait for a
// message that never ends, or take a cut stream for answers.

import { Backend } from "./constants.ts";

const known = new Uint8Array(256);
for (const type of Object.values(Backend)) known[type] = 1;
// These belong to the login.
for (const type of [Backend.Authentication, Backend.BackendKeyData, Backend.NegotiateProtocolVersion]) known[type] = 0;

/** Whether servers send messages of this type between two requests or in answer to one. */
export const isReply = (type: number): boolean => known[type] === 1;
