// What CommandComplete tells of a session: few tags are looked at, and few messages for their sake.

/** Command tags after which no prepared statement is left. */
export const droppingTags: ReadonlySet<string> = new Set(["DISCARD ALL", "DEALLOCATE ALL"]);

/** Command tags that tell of a change to the session. */
export const tellingTags: ReadonlySet<string> = new Set([...droppingTags, "SET", "RESET", "LOAD"]);

/** Length words of their messages. */
export const tellingLengths: ReadonlySet<number> = new Set([...tellingTags].map((tag) => 4 + tag.length + 1));
