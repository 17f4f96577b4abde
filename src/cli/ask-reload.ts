// `pgsteer reload`: has a running pgsteer read its configuration again, as SIGHUP does, and shows what came of it.

import { reloadReportSchema } from "../admin/reload-report.ts";
import { ask, printNoAnswer } from "./ask.ts";
import { EXIT } from "./exit-codes.ts";
import type { HttpTarget } from "./http-target.ts";

/** Returns the exit code. */
export async function askReload(target: HttpTarget, asJson: boolean): Promise<number> {
  const agent = target.agent();
  try {
    const asked = await ask(agent, target, "/reload", reloadReportSchema, { method: "POST", statuses: [200, 409] });
    if (!asked.ok) {
      printNoAnswer(target.url, asked.reason, "with --url");
      return EXIT.failed;
    }
    const report = asked.document;
    if (asJson) console.log(JSON.stringify(report, null, 2));
    else {
      for (const warning of report.warnings) console.log(`warning: ${warning}`);
      for (const { message, remedy } of report.problems) {
        console.error(message);
        if (remedy !== "") console.error(`    remedy: ${remedy}`);
      }
      for (const setting of report.kept) console.log(`kept until a restart: ${setting}`);
      const changes = report.changed.length === 0 ? "nothing has changed" : `changed: ${report.changed.join(", ")}`;
      console.log(report.reloaded ? `reloaded; ${changes}` : "not reloaded: the old configuration stays");
    }
    return report.reloaded ? EXIT.ok : EXIT.failed;
  } finally {
    await agent.destroy();
  }
}
