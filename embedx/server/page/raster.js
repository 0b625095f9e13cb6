/* The raster: points as pixels, without a graphics card. Squares while the map moves, discs at rest. */

const SLICE = 30_000; // points of a task at rest, so that no task takes over 50 ms
const MANY = 20_000; // points in view, from which discs are small
const OPACITY = 154; // of 256: 60 %

/** Two canvases: a quick one at CSS pixels while the map moves, a fine one at the pixels of the device. */
export class Raster {
	constructor(quick, fine) {
		Object.assign(this, { quick, fine, width: 0, height: 0, ratio: 1, task: 0 });
	}

	resize(width, height, ratio) {
		if (width === this.width && height === this.height && ratio === this.ratio) return;
		Object.assign(this, { width, height, ratio });
		this.near = surface(this.quick, width, height);
		this.far = surface(this.fine, Math.round(width * ratio), Math.round(height * ratio));
	}

	/** Draw coarsely. `points` is {x, y, shades, count}, `view` {scale, cx, cy}; a colour of 0 hides. */
	draw({ x, y, shades, count }, view, colours, ground) {
		clearTimeout(this.task);
		const { pixels, width, height } = this.near, { scaleX, scaleY, left, top } = placing(view, width, height);
		pixels.fill(ground);
		for (let i = 0; i < count; i++) {
			const colour = colours[shades[i]];
			if (colour === 0) continue;
			const px = (x[i] * scaleX + left) | 0, py = (y[i] * scaleY + top) | 0;
			if (px < 0 || py < 0 || px >= width - 1 || py >= height - 1) continue;
			const at = py * width + px;
			pixels[at] = pixels[at + 1] = pixels[at + width] = pixels[at + width + 1] = colour;
		}
		this.near.show();
		this.fine.hidden = true;
	}

	/** Draw discs, in slices; `drawn` gets the points in view. */
	refine({ x, y, shades, count }, view, colours, ground, drawn) {
		clearTimeout(this.task);
		const { pixels, width, height } = this.far, { scaleX, scaleY, left, top } = placing(view, width, height, this.ratio);
		const inView = [];
		for (let i = 0; i < count; i++) {
			const px = x[i] * scaleX + left, py = y[i] * scaleY + top;
			if (colours[shades[i]] !== 0 && px >= 0 && py >= 0 && px < width && py < height) inView.push(i);
		}
		const radius = (inView.length < MANY ? 3 : 1.5) * this.ratio, edge = Math.ceil(radius), disc = discOf(radius, width);
		pixels.fill(ground);
		const slice = (from) => {
			for (const i of inView.slice(from, from + SLICE)) {
				const px = Math.round(x[i] * scaleX + left), py = Math.round(y[i] * scaleY + top);
				if (px >= edge && py >= edge && px < width - edge && py < height - edge) blend(pixels, py * width + px, disc, colours[shades[i]]);
			}
			if (from + SLICE < inView.length) return void (this.task = setTimeout(slice, 0, from + SLICE));
			this.far.show();
			this.fine.hidden = false;
			drawn(inView);
		};
		slice(0);
	}
}

function surface(canvas, width, height) {
	Object.assign(canvas, { width, height });
	const context = canvas.getContext("2d"), image = new ImageData(Math.max(1, width), Math.max(1, height));
	return { width, height, pixels: new Uint32Array(image.data.buffer), show: () => context.putImageData(image, 0, 0) };
}

function placing({ scale, cx, cy }, width, height, ratio = 1) {
	return { scaleX: scale * ratio, scaleY: -scale * ratio, left: width / 2 - cx * scale * ratio, top: height / 2 + cy * scale * ratio };
}

function discOf(radius, width) {
	const edge = Math.ceil(radius), places = [];
	for (let dy = -edge; dy <= edge; dy++) {
		for (let dx = -edge; dx <= edge; dx++) if (dx * dx + dy * dy <= radius * (radius + 0.5)) places.push(dy * width + dx);
	}
	return Int32Array.from(places);
}

/** Blend a colour into pixels, two of its channels in one product. */
function blend(pixels, at, places, colour) {
	const rb = (colour & 0xff00ff) * OPACITY, g = (colour & 0x00ff00) * OPACITY, rest = 256 - OPACITY;
	for (let k = 0; k < places.length; k++) {
		const place = at + places[k], old = pixels[place];
		const mixed = ((((old & 0xff00ff) * rest + rb) / 256) & 0xff00ff) | ((((old & 0x00ff00) * rest + g) / 256) & 0x00ff00);
		pixels[place] = mixed | 0xff000000;
	}
}
