/* Blocks: binary columns of many rows, of which the first can be shown before the last have come; see `embedx.server.blocks`. */

const TYPES = { int16: Int16Array, int32: Int32Array, int64: BigInt64Array, float32: Float32Array };
const BLOCK_ROWS = 8192;
const aligned = (bytes) => (bytes + 7) & ~7;

/** Read an answer: {header, columns}. `told` is called with these and the number of rows that are there, block by block. */
export async function readBlocks(answer, told = () => null) {
  const reader = answer.body.getReader();
  let bytes = new Uint8Array(0), filled = 0, head = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    if (filled + value.length > bytes.length) bytes = grown(bytes, filled + value.length);
    bytes.set(value, filled);
    filled += value.length;
    head ??= readHead(bytes, filled);
    if (head && head.total > bytes.length) bytes = grown(bytes, head.total);
    if (head && readRows(head, bytes, filled)) told(head, head.rows);
  }
  if (!head || head.rows < head.header.rows) throw new Error("The answer is cut.");
  return head;
}

function grown(bytes, length) {
  const larger = new Uint8Array(length);
  larger.set(bytes);
  return larger;
}

/** Return {header, columns, at, rows, total} once the header is there. */
function readHead(bytes, filled) {
  if (filled < 8) return null;
  const length = new DataView(bytes.buffer).getUint32(4, true);
  if (filled < 8 + length) return null;
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const columns = Object.fromEntries(header.columns.map(({ name, type }) =>
    [name, type === "int64" ? new Float64Array(header.rows) : new TYPES[type](header.rows)]));
  let total = 8 + length;
  for (let row = 0; row < header.rows; row += BLOCK_ROWS) total += sizeOf(header, Math.min(BLOCK_ROWS, header.rows - row));
  return { header, columns, at: 8 + length, rows: 0, total };
}

const sizeOf = (header, rows) => header.columns.reduce((sum, { type }) => sum + aligned(rows * TYPES[type].BYTES_PER_ELEMENT), 0);

/** Take the blocks that are complete; return whether there was one. */
function readRows(head, bytes, filled) {
  const { header, columns } = head, before = head.rows;
  while (head.rows < header.rows) {
    const rows = Math.min(BLOCK_ROWS, header.rows - head.rows);
    if (filled < head.at + sizeOf(header, rows)) break;
    for (const { name, type } of header.columns) {
      const part = new TYPES[type](bytes.buffer, head.at, rows);
      columns[name].set(type === "int64" ? Array.from(part, Number) : part, head.rows);
      head.at += aligned(rows * TYPES[type].BYTES_PER_ELEMENT);
    }
    head.rows += rows;
  }
  return head.rows > before;
}
