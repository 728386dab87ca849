/** When a call is repeated, and after what pause. */

export interface Retries {
  /** Attempts at the most, the first one among them; 1: never repeat. Default 5. */
  attempts?: number;
  /** The first pause, in milliseconds; each further one is twice as long. Default 100. */
  firstMs?: number;
  /** No attempt begins later than so many milliseconds after the first one. Default 30,000. */
  withinMs?: number;
}

/** Nothing was done for 429; something may be away for a moment for the others. */
const PASSING = new Set([429, 502, 503, 504]);

/** A POST to one of these, sent twice, does more than sent once. */
const ONCE = /\/(rollback|replays|resume|promote|resend)$/;
const TRAINING = /\/train$/;

/**
 * Returns a fetch that repeats what failed for a moment, and waits as long as `Retry-After` asks.
 *
 * What may not be sent twice is repeated after 429 alone, which says that nothing was done. A
 * request that is aborted ends its pause, too.
 */
export function retrying(
  once: typeof fetch,
  { attempts = 5, firstMs = 100, withinMs = 30_000 }: Retries = {},
): (request: Request) => Promise<Response> {
  return async (asked) => {
    const request = await withKey(asked);
    const safe = mayBeSentTwice(request);
    const until = Date.now() + withinMs;
    for (let attempt = 1; ; attempt++) {
      let pauseMs = firstMs * 2 ** (attempt - 1) * (1 + Math.random());
      const last = attempt >= attempts;
      try {
        const response = await once(request.clone());
        const passing = response.status === 429 || (safe && PASSING.has(response.status));
        if (!passing) return response;
        pauseMs = Math.max(pauseMs, 1000 * Number(response.headers.get("retry-after") ?? 0) || 0);
        if (last || Date.now() + pauseMs > until) return response;
        await response.body?.cancel();
      } catch (error) {
        const late = Date.now() + pauseMs > until;
        if (last || late || !safe || request.signal.aborted) throw error;
      }
      await pause(pauseMs, request.signal);
    }
  };
}

/** Waits; rejects with the signal's reason as soon as that aborts. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

/** Whether it comes to the same: events have ids, and a training, unless it is on a file, a key. */
function mayBeSentTwice(request: Request): boolean {
  const path = new URL(request.url).pathname;
  if (request.method !== "POST") return true;
  return TRAINING.test(path) ? !isForm(request) : !ONCE.test(path);
}

/** Returns the request, of a training with an idempotency key: its own, or a new one. */
async function withKey(request: Request): Promise<Request> {
  const isTraining = request.method === "POST" && TRAINING.test(new URL(request.url).pathname);
  if (!isTraining || isForm(request)) return request;
  const asked = JSON.parse((await request.clone().text()) || "{}");
  asked.idempotency_key ??= uniqueKey();
  const headers = new Headers(request.headers);
  headers.set("content-type", "application/json");
  return new Request(request, { body: JSON.stringify(asked), headers });
}

function isForm(request: Request): boolean {
  return (request.headers.get("content-type") ?? "").startsWith("multipart/");
}

/** Node.js 18, and pages that came over plain HTTP, have no `crypto.randomUUID`. */
function uniqueKey(): string {
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
}
