// For the cases: answers what it is sent.
import { event, plugin } from "mixlab";

export default plugin({ echo: event({ access: "anyone" }, (cx, text) => text) });
