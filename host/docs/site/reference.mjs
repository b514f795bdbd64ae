// Pages that nobody writes: they are made of what the server itself reads or says.
import { commands } from './reference/commands.mjs';
import { configuration } from './reference/configuration.mjs';
import { hostEvents } from './reference/events.mjs';
import { http } from './reference/http.mjs';

/** By the file or folder in the repository that they are made of: their name in the site, and what makes them. */
export const REFERENCES = new Map([
  ['mixlab.toml', { name: 'configuration', make: configuration }],
  ['host/openapi.json', { name: 'http', make: http }],
  ['host/src/contracts/host_events.rs', { name: 'events', make: hostEvents }],
  ['host/src/cli', { name: 'commands', make: commands }],
]);
