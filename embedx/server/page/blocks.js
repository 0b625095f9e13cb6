/* Blocks: binary columns, of which the first rows are shown before the last have come; see `embedx.server.blocks`. */

const TYPES = { int16: Int16Array, int32: Int32Array, int64: BigInt64Array, float32: Float32Array };
const BLOCK_ROWS = 8192;

/** Read {header, columns}. After each block `told` gets these and the number of rows that are there. */
export async function readBlocks(answer, told = () => null) {
	const take = takerOf(answer.body.getReader());
	const length = new DataView(await take(8)).getUint32(4, true);
	const header = JSON.parse(new TextDecoder().decode(await take(length)));
	const columns = Object.fromEntries(header.columns.map(({ name, type }) =>
		[name, type === "int64" ? new Float64Array(header.rows) : new TYPES[type](header.rows)]));
	for (let first = 0; first < header.rows; first += BLOCK_ROWS) {
		const rows = Math.min(BLOCK_ROWS, header.rows - first);
		for (const { name, type } of header.columns) {
			const bytes = rows * TYPES[type].BYTES_PER_ELEMENT;
			const values = new TYPES[type](await take((bytes + 7) & ~7), 0, rows); // padded to a multiple of 8
			columns[name].set(type === "int64" ? Array.from(values, Number) : values, first);
		}
		told({ header, columns }, first + rows);
	}
	return { header, columns };
}

function takerOf(reader) {
	let piece = new Uint8Array(0), used = 0;
	return async (length) => {
		const bytes = new Uint8Array(length);
		for (let filled = 0; filled < length; ) {
			if (used === piece.length) {
				const { value, done } = await reader.read();
				if (done) throw new Error("The answer is cut.");
				[piece, used] = [value, 0];
			}
			const part = piece.subarray(used, used + length - filled);
			bytes.set(part, filled);
			filled += part.length;
			used += part.length;
		}
		return bytes.buffer;
	};
}
