/* Points of the map. All are looked at: 200 000 take about 1 ms. */

/** Return the lowest and the highest of numbers, without copies of so many. */
export const extremesOf = (values) => [values.reduce((a, b) => (b < a ? b : a), Infinity), values.reduce((a, b) => (b > a ? b : a), -Infinity)];

export function boundsOf({ x, y, count }) {
	const [left, right] = extremesOf(x.subarray(0, count)), [bottom, top] = extremesOf(y.subarray(0, count));
	return count ? { left, right, bottom, top } : { left: 0, right: 1, bottom: 0, top: 1 };
}

export function nearest({ x, y, count }, [px, py], radius, wanted) {
	let found = -1, best = radius ** 2;
	for (let i = 0; i < count; i++) {
		const distance = (x[i] - px) ** 2 + (y[i] - py) ** 2;
		if (distance <= best && wanted(i)) [found, best] = [i, distance];
	}
	return found;
}

export function inside({ x, y, count }, corners) {
	const found = [], xs = corners.map(([px]) => px), ys = corners.map(([, py]) => py);
	for (let i = 0; i < count; i++) {
		const px = x[i], py = y[i];
		let isIn = false;
		for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
			if (ys[a] > py !== ys[b] > py && px < ((xs[b] - xs[a]) * (py - ys[a])) / (ys[b] - ys[a]) + xs[a]) isIn = !isIn;
		}
		if (isIn) found.push(i);
	}
	return found;
}
