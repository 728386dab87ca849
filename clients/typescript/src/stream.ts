/** A user's recommendations, live: server-sent events read by an EventSource. */

import type { RecommendationAnswer } from "./schema.js";

const RETRY_MS = 2000;

export interface StreamOptions {
  url: string;
  userId: string;
  /** Gives a token of the user's (`hu_…`), which your own server asks for; called again when one
   * is no longer taken. */
  token: () => string | Promise<string>;
  /** Is given each list, and its id. */
  onList: (answer: RecommendationAnswer, id: string) => void;
  /** Is told when the stream has broken off, with an `Error` when the server has ended it and says
   * why; it is opened again by itself. */
  onError?: (error: unknown) => void;
  k?: number;
  /** How many items change from one list to the next, at the most. */
  stability?: number;
  recommendSeen?: boolean;
  /** Only items of this category. */
  category?: string;
  /** How much unlike each other the items are to be, from 0 to 1. */
  diversity?: number;
  /** Whether each item tells which interactions moved it, in `because`. */
  explain?: boolean;
  /** In place of the global one, where there is none. */
  EventSource?: typeof EventSource;
}

export interface ListStream {
  close(): void;
}

/** Opens a stream of lists: one at once, and a new one whenever the user's session changes. */
export function openStream(options: StreamOptions): ListStream {
  const Source = options.EventSource ?? EventSource;
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;

  const again = (error: unknown) => {
    if (closed) return;
    options.onError?.(error);
    timer = setTimeout(open, RETRY_MS);
  };

  async function open(): Promise<void> {
    let token: string;
    try {
      token = await options.token();
    } catch (error) {
      return again(error);
    }
    if (closed) return;
    const opened = new Source(address(options, token));
    source = opened;
    opened.addEventListener("recommendations", (event) => {
      let answer: RecommendationAnswer;
      try {
        answer = JSON.parse(event.data) as RecommendationAnswer;
      } catch (error) {
        options.onError?.(error);
        return;
      }
      options.onList(answer, event.lastEventId);
    });
    opened.addEventListener("end", (event) => {
      // The token is over: with it an EventSource would only be refused.
      opened.close();
      again(new Error(reasonOf(event.data)));
    });
    opened.addEventListener("error", (event) => {
      // An EventSource connects again by itself, unless it was refused: with a token that is over.
      if (opened.readyState === Source.CLOSED) again(event);
      else options.onError?.(event);
    });
  }

  void open();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      source?.close();
    },
  };
}

function address(options: StreamOptions, token: string): string {
  const { url, userId, k, stability, recommendSeen, category, diversity, explain } = options;
  const path = `/v1/users/${encodeURIComponent(userId)}/recommendations/stream`;
  const query = new URLSearchParams({ access_token: token });
  const asked = { k, stability, recommend_seen: recommendSeen, category, diversity, explain };
  for (const [name, value] of Object.entries(asked)) {
    if (value !== undefined) query.set(name, String(value));
  }
  return `${url.replace(/\/+$/, "")}${path}?${query}`;
}

/** What the last event of a stream says. */
function reasonOf(data: string): string {
  try {
    return (JSON.parse(data) as { reason: string }).reason;
  } catch {
    return `The server has ended the stream: ${data}`;
  }
}
