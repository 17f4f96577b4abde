// What a reload came to, for whoever asked for it over HTTP; the log has the same in more words.

import { z } from "zod";

/** The document that POST /reload answers with. */
export const reloadReportSchema = z.object({
  /** Whether the new configuration is in force, but for what was kept. */
  reloaded: z.boolean(),
  /** Sections of the file that have changed. */
  changed: z.array(z.string()).readonly(),
  /** What cannot change while pgsteer runs, and has kept its old value. */
  kept: z.array(z.string()).readonly(),
  warnings: z.array(z.string()).readonly(),
  /** Mistakes in the file, or reasons why it cannot be taken over; `remedy` is empty where the message says it all. */
  problems: z.array(z.object({ message: z.string(), remedy: z.string() })).readonly(),
});

export type ReloadReport = z.infer<typeof reloadReportSchema>;
export type ReloadProblem = ReloadReport["problems"][number];
