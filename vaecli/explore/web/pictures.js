/** Pictures: numbers of the network to pixels of a canvas, and back. */

/** @typedef {[number, number, number]} Shape  Channels, height, width. */

/** Picture number `index` of (n, c, h, w) numbers in [0, 1], as pixels. @param {Float32Array} values @param {Shape} shape @param {number} index */
export function pixels(values, [channels, height, width], index = 0) {
  const area = height * width;
  const start = index * channels * area;
  const image = new ImageData(width, height);
  for (let at = 0; at < area; at++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * at + channel] = 255 * values[start + (channels === 1 ? 0 : channel) * area + at]; // rounds, clamps
    }
    image.data[4 * at + 3] = 255;
  }
  return image;
}

/** Draw a picture on a canvas of its own size. @param {HTMLCanvasElement} canvas @param {ImageData} image */
export function paint(canvas, image) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  context(canvas).putImageData(image, 0, 0);
}

/** @param {HTMLCanvasElement} canvas */
export function context(canvas) {
  const found = canvas.getContext("2d", { willReadFrequently: true });
  if (!found) throw new Error("This browser draws no canvas.");
  return found;
}

/** A new canvas. @param {number} width @param {number} height */
export function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/**
 * What is on a canvas or in a picture file, cropped to the model's aspect and resized, as (c, h, w) in [0, 1].
 *
 * A picture of the model's size is taken as it is. Grey is ITU-R 601, as Pillow has it.
 *
 * @param {HTMLCanvasElement | ImageBitmap} source
 * @param {Shape} shape
 * @param {boolean} invert
 * @param {string} paper  Behind what is transparent.
 */
export function toTensor(source, [channels, height, width], invert, paper) {
  const scale = Math.max(width / source.width, height / source.height);
  const [wide, high] = [width / scale, height / scale];
  const [left, top] = [(source.width - wide) / 2, (source.height - high) / 2];
  let [from, at, size] = [/** @type {CanvasImageSource} */ (source), [left, top], [wide, high]];
  while (size[0] >= 2 * width && size[1] >= 2 * height) {
    // By halves: browsers look at four neighbours only, and large pictures would flicker.
    const half = newCanvas(Math.ceil(size[0] / 2), Math.ceil(size[1] / 2));
    const drawing = context(half);
    drawing.imageSmoothingQuality = "high";
    drawing.drawImage(from, at[0], at[1], size[0], size[1], 0, 0, half.width, half.height);
    [from, at, size] = [half, [0, 0], [half.width, half.height]];
  }
  const canvas = newCanvas(width, height);
  const drawing = context(canvas);
  drawing.imageSmoothingQuality = "high";
  drawing.fillStyle = paper;
  drawing.fillRect(0, 0, width, height);
  drawing.drawImage(from, at[0], at[1], size[0], size[1], 0, 0, width, height);
  const { data } = drawing.getImageData(0, 0, width, height);
  const area = width * height;
  const values = new Float32Array(channels * area);
  for (let pixel = 0; pixel < area; pixel++) {
    const [red, green, blue] = [data[4 * pixel], data[4 * pixel + 1], data[4 * pixel + 2]];
    const grey = Math.floor((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536);
    const colours = channels === 1 ? [grey] : [red, green, blue];
    colours.forEach((value, channel) => {
      values[channel * area + pixel] = (invert ? 255 - value : value) / 255;
    });
  }
  return values;
}

/** A grey picture moved by whole pixels, so that its brightness is centred, as the digits of MNIST are. @param {Float32Array} values @param {Shape} shape */
export function centred(values, [channels, height, width]) {
  let [sum, x, y] = [0, 0, 0];
  const background = values[0];
  for (let at = 0; at < height * width; at++) {
    const weight = Math.abs(values[at] - background);
    sum += weight;
    x += weight * (at % width);
    y += weight * Math.floor(at / width);
  }
  if (channels !== 1 || sum === 0) return values;
  const [right, down] = [Math.round((width - 1) / 2 - x / sum), Math.round((height - 1) / 2 - y / sum)];
  return values.map((_, at) => {
    const [column, row] = [(at % width) - right, Math.floor(at / width) - down];
    const inside = column >= 0 && column < width && row >= 0 && row < height;
    return inside ? values[row * width + column] : background;
  });
}

/** Save a canvas as a PNG file, enlarged by whole pixels. @param {HTMLCanvasElement} canvas @param {string} name */
export function save(canvas, name) {
  const scale = Math.max(1, Math.round(256 / Math.max(canvas.width, canvas.height)));
  const large = newCanvas(canvas.width * scale, canvas.height * scale);
  const drawing = context(large);
  drawing.imageSmoothingEnabled = false;
  drawing.drawImage(canvas, 0, 0, large.width, large.height);
  large.toBlob((blob) => {
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}
