// Trains a new head on a frozen ResNet18 in node, on images drawn here; a web page would take them from
// a canvas. First it runs PyTorch's autograd tutorial and compares with PyTorch's numbers.
//
//   cargo rustc -p nunatak-wasm --release --target wasm32-unknown-unknown   with RUSTFLAGS=-Ctarget-feature=+simd128
//   node tests/wasm/train.mjs target/wasm32-unknown-unknown/release/nunatak_wasm.wasm
import { readFile } from 'node:fs/promises';

const SIZE = 64, PIXELS = SIZE * SIZE * 3, CLASSES = 3, BATCH = 6, ADAPTING = 20, STEPS = 48, TESTS = 10, RATE = 0.005;

const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]));
const nunatak = instance.exports;

function check(good, what) {
  if (good) return;
  const text = new Uint8Array(nunatak.memory.buffer, nunatak.error_text(), nunatak.error_length());
  console.error(`${what}: ${new TextDecoder().decode(text)}`);
  process.exit(1);
}

// The module has no allocator: memory is grown here, by 64 KiB pages. Addresses are aligned to them.
function allocate(bytes) {
  return nunatak.memory.grow(Math.ceil(bytes / 65536)) * 65536;
}

// The tutorial. PyTorch in float64 gives these numbers.
const memory = allocate(Math.max(nunatak.tutorial_bytes(), nunatak.head_bytes(BATCH, CLASSES)));
const results = allocate(65536);
let began = Date.now();
check(nunatak.tutorial(memory, nunatak.tutorial_bytes(), results), 'tutorial');
const expected = [-512.952177, 0.315981776, 0.230452359, -0.268828839, 0.307489038, -4355.16];
const got = new Float32Array(nunatak.memory.buffer, results, expected.length);
expected.forEach((truth, i) => {
  const off = Math.abs(got[i] - truth) / Math.abs(truth);
  console.log(`tutorial ${i === 0 ? 'loss' : i === 5 ? 'loss after a step' : 'prediction'}: ${got[i]}, PyTorch ${truth}`);
  check(off <= 1e-4, `off by ${off}`);
});
console.log(`${Date.now() - began} ms, ${(nunatak.tutorial_bytes() / 1e6).toFixed(1)} MB`);

// A small generator, so that every run is the same.
let state = 1;
const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;

// Lying stripes, standing stripes, or dots; shifted, with noise.
function draw(label, pixels) {
  const shift = [Math.floor(random() * 8), Math.floor(random() * 8)];
  for (let y = 0; y < SIZE; y++) {
    for (let x = 0; x < SIZE; x++) {
      const lying = ((y + shift[0]) >> 2) & 1, standing = ((x + shift[1]) >> 2) & 1;
      const bright = [lying, standing, lying & standing][label];
      for (let c = 0; c < 3; c++) pixels[(y * SIZE + x) * 3 + c] = 30 + 150 * bright + 60 * random();
    }
  }
}

const pixelsAt = allocate(BATCH * PIXELS), labelsAt = allocate(BATCH * 8);
function batch() {
  const labels = new BigInt64Array(nunatak.memory.buffer, labelsAt, BATCH);
  for (let i = 0; i < BATCH; i++) {
    labels[i] = BigInt(Math.floor(random() * CLASSES));
    draw(Number(labels[i]), new Uint8Array(nunatak.memory.buffer, pixelsAt + i * PIXELS, PIXELS));
  }
  return [...labels].map(Number);
}

check(!nunatak.head_predict(pixelsAt, results), 'predicting before there is a network must fail');
check(!nunatak.head_start(memory, 1000, BATCH, CLASSES, 0), 'a thousand bytes must be too few');
began = Date.now();
const bytes = nunatak.head_bytes(BATCH, CLASSES);
check(bytes > 0, 'head_bytes');
check(nunatak.head_start(memory, bytes, BATCH, CLASSES, 0), 'head_start');
// A pretrained backbone would know what images are like; this one learns their statistics first.
for (let i = 0; i < ADAPTING; i++) {
  batch();
  check(nunatak.head_adapt(pixelsAt), 'head_adapt');
}
let first = NaN, last = NaN;
for (let step = 0; step < STEPS; step++) {
  batch();
  last = nunatak.head_step(pixelsAt, labelsAt, RATE);
  check(Number.isFinite(last), 'head_step');
  if (step === 0) first = last;
  if (step % 12 === 0 || step === STEPS - 1) console.log(`step ${step}: loss ${last.toFixed(4)}`);
}

// Images that it has not seen.
let right = 0;
for (let i = 0; i < TESTS; i++) {
  const labels = batch();
  check(nunatak.head_predict(pixelsAt, results), 'head_predict');
  const predictions = new Float32Array(nunatak.memory.buffer, results, BATCH * CLASSES);
  labels.forEach((label, j) => {
    const row = predictions.subarray(j * CLASSES, (j + 1) * CLASSES);
    right += row.indexOf(Math.max(...row)) === label;
  });
}
console.log(`head of ${CLASSES} classes: loss ${first.toFixed(3)} -> ${last.toFixed(3)}, ${right} of ${TESTS * BATCH} held-out images right, ` +
  `${(bytes / 1e6).toFixed(1)} MB, ${Date.now() - began} ms`);
if (right < 0.9 * TESTS * BATCH) {
  console.error('it has not learnt');
  process.exit(1);
}
