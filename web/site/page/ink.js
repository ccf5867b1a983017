// A drawing to the small picture that handwriting models were trained on.

/**
 * Coverage (0..1, side x side numbers) of a drawing to size x size.  With `fit` it is cropped to the ink and placed as the
 * training data was: 28 x 28 by centre of mass in a 20 x 20 box (LeCun's MNIST), 8 x 8 over the full height, at most 6
 * wide (UCI optical digits).
 */
export function shrink(cover, side, size, fit = true) {
  const box = fit ? bounds(cover, side) : null;
  let x0 = 0, y0 = 0, step = side / size;
  if (box) {
    const tall = size === 8 ? 8 : (size * 20) / 28, broad = size === 8 ? 6 : tall;
    step = Math.max((box.y1 - box.y0) / tall, (box.x1 - box.x0) / broad, 1e-6);
    const cx = size === 8 ? (box.x0 + box.x1) / 2 : box.mx, cy = size === 8 ? (box.y0 + box.y1) / 2 : box.my;
    x0 = cx - (size / 2) * step;
    y0 = cy - (size / 2) * step;
  }
  const out = new Float32Array(size * size), fine = 8;
  for (let y = 0; y < size; ++y) {
    for (let x = 0; x < size; ++x) {
      let sum = 0;
      for (let j = 0; j < fine; ++j) {
        const sy = Math.floor(y0 + (y + (j + 0.5) / fine) * step);
        if (sy < 0 || sy >= side) continue;
        for (let i = 0; i < fine; ++i) {
          const sx = Math.floor(x0 + (x + (i + 0.5) / fine) * step);
          if (sx >= 0 && sx < side) sum += cover[sy * side + sx];
        }
      }
      out[y * size + x] = sum / (fine * fine);
    }
  }
  return out;
}

function bounds(cover, side) {
  let x0 = side, y0 = side, x1 = 0, y1 = 0, mass = 0, mx = 0, my = 0;
  for (let y = 0; y < side; ++y) {
    for (let x = 0; x < side; ++x) {
      const v = cover[y * side + x];
      if (v < 0.05) continue;
      x0 = Math.min(x0, x); x1 = Math.max(x1, x + 1);
      y0 = Math.min(y0, y); y1 = Math.max(y1, y + 1);
      mass += v; mx += v * (x + 0.5); my += v * (y + 0.5);
    }
  }
  return mass ? { x0, y0, x1, y1, mx: mx / mass, my: my / mass } : null;
}
