// `pgsteer events`: asks a running pgsteer over HTTP what its changes of leader were like, and shows each as a timeline or as JSON.

import { setTimeout as delay } from "node:timers/promises";
import { styleText } from "node:util";
import type { Agent } from "undici";
import { type EventDocument, eventsSchema } from "../admin/events-document.ts";
import { ask, printNoAnswer } from "./ask.ts";
import { EXIT } from "./exit-codes.ts";
import type { HttpTarget } from "./http-target.ts";
import { lineOf, type Paint, plain, renderEvent, resultOf, titleOf, totalsOf } from "./timeline.ts";

const FOLLOW_EVERY_MS = 500;

export interface EventsOptions {
  readonly target: HttpTarget;
  readonly json: boolean;
  readonly follow: boolean;
  /** Of those that there are, the last so many. */
  readonly limit: number;
}

const coloured: Paint = {
  good: (text) => styleText("green", text),
  bad: (text) => styleText("red", text),
  title: (text) => styleText("bold", text),
  aside: (text) => styleText("dim", text),
};

async function fetchEvents(agent: Agent, { target, limit }: EventsOptions): Promise<readonly EventDocument[] | null> {
  const asked = await ask(agent, target, `/events?limit=${limit}`, eventsSchema);
  if (asked.ok) return asked.document.events;
  printNoAnswer(target.url, asked.reason, "behind the command");
  return null;
}

/** Writes what of each event is new since the last look, oldest first. */
class Follower {
  /** Lines of the timeline that were written, by event; of one that is over, all and the totals. */
  readonly #written = new Map<number, { marks: number; over: boolean; readonly begunOpen: boolean }>();
  readonly #json: boolean;
  readonly #paint: Paint;

  constructor(json: boolean, paint: Paint) {
    this.#json = json;
    this.#paint = paint;
  }

  show(events: readonly EventDocument[]): void {
    for (const event of events.toReversed()) {
      if (this.#json) this.#showJson(event);
      else this.#showLines(event);
    }
    const present = new Set(events.map(({ id }) => id));
    for (const id of this.#written.keys()) if (!present.has(id)) this.#written.delete(id);
  }

  /** One line each, once it is over. */
  #showJson(event: EventDocument): void {
    if (event.going || this.#written.has(event.id)) return;
    this.#written.set(event.id, { marks: 0, over: true, begunOpen: false });
    console.log(JSON.stringify(event));
  }

  #showLines(event: EventDocument): void {
    const written = this.#written.get(event.id) ?? { marks: 0, over: false, begunOpen: event.going };
    this.#written.set(event.id, written);
    if (written.over) return;
    if (written.marks === 0) console.log(titleOf(event, this.#paint));
    for (; written.marks < event.timeline.length; written.marks += 1)
      console.log(lineOf(event, written.marks, this.#paint));
    written.over = !event.going;
    if (!written.over) return;
    const result = written.begunOpen ? [resultOf(event, this.#paint)] : [];
    console.log(`${[...result, ...totalsOf(event, this.#paint)].join("\n")}\n`);
  }
}

/** Shows the events once, or also those to come until Ctrl-C. Returns the exit code. */
export async function showEvents(options: EventsOptions): Promise<number> {
  const agent = options.target.agent();
  try {
    return options.follow ? await follow(agent, options) : await showOnce(agent, options);
  } finally {
    await agent.destroy();
  }
}

const paintHere = (): Paint => (process.stdout.isTTY ? coloured : plain);

async function showOnce(agent: Agent, options: EventsOptions): Promise<number> {
  const events = await fetchEvents(agent, options);
  if (events === null) return EXIT.failed;
  if (options.json) console.log(JSON.stringify(events, null, 2));
  else if (events.length === 0) console.log("no change of leader since this pgsteer was started");
  else console.log(events.map((event) => renderEvent(event, paintHere())).join("\n\n"));
  return EXIT.ok;
}

async function follow(agent: Agent, options: EventsOptions): Promise<number> {
  const stopped = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stopped.abort());
  const follower = new Follower(options.json, paintHere());
  let code: number = EXIT.ok;
  while (!stopped.signal.aborted) {
    const events = await fetchEvents(agent, options);
    // Said once: it may be restarted while it is being followed.
    code = events === null ? EXIT.failed : EXIT.ok;
    if (events === null) return code;
    follower.show(events);
    await delay(FOLLOW_EVERY_MS, undefined, { signal: stopped.signal }).catch(() => {});
  }
  return code;
}
