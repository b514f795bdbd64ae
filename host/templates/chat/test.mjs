// Runs the handlers in Node: npm install, then npm test, in the folder above. The cases in {{name}}.test.toml need no Node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { host } from "mixlab/test";
import plugin from "./{{file}}";

test("who has joined gets what is said", async () => {
    const chat = host(plugin);
    await assert.rejects(chat.send("{{name}}:say", { text: "hi" }), { code: "not_joined" });
    await chat.send("{{name}}:join");
    await chat.send("{{name}}:say", { text: "hi" });
    assert.deepEqual(chat.takeEmitted(), [
        { target: { rooms: ["{{name}}"], includeSender: true }, event: "{{name}}:said", arguments: [{ text: "hi" }] },
    ]);
});
