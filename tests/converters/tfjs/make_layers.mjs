// Writes the layers models of tests/converters/tfjs/layers.json: topology, weights, inputs and TensorFlow.js's own answers.
// Run: npm i @tensorflow/tfjs@4.22.0 && node make_layers.mjs layers.json
import * as tf from '@tensorflow/tfjs';
import {writeFileSync} from 'node:fs';

const L = tf.layers;
const seq = (...layers) => tf.sequential({layers});
const image = {inputShape: [8, 8, 3]};
const time = {inputShape: [6, 4]};
function functional() {
  const a = tf.input({shape: [8, 8, 2], name: 'a'}), b = tf.input({shape: [8, 8, 2], name: 'b'});
  const shared = L.conv2d({filters: 3, kernelSize: 3, padding: 'same', activation: 'relu', name: 'shared'});
  const x = L.add().apply([shared.apply(a), shared.apply(b)]);
  const y = L.concatenate().apply([x, L.multiply().apply([a, b])]);
  const z = L.globalAveragePooling2d({}).apply(y);
  return tf.model({inputs: [a, b], outputs: [L.dense({units: 3, name: 'out'}).apply(z), y]});
}
function nested() {
  const body = seq(L.conv2d({...image, filters: 4, kernelSize: 3, activation: 'elu', name: 'inner'}), L.flatten());
  return seq(body, L.dense({units: 2, activation: 'sigmoid', name: 'head'}));
}
function states() {
  const x = tf.input({shape: [5, 3], name: 'x'}), h = tf.input({shape: [4], name: 'h'});
  return tf.model({inputs: [x, h], outputs: L.gru({units: 4, name: 'gru'}).apply(x, {initialState: [h]})});
}
const cases = {
  conv: seq(L.conv2d({...image, filters: 4, kernelSize: 3, strides: 2, padding: 'same', activation: 'relu6'}),
    L.batchNormalization(), L.leakyReLU({alpha: 0.1}), L.maxPooling2d({poolSize: 2}), L.dropout({rate: 0.3}), L.flatten(),
    L.dense({units: 5, activation: 'softmax'})),
  depthwise: seq(L.depthwiseConv2d({...image, kernelSize: 3, depthMultiplier: 2, padding: 'same'}),
    L.separableConv2d({filters: 4, kernelSize: 3, activation: 'hardSigmoid'}), L.averagePooling2d({poolSize: 2, strides: 1}),
    L.zeroPadding2d({padding: [[1, 0], [2, 1]]}), L.globalMaxPooling2d({})),
  transposed: seq(L.conv2dTranspose({...image, filters: 2, kernelSize: 3, strides: 2, padding: 'same', activation: 'tanh'}),
    L.upSampling2d({size: [2, 2]}), L.cropping2D({cropping: [[1, 2], [0, 3]]})),
  lstm: seq(L.lstm({...time, units: 3, returnSequences: true}), L.lstm({units: 2, recurrentActivation: 'sigmoid'})),
  gru: seq(L.gru({...time, units: 3, returnSequences: true}), L.simpleRNN({units: 2, goBackwards: true})),
  bidirectional: seq(L.bidirectional({...time, layer: L.lstm({units: 3, returnSequences: true}), mergeMode: 'concat'}),
    L.timeDistributed({layer: L.dense({units: 2, activation: 'softplus'})}), L.conv1d({filters: 2, kernelSize: 2})),
  embedding: seq(L.embedding({inputDim: 10, outputDim: 4, inputLength: 6}), L.layerNormalization(), L.permute({dims: [2, 1]}),
    L.reshape({targetShape: [12, 2]}), L.globalAveragePooling1d({})),
  activations: seq(L.dense({inputShape: [5], units: 6, activation: 'selu'}), L.reLU({maxValue: 0.5}), L.prelu(), L.elu(),
    L.activation({activation: 'softsign'}), L.repeatVector({n: 2}), L.softmax({axis: 2})),
  activations2: seq(L.dense({inputShape: [5], units: 6, activation: 'swish'}), L.dense({units: 4, activation: 'mish'}),
    L.dense({units: 4, activation: 'gelu'}), L.dense({units: 3, useBias: false, activation: 'logSoftmax'})),
  functional: functional(), nested: nested(), states: states(),
  dot: (() => { const a = tf.input({shape: [3, 4], name: 'a'}), b = tf.input({shape: [5, 4], name: 'b'});
    return tf.model({inputs: [a, b], outputs: L.dot({axes: 2, normalize: true}).apply([a, b])}); })(),
};
const out = {};
for (const [name, model] of Object.entries(cases)) {
  model.weights.forEach((w, i) => {
    const v = tf.randomUniform(w.shape, -0.7, 0.7, 'float32', 7 + i);
    w.write(/moving_variance/.test(w.originalName) ? v.abs().add(0.5) : v);
  });
  const xs = model.inputs.map((t, i) => { const shape = t.shape.map((d) => d ?? (name === 'functional' ? 1 : 2));
    return name === 'embedding' ? tf.randomUniform(shape, 0, 10, 'int32', 3) : tf.randomUniform(shape, -1, 1, 'float32', 3 + i); });
  const ys = [].concat(model.predict(xs.length === 1 ? xs[0] : xs));
  const plain = (t) => ({shape: t.shape, data: Array.from(t.dataSync(), (v) => +v.toPrecision(7))});
  await model.save(tf.io.withSaveHandler(async (a) => {
    out[name] = {modelTopology: a.modelTopology, weights: a.weightSpecs,
      data: Buffer.from(tf.io.CompositeArrayBuffer.join(a.weightData)).toString('base64'),
      inputs: Object.fromEntries(model.inputNames.map((n, i) => [n, plain(xs[i])])), outputs: ys.map(plain)};
    return {modelArtifactsInfo: {}};
  }));
}
writeFileSync(process.argv[2], JSON.stringify(out));
