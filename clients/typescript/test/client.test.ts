/** The client against a running server, whose address and key the environment gives. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";

import { EventSource } from "eventsource";

import { createClient, openStream, type RecommendationAnswer } from "../src/index.js";

const url = process.env["HEADRACE_URL"] ?? "";
const key = process.env["HEADRACE_API_KEY"] ?? "";
const client = createClient({ url, key });
const closing: Array<() => void> = [];
after(() => closing.forEach((close) => close()));

function event(userId: string, itemId: string) {
  const timestamp = Date.now() / 1000;
  return { type: "click", event_id: randomUUID(), user_id: userId, item_id: itemId, timestamp } as const;
}

test("an answer knows the event whose token it was asked for", async () => {
  const userId = `user ${randomUUID()}`;
  const sent = await client.POST("/v1/events", { body: [event(userId, "tea")] });
  assert.equal(sent.data?.accepted, 1);
  const outcome = sent.data.events[0];
  assert(outcome?.status === "accepted");
  const { data } = await client.POST("/v1/recommendations", {
    body: { user_id: userId, k: 3, after: outcome.token, timeout_ms: 10_000 },
  });
  assert.equal(data?.session.interactions, 1);
  const known = await client.GET("/v1/users/{user_id}/interactions", {
    params: { path: { user_id: userId } },
  });
  assert.deepEqual(Object.keys(known.data?.interactions ?? {}), ["tea"]);
});

test("a refusal is a problem document", async () => {
  const { data, error, response } = await client.POST("/v1/recommendations", {
    body: { user_id: "42", k: 501 },
  });
  assert.equal(data, undefined);
  assert.equal(response.status, 422);
  assert.equal(error?.errors?.[0]?.field, "k");
  const closed = await createClient({ url, key: "another" }).GET("/v1/trending");
  assert.equal(closed.response.status, 401);
});

test("what failed for a moment is repeated", async () => {
  let calls = 0;
  const busy = createClient({
    url,
    key,
    retries: { firstMs: 1 },
    fetch: async (input, init) => {
      calls += 1;
      if (calls === 1) return new Response(null, { status: 503, headers: { "retry-after": "0" } });
      if (calls === 2) throw new TypeError("broken off");
      return fetch(input, init);
    },
  });
  const { data } = await busy.POST("/v1/events", { body: event(randomUUID(), "tea") });
  assert.equal(data?.accepted, 1);
  assert.equal(calls, 3);
});

test("what may not be sent twice is repeated after 429 alone", async () => {
  let calls = 0;
  const away = createClient({
    url,
    key,
    retries: { firstMs: 1 },
    fetch: async () => new Response(null, { status: ++calls % 2 === 1 ? 429 : 503 }),
  });
  const model = { params: { path: { model_id: "default" } } };
  const replay = { params: { path: { replay_id: "replay" } } };
  const form = { body: {}, bodySerializer: () => new FormData() };
  for (const call of [
    () => away.POST("/v1/models/{model_id}/rollback", model),
    () => away.POST("/v1/replays", { body: {} }),
    () => away.POST("/v1/replays/{replay_id}/resume", replay),
    () => away.POST("/v1/replays/{replay_id}/promote", replay),
    () => away.POST("/v1/dead-letters/{letter_id}/resend", {
        params: { path: { letter_id: "letter" } },
        body: {},
      }),
    () => away.POST("/v1/models/{model_id}/train", { ...model, ...form }),
  ]) {
    calls = 0;
    const { response } = await call();
    assert.equal(response.status, 503);
    assert.equal(calls, 2);
  }
});

test("a pause ends with its request, and none goes beyond the time there is", async () => {
  let calls = 0;
  const away = (withinMs: number) =>
    createClient({
      url,
      key,
      retries: { withinMs },
      fetch: async () => {
        calls += 1;
        return new Response(null, { status: 503, headers: { "retry-after": "3600" } });
      },
    });
  const { response } = await away(1_000).GET("/v1/trending");
  assert.equal(response.status, 503);
  assert.equal(calls, 1);
  await assert.rejects(
    away(7_200_000).GET("/v1/trending", { signal: AbortSignal.timeout(50) }),
    { name: "TimeoutError" },
  );
  assert.equal(calls, 2);
});

test("a training that is asked for again after its answer got lost is one training", async () => {
  let keys: unknown[] = [];
  const losing = createClient({
    url,
    key,
    retries: { firstMs: 1 },
    fetch: async (input, init) => {
      keys.push((await (input as Request).clone().json()).idempotency_key);
      const response = await fetch(input, init);
      if (keys.length === 1) throw new TypeError("broken off");
      return response;
    },
  });
  const params = { path: { model_id: "default" } };
  for (const own of [{}, { idempotency_key: randomUUID() }]) {
    keys = [];
    const { data: task } = await losing.POST("/v1/models/{model_id}/train", { params, body: own });
    assert.equal(task?.status, "QUEUED");
    assert.equal(keys.length, 2);
    assert.equal(keys[0], keys[1]);
    if ("idempotency_key" in own) assert.equal(keys[0], own.idempotency_key);
    await client.DELETE("/v1/tasks/{task_id}", { params: { path: { task_id: task.id } } });
  }
});

test("a stream gives a list at once, and another when the session changes", async () => {
  const userId = randomUUID();
  const { data: granted } = await client.POST("/v1/users/{user_id}/token", {
    params: { path: { user_id: userId } },
    body: { scopes: ["recommend", "events"] },
  });
  const token = granted?.token ?? "";
  const lists: RecommendationAnswer[] = [];
  let tokens = 0;
  await new Promise<void>((resolve, reject) => {
    const stream = openStream({
      url,
      userId,
      k: 3,
      category: "drinks",
      diversity: 0.5,
      explain: true,
      EventSource: EventSource as unknown as typeof globalThis.EventSource,
      // The first one is refused; the stream asks for another.
      token: () => (++tokens === 1 ? "hu_over" : token),
      onList: (answer, id) => {
        lists.push(answer);
        assert.notEqual(id, "");
        if (lists.length === 1) {
          createClient({ url, key: token })
            .POST("/v1/events", { body: event(userId, "tea") })
            .catch(reject);
        } else if (answer.session.interactions === 1) resolve();
      },
    });
    closing.push(() => stream.close());
  });
  assert.equal(lists[0]?.session.interactions, 0);
  assert.equal(tokens, 2);
});

test("a stream that the server ends says why, and is opened again with another token", async () => {
  const userId = randomUUID();
  const told: unknown[] = [];
  await new Promise<void>((resolve, reject) => {
    const stream = openStream({
      url,
      userId,
      k: 3,
      EventSource: EventSource as unknown as typeof globalThis.EventSource,
      token: async () => {
        const { data: granted } = await client.POST("/v1/users/{user_id}/token", {
          params: { path: { user_id: userId } },
          body: { scopes: ["recommend"], expires_s: told.length === 0 ? 2 : 900 },
        });
        return granted?.token ?? "";
      },
      onError: (error) => told.push(error),
      onList: () => {
        if (told.length > 0) resolve();
      },
    });
    closing.push(() => stream.close());
    setTimeout(() => reject(new Error("no other list came")), 60_000).unref();
  });
  assert.match(String(told[0]), /The token has expired/);
  assert.equal(told.length, 1);
});
