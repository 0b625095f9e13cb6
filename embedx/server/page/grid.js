/* A grid over points: the nearest one to a place, and those within a lasso, without looking at all of them. */

const SIDE = 256;

/** Points in 256 x 256 cells, sorted by counting. */
export class Grid {
  constructor(x, y, count) {
    Object.assign(this, { x, y, count });
    const [left, right] = rangeOf(x, count), [bottom, top] = rangeOf(y, count);
    Object.assign(this, { left, bottom, perX: SIDE / (right - left || 1), perY: SIDE / (top - bottom || 1), right, top });
    this.starts = new Uint32Array(SIDE * SIDE + 1);
    const cells = new Uint16Array(count);
    for (let i = 0; i < count; i++) this.starts[(cells[i] = this.cellY(y[i]) * SIDE + this.cellX(x[i])) + 1]++;
    for (let cell = 0; cell < SIDE * SIDE; cell++) this.starts[cell + 1] += this.starts[cell];
    this.order = new Uint32Array(count);
    const next = this.starts.slice();
    for (let i = 0; i < count; i++) this.order[next[cells[i]]++] = i;
  }

  cellX(x) {
    return Math.max(0, Math.min(SIDE - 1, Math.floor((x - this.left) * this.perX)));
  }

  cellY(y) {
    return Math.max(0, Math.min(SIDE - 1, Math.floor((y - this.bottom) * this.perY)));
  }

  each(x0, y0, x1, y1, action) {
    const first = this.cellX(x0), last = this.cellX(x1);
    for (let row = this.cellY(y0); row <= this.cellY(y1); row++) {
      const end = this.starts[row * SIDE + last + 1];
      for (let at = this.starts[row * SIDE + first]; at < end; at++) action(this.order[at]);
    }
  }

  /** Return the point nearest to a place within rx and ry that `wanted` accepts, -1 if there is none. */
  nearest(x, y, rx, ry, wanted) {
    let found = -1, best = 1;
    this.each(x - rx, y - ry, x + rx, y + ry, (i) => {
      const distance = ((this.x[i] - x) / rx) ** 2 + ((this.y[i] - y) / ry) ** 2;
      if (distance <= best && wanted(i)) [found, best] = [i, distance];
    });
    return found;
  }

  inside(corners) {
    const found = [], n = corners.length, xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y);
    this.each(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (i) => {
      const px = this.x[i], py = this.y[i];
      let isIn = false;
      for (let a = 0, b = n - 1; a < n; b = a++) {
        if (ys[a] > py !== ys[b] > py && px < ((xs[b] - xs[a]) * (py - ys[a])) / (ys[b] - ys[a]) + xs[a]) isIn = !isIn;
      }
      if (isIn) found.push(i);
    });
    return found;
  }
}

function rangeOf(values, count) {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < count; i++) {
    if (values[i] < low) low = values[i];
    if (values[i] > high) high = values[i];
  }
  return count ? [low, high] : [0, 1];
}
