// One process. Listens on a free port of 127.0.0.1 and says which.
import { http, io } from './app.mjs';

http.listen(0, '127.0.0.1', () => console.log(`Node is listening on http://127.0.0.1:${http.address().port}`));
process.once('SIGTERM', () => io.close(() => process.exit(0)));
