#!/usr/bin/env node
// The command line: what pgsteer can be told to do. Each command loads its own part of the program, so that `status`, which scripts
// call often, does not pay for the router.

import { Command, CommanderError } from "commander";
import { readBuild } from "./build.ts";
import { EXIT } from "./exit-codes.ts";
import type { HttpFlags, HttpTarget } from "./http-target.ts";

const DEFAULT_URL = "http://127.0.0.1:7000";

const build = readBuild();
const program = new Command("pgsteer")
  .description("Routes PostgreSQL connections to the member that Patroni says, and pools them.")
  .version(build.version, "-V, --version", "print the version")
  .showHelpAfterError("(pgsteer --help says what there is)")
  .exitOverride();

program
  .command("run")
  .description("run the router until SIGTERM")
  .usage("[--record FILE] -c FILE | postgres://user:password@host:port/database …")
  .argument("[urls...]", "servers of a cluster without Patroni, in place of a configuration file")
  .option("-c, --config <file>", "configuration file")
  .option("--record <file>", "write what is seen of each cluster, and what is believed of it, for pgsteer replay")
  .addHelpText(
    "after",
    `
Signals:
  SIGHUP           read the configuration file again
  SIGTERM, SIGINT  let transactions finish (at most drain_timeout), then stop; a second one stops at once

Exit codes:
  ${EXIT.ok}   stopped by a signal
  ${EXIT.failed}   cannot listen on an address
  ${EXIT.usage}  wrong command line
  ${EXIT.internal}  internal error; the log has it
  ${EXIT.configuration}  the configuration cannot be used`,
  )
  .action(async (urls: string[], { config: file, record }: { config?: string; record?: string }) => {
    if (file === undefined && urls.length === 0) usageError("name a configuration file with -c, or the servers' URLs");
    if (file !== undefined && urls.length > 0) usageError("give a configuration file or URLs, not both");
    const { configurationSource, printProblems } = await import("./configuration.ts");
    const source = configurationSource(file ?? null, urls);
    const loaded = source.read();
    if (!loaded.ok) {
      printProblems(file ?? null, loaded.problems);
      process.exitCode = EXIT.configuration;
      return;
    }
    const { createLogger } = await import("./log.ts");
    const { runRouter } = await import("./run.ts");
    const { config, warnings } = loaded;
    const options = { config, warnings, source, record: record ?? null, build };
    process.exitCode = await runRouter(createLogger(config.log), options);
  });

program
  .command("check")
  .description("say whether a configuration file can be used")
  .requiredOption("-c, --config <file>", "configuration file")
  .option("--connect", "also connect to etcd, Patroni and each member, and say what was found", false)
  .addHelpText(
    "after",
    `
Exit codes:
  ${EXIT.ok}   it can be used (warnings may have been printed); with --connect, everything answers
  ${EXIT.failed}   it has problems, or something does not answer
  ${EXIT.usage}  wrong command line`,
  )
  .action(async ({ config, connect }: { config: string; connect: boolean }) => {
    const { checkConfiguration } = await import("./check.ts");
    process.exitCode = await checkConfiguration(config, connect);
  });

/** How a command finds the pgsteer that it asks, and who it is to it. */
const asking = (command: Command): Command =>
  command
    .option(
      "-c, --config <file>",
      "configuration file of that pgsteer, to know its HTTP address, certificate and token",
    )
    .option("--token-file <file>", "file with its token, where it wants a login")
    .option(
      "--ca-file <file>",
      "file with the certificates, PEM, that its own must descend from (default: the system's)",
    )
    .option("--cert-file <file>", "file with a client certificate, PEM, where it wants one")
    .option("--key-file <file>", "file with its private key, PEM");

asking(program.command("status"))
  .description("show what a running pgsteer believes and serves")
  .option("-u, --url <url>", `its HTTP address (default: ${DEFAULT_URL})`)
  .option("--json", "print what /topology says", false)
  .option("-w, --watch", "show it again every 2 seconds, until Ctrl-C", false)
  .addHelpText(
    "after",
    `
Exit codes:
  ${EXIT.ok}   writes are served
  ${EXIT.failed}   that pgsteer does not answer
  ${EXIT.notWritable}   it answers, but a cluster has no leader that takes writes
  ${EXIT.usage}  wrong command line`,
  )
  .action(async ({ json, watch, ...flags }: HttpFlags & { json: boolean; watch: boolean }) => {
    if (flags.config !== undefined && flags.url !== undefined) usageError("give --config or --url, not both");
    const target = await targetOf(flags);
    if (target === null) return;
    const { showStatus } = await import("./status.ts");
    process.exitCode = await showStatus({ target, json, watch });
  });

asking(program.command("reload"))
  .description("have a running pgsteer read its configuration file again, and say what came of it")
  .option("-u, --url <url>", `its HTTP address (default: ${DEFAULT_URL})`)
  .option("--json", "print what /reload says", false)
  .addHelpText(
    "after",
    `
Needs an administrator's token (http.token_file). SIGHUP does the same, and says it in the log.

Exit codes:
  ${EXIT.ok}   the new configuration is in force, but for what needs a restart
  ${EXIT.failed}   it is not, or that pgsteer does not answer
  ${EXIT.usage}  wrong command line`,
  )
  .action(async ({ json, ...flags }: HttpFlags & { json: boolean }) => {
    if (flags.config !== undefined && flags.url !== undefined) usageError("give --config or --url, not both");
    const target = await targetOf(flags);
    if (target === null) return;
    const { askReload } = await import("./ask-reload.ts");
    process.exitCode = await askReload(target, json);
  });

