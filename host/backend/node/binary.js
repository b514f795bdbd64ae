// Bytes among the arguments of an event: each becomes a placeholder, and its bytes an attachment in base64.

/** The value with placeholders, and the attachments. */
export function pack(value) {
  const attachments = [];
  const packed = (it) => {
    const bytes = bytesOf(it);
    if (bytes) return { _placeholder: true, num: attachments.push(bytes.toString('base64')) - 1 };
    if (it === null || typeof it !== 'object' || typeof it.toJSON === 'function') return it;
    if (Array.isArray(it)) return it.map(packed);
    return Object.fromEntries(Object.entries(it).map(([key, field]) => [key, packed(field)]));
  };
  return { value: packed(value), attachments };
}

function bytesOf(it) {
  if (it instanceof ArrayBuffer) return Buffer.from(it);
  return ArrayBuffer.isView(it) ? Buffer.from(it.buffer, it.byteOffset, it.byteLength) : null;
}
