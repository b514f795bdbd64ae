// The module `mixlab`: what a script imports. `plugins/mixlab.d.ts` says it with types.
export { HostError, Refusal, Rejection } from "mixlab:call";
export { done, event, noAck, pass, plugin, reject, replace, reply } from "mixlab:plugin";
export { t } from "mixlab:schema";
