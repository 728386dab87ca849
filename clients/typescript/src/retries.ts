/** When a call is repeated, and after what pause. */

export interface Retries {
  /** Attempts at the most, the first one among them; 1: never repeat. Default 5. */
  attempts?: number;
  /** The first pause, in milliseconds; each further one is twice as long. Default 100. */
  firstMs?: number;
}

/** Nothing was done for 429; something may be away for a moment for the others. */
const PASSING = new Set([429, 502, 503, 504]);

/**
 * Returns a fetch that repeats what failed for a moment, and waits as long as `Retry-After` asks.
 *
 * Events have ids, so that one sent twice counts once; only a rollback may not be done twice.
 */
export function retrying(
  once: typeof fetch,
  { attempts = 5, firstMs = 100 }: Retries = {},
): (request: Request) => Promise<Response> {
  return async (request) => {
    const safe = !new URL(request.url).pathname.endsWith("/rollback");
    for (let attempt = 1; ; attempt++) {
      let pauseMs = firstMs * 2 ** (attempt - 1) * (1 + Math.random());
      const last = attempt >= attempts;
      try {
        const response = await once(request.clone());
        const passing = response.status === 429 || (safe && PASSING.has(response.status));
        if (last || !passing) return response;
        pauseMs = Math.max(pauseMs, 1000 * Number(response.headers.get("retry-after") ?? 0) || 0);
        await response.body?.cancel();
      } catch (error) {
        if (last || !safe || request.signal.aborted) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  };
}
