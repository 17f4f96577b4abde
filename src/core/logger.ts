// What the rest of pgsteer needs of a logger. cli/ builds a pino instance that satisfies it; tests hand in `silentLogger`.

type Fields = Readonly<Record<string, unknown>>;

/** One line per event that matters; fields first, as in pino. Never passwords, keys, tokens or query text. */
export interface Logger {
  debug(fields: Fields, message: string): void;
  info(fields: Fields, message: string): void;
  warn(fields: Fields, message: string): void;
  error(fields: Fields, message: string): void;
  /** A logger that adds `fields` to each of its lines. */
  child(fields: Fields): Logger;
}

export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
};
