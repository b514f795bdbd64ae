// Studios where users talk: a Socket.IO server on Node. ../plugin is the same thing in MixLab.
import jwt from 'jsonwebtoken';
import { Server } from 'socket.io';

const io = new Server(Number(process.env.PORT ?? 3000), {
  connectionStateRecovery: {},
  cors: { origin: ['https://app.example.com'] },
});

io.use((socket, next) => {
  try {
    const { sub, username, role } = jwt.verify(socket.handshake.auth.token, process.env.JWT_SECRET, {
      algorithms: ['HS256'],
    });
    socket.data.user = { id: String(sub), name: username };
    socket.data.role = role;
    next();
  } catch {
    next(new Error('unauthorized'));
  }
});

const refusal = (code, message) => ({ error: { code, message, temporary: false } });
const isText = (value) => typeof value === 'string' && value.length >= 1 && value.length <= 500;

io.on('connection', (socket) => {
  const { user, role } = socket.data;

  socket.on('enter', (studio, ack) => {
    if (!isText(studio)) return ack(refusal('invalid_payload', 'the studio has no name'));
    socket.join(`studio:${studio}`);
    socket.to(`studio:${studio}`).emit('entered', { user, studio });
    ack({ studio });
  });

  socket.on('say', (message, ack) => {
    if (!isText(message?.studio) || !isText(message?.text)) return ack(refusal('invalid_payload', 'say what, and where'));
    const { studio, text } = message;
    if (!socket.rooms.has(`studio:${studio}`)) return ack(refusal('not_inside', 'Enter the studio first'));
    io.to(`studio:${studio}`).emit('said', { user, studio, text });
    ack();
  });

  socket.on('announce', (text, ack) => {
    if (role !== 'admin') return ack(refusal('permission_denied', 'this is for admins'));
    if (!isText(text)) return ack(refusal('invalid_payload', 'announce what?'));
    io.emit('announced', { user, text });
    ack();
  });

  socket.on('disconnecting', () => {
    for (const room of socket.rooms) {
      if (room.startsWith('studio:')) socket.to(room).emit('left', { user, studio: room.slice('studio:'.length) });
    }
  });
});

io.httpServer.on('listening', () => console.log(`listening on port ${io.httpServer.address().port}`));
