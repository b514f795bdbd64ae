// Runs the handlers in Node: npm install, then npm test, in the folder above. The cases in {{name}}.test.toml need no Node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { host } from "mixlab/test";
import plugin from "./{{file}}";

test("a user is reminded when it is time", async () => {
    const timer = host(plugin);
    timer.logIn(7);
    await timer.send("{{name}}:remind", { text: "tea", seconds: 60 });
    await timer.advance("59s");
    assert.deepEqual(timer.takeEmitted(), []);
    await timer.advance("1s");
    assert.deepEqual(timer.takeEmitted(), [
        { target: { users: ["7"] }, event: "{{name}}:reminder", arguments: [{ text: "tea" }] },
    ]);
});