program
  .command("replay")
  .description("show what a recording (run --record) makes pgsteer believe, as a timeline")
  .argument("<file>", "a recording of one cluster")
  .option("--json", "print one JSON object per change", false)
  .addHelpText(
    "after",
    `
Exit codes:
  ${EXIT.ok}   it was read (even if pgsteer now believes otherwise than it did then, which is said)
  ${EXIT.failed}   it cannot be read
  ${EXIT.usage}  wrong command line`,
  )
  .action(async (file: string, { json }: { json: boolean }) => {
    const { showReplay } = await import("./replay.ts");
    process.exitCode = showReplay(file, json);
  });

asking(program.command("events"))
  .description("show the changes of leader that a running pgsteer has seen, each as a timeline, newest first")
  .argument("[url]", `its HTTP address (default: ${DEFAULT_URL})`)
  .option("--json", "print what /events says", false)
  .option("-n, --limit <number>", "show no more than so many", "10")
  .option("-f, --follow", "go on with those to come, as they happen, until Ctrl-C; oldest first", false)
  .addHelpText(
    "after",
    `
Times are relative to the first sign. A pgsteer remembers the last 100, until it is restarted; its log has them all.

Exit codes:
  ${EXIT.ok}   shown, also when there is none
  ${EXIT.failed}   that pgsteer does not answer
  ${EXIT.usage}  wrong command line`,
  )
  .action(async (url: string | undefined, { limit, json, follow, ...flags }: EventsFlags) => {
    if (flags.config !== undefined && url !== undefined) usageError("give a configuration file or a URL, not both");
    if (!/^[1-9]\d{0,5}$/.test(limit)) usageError(`"${limit}" is not a number of events; write --limit 10`);
    const target = await targetOf({ ...flags, url });
    if (target === null) return;
    const { showEvents } = await import("./events.ts");
    process.exitCode = await showEvents({ target, json, follow, limit: Number(limit) });
  });

interface EventsFlags extends HttpFlags {
  readonly limit: string;
  readonly json: boolean;
  readonly follow: boolean;
}

/** The pgsteer that a command asks; null, said why, where its files do not say. */
async function targetOf(flags: HttpFlags): Promise<HttpTarget | null> {
  const { httpTarget } = await import("./http-target.ts");
  if (flags.url !== undefined && !URL.canParse(flags.url))
    usageError(`"${flags.url}" is not a URL; write http://host:port`);
  const target = httpTarget(flags);
  if (!("problem" in target)) return target;
  console.error(target.problem);
  process.exitCode = EXIT.failed;
  return null;
}

const coordination = `
Exit codes:
  ${EXIT.ok}   done
  ${EXIT.failed}   it did not work: etcd or a router does not answer, or what came of it has to be looked at
  ${EXIT.usage}  wrong command line
  ${EXIT.calledOff}  called off, or refused because another command is at work: nothing has changed
  ${EXIT.configuration}  the configuration cannot be used, or its source is not etcd`;

/** Milliseconds of an option such as 30s. */
async function durationOf(name: string, written: string): Promise<number> {
  const { positiveDuration } = await import("../config/values.ts");
  const parsed = positiveDuration.safeParse(written);
  return parsed.success ? parsed.data : usageError(`${name} ${written}: write a duration, such as 500ms, 30s or 5m`);
}

program
  .command("switchover")
  .description("have all routers drain, then Patroni switch over, then all go on: no client sees an error")
  .requiredOption("-c, --config <file>", "configuration file of the routers")
  .option("--cluster <name>", "which cluster, where the file has several")
  .option("--candidate <member>", "the new leader (default: Patroni chooses)")
  .option("--deadline <duration>", "how long open transactions may take", "30s")
  .addHelpText("after", coordination)
  .action(async (given: { config: string; cluster?: string; candidate?: string; deadline: string }) => {
    const { switchover } = await import("./switchover.ts");
    process.exitCode = await switchover({
      file: given.config,
      cluster: given.cluster ?? null,
      candidate: given.candidate ?? null,
      deadlineMs: await durationOf("--deadline", given.deadline),
    });
  });

program
  .command("pause")
  .description("have all routers hold every transaction that would start, until pgsteer resume")
  .requiredOption("-c, --config <file>", "configuration file of the routers")
  .option("--cluster <name>", "which cluster, where the file has several")
  .option("-w, --wait", "until no transaction is open any more", false)
  .option("--deadline <duration>", "how long to wait for that; the pause stands in any case", "30s")
  .addHelpText("after", coordination)
  .action(async (given: { config: string; cluster?: string; wait: boolean; deadline: string }) => {
    const { pause } = await import("./pause.ts");
    const waitMs = given.wait ? await durationOf("--deadline", given.deadline) : null;
    process.exitCode = await pause({ file: given.config, cluster: given.cluster ?? null, waitMs });
  });

program
  .command("resume")
  .description("end a pause: all routers go on")
  .requiredOption("-c, --config <file>", "configuration file of the routers")
  .option("--cluster <name>", "which cluster, where the file has several")
  .addHelpText("after", coordination)
  .action(async (given: { config: string; cluster?: string }) => {
    const { resume } = await import("./pause.ts");
    process.exitCode = await resume({ file: given.config, cluster: given.cluster ?? null });
  });

function usageError(message: string): never {
  return program.error(`error: ${message}`, { exitCode: EXIT.usage });
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
}
// What keeps an event loop alive here is over: closed connections that linger.
process.exit();
