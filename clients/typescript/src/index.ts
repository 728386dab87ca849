/** A typed client of Headrace: `createClient` for calls, `openStream` for lists that stay live. */

import createFetchClient, { type Client } from "openapi-fetch";

import { type Retries, retrying } from "./retries.js";
import type { paths } from "./schema.js";

export type * from "./schema.js";
export { type Retries } from "./retries.js";
export { type ListStream, openStream, type StreamOptions } from "./stream.js";

/** A client of one server; its methods are those of openapi-fetch, typed by the server's document. */
export type HeadraceClient = Client<paths>;

export interface ClientOptions {
  /** The server's address, `https://shop.example:8080`. */
  url: string;
  /** An API key, on a server of your own, or a user's token. */
  key?: string;
  retries?: Retries;
  /** In place of the global one. */
  fetch?: typeof fetch;
}

/**
 * Returns a client. Each call gives `data`, or `error`: the problem document (RFC 9457).
 *
 * What failed for a moment, and may be done twice, is repeated; a call rejects when there is no
 * answer after that.
 */
export function createClient(options: ClientOptions): HeadraceClient {
  return createFetchClient<paths>({
    baseUrl: options.url.replace(/\/+$/, ""),
    headers: options.key ? { authorization: `Bearer ${options.key}` } : {},
    fetch: retrying(options.fetch ?? fetch, options.retries),
  });
}
