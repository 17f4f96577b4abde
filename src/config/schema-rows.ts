// Rows that several sections of the configuration file have in common.

import { z } from "zod";
import { text } from "./values.ts";

export const flag = z.boolean();
export const count = z.int().min(1).max(1_000_000);
export const countOrNone = z.int().min(0).max(1_000_000);
export const certFile = text.optional().describe("file with our certificate, PEM, followed by its intermediates");
export const keyFile = text.optional().describe("file with the private key of cert_file, PEM");
export const caFile = text
  .optional()
  .describe("file with the certificates, PEM, that the other side's must descend from");
export const passwordRows = {
  password: text.optional().describe("password in clear; prefer password_file or password_env"),
  password_file: text.optional().describe("file whose content is the password; a final newline is not part of it"),
  password_env: text.optional().describe("name of the environment variable that holds the password"),
};
