// What scripts of Node look for and is not here: a clear word instead of "not a function".
const REASONS = {
    setTimeout: "a call is over when its handler has answered, and nothing runs later: set a timer with cx.timers.set(name, payload, { after: \"5s\" }) and handle it with onTimer",
    setInterval: "nothing runs between calls: declare a schedule with .every(name, \"5s\", handler)",
    setImmediate: "nothing runs after a call: queueMicrotask runs within it, and cx.timers.set(name, payload) behind it",
    require: "scripts are modules: write import, of \"mixlab\" or of a file beside the script",
    XMLHttpRequest: "use fetch, which needs the grant http:URL",
    WebSocket: "use fetch, which needs the grant http:URL",
};

/** Functions that say so, by their names. */
export const missing = {};
for (const [name, reason] of Object.entries(REASONS)) {
    missing[name] = () => {
        throw new ReferenceError(`${name} is not there: ${reason}`);
    };
}
for (const name of ["clearTimeout", "clearInterval", "clearImmediate"]) missing[name] = () => {};
