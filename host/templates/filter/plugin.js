// Sees the events of other plugins before they do: what has the word "spam" goes no further.
import { pass, plugin, reject } from "mixlab";

export default plugin({}).filter("*", (cx, ...args) => {
    if (JSON.stringify(args).includes("spam")) reject("not_welcome", "Say something else");
    return pass;
});
