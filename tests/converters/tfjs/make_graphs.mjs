// Writes graphs.json: small graph models and the answers of TensorFlow.js to them.
// Run: npm i @tensorflow/tfjs@4.22.0 && node make_graphs.mjs graphs.json
import * as tf from '@tensorflow/tfjs';
import {writeFileSync} from 'node:fs';

const s = (x) => ({s: Buffer.from(x).toString('base64')}), i = (x) => ({i: String(x)}), f = (x) => ({f: x}), b = (x) => ({b: x});
const ints = (...v) => ({list: {i: v.map(String)}}), words = (...v) => ({list: {s: v.map((x) => Buffer.from(x).toString('base64'))}});
const T = {T: {type: 'DT_FLOAT'}}, SAME = {padding: s('SAME')}, VALID = {padding: s('VALID')};
const step = (n) => ({strides: ints(1, n, n, 1)}), dil = (n) => ({dilations: ints(1, n, n, 1)}), k = (n) => ({ksize: ints(1, n, n, 1)});
const I = (...v) => ({ints: v}), B = (...v) => ({bools: v}), W = (...shape) => ({shape}), N = (v) => ({number: v});
const X = [2, 6, 6, 4];
// name: [op, shape of x, further constant inputs, attributes, number of outputs, dtype of x]
const cases = {
  ...Object.fromEntries(['Abs', 'Neg', 'Sign', 'Floor', 'Ceil', 'Round', 'Square', 'Exp', 'Expm1', 'Sin', 'Cos', 'Tan', 'Atan', 'Sinh',
    'Cosh', 'Tanh', 'Asinh', 'Erf', 'Relu', 'Relu6', 'Elu', 'Selu', 'Sigmoid', 'Softplus', 'Reciprocal', 'Softmax', 'LogSoftmax',
    'ZerosLike', 'OnesLike', 'Identity', 'IsNan', 'IsFinite', 'Rank', 'Size', 'Shape', 'Asin', 'Acos', 'Atanh']
    .map((op) => [op, [op, [2, 3, 4], [], T]])),
  ...Object.fromEntries(['Add', 'AddV2', 'Sub', 'Mul', 'RealDiv', 'Maximum', 'Minimum', 'SquaredDifference', 'Less', 'GreaterEqual',
    'Equal', 'NotEqual', 'FloorDiv', 'Mod', 'FloorMod', 'Atan2', 'DivNoNan', 'BiasAdd', 'Prelu']
    .map((op) => [op, [op, [2, 3, 4], [W(4)], T]])),
  ...Object.fromEntries(['Sum', 'Mean', 'Max', 'Min', 'Prod'].map((op) => [op, [op, [2, 3, 4], [I(1, -1)], {...T, keep_dims: b(true)}]])),
  sum_one: ['Sum', [2, 3, 4], [I(1)], {...T, keep_dims: b(false)}], argmax: ['ArgMax', [2, 3, 4], [N(2)], T], argmin: ['ArgMin', [2, 3, 4], [N(0)], T],
  cumsum: ['Cumsum', [2, 3, 4], [N(1)], {...T, exclusive: b(true), reverse: b(true)}],
  leaky: ['LeakyRelu', [2, 3], [], {...T, alpha: f(0.3)}], clip: ['ClipByValue', [2, 3], [{real: -0.2}, {real: 0.4}], T],
  cast: ['Cast', [2, 3], [], {SrcT: {type: 'DT_FLOAT'}, DstT: {type: 'DT_INT32'}}],
  conv_same: ['Conv2D', X, [W(3, 3, 4, 3)], {...T, ...SAME, ...step(2), ...dil(1)}],
  conv_dilated: ['Conv2D', X, [W(3, 2, 4, 3)], {...T, ...VALID, ...step(1), ...dil(2)}],
  conv_explicit: ['Conv2D', X, [W(3, 3, 4, 2)], {...T, padding: s('EXPLICIT'), explicit_paddings: ints(0, 0, 1, 2, 0, 1, 0, 0), ...step(1), ...dil(1)}],
  fused: ['_FusedConv2D', X, [W(3, 3, 4, 3), W(3)], {...T, ...SAME, ...step(1), ...dil(1), fused_ops: words('BiasAdd', 'Relu6'), num_args: i(1)}],
  fused_prelu: ['_FusedConv2D', X, [W(1, 1, 4, 3), W(3), W(3)], {...T, ...SAME, ...step(1), ...dil(1), fused_ops: words('BiasAdd', 'Prelu'), num_args: i(2)}],
  depthwise: ['DepthwiseConv2dNative', X, [W(3, 3, 4, 2)], {...T, ...SAME, ...step(2), ...dil(1)}],
  fused_depthwise: ['FusedDepthwiseConv2dNative', X, [W(3, 3, 4, 1), W(4)], {...T, ...VALID, ...step(1), ...dil(1), fused_ops: words('BiasAdd', 'Relu'), num_args: i(1)}],
  transposed: ['Conv2DBackpropInput', X, [I(2, 12, 12, 3), W(3, 3, 3, 4)], {...T, ...SAME, ...step(2), ...dil(1)}, 1, 'float32', [1, 2, 0]],
  transposed_valid: ['Conv2DBackpropInput', X, [I(2, 13, 13, 3), W(3, 3, 3, 4)], {...T, ...VALID, ...step(2), ...dil(1)}, 1, 'float32', [1, 2, 0]],
  matmul: ['MatMul', [3, 4], [W(5, 4)], {...T, transpose_a: b(false), transpose_b: b(true)}],
  fused_matmul: ['_FusedMatMul', [3, 4], [W(4, 5), W(5)], {...T, transpose_a: b(false), transpose_b: b(false), fused_ops: words('BiasAdd', 'Relu'), num_args: i(1)}],
  batch_matmul: ['BatchMatMulV2', [2, 3, 4], [W(2, 5, 4)], {...T, adj_x: b(false), adj_y: b(true)}],
  einsum: ['Einsum', [2, 3, 4], [W(4, 5)], {...T, equation: s('abc,cd->abd'), N: i(2)}],
  max_pool: ['MaxPool', X, [], {...T, ...SAME, ...step(2), ...k(3)}], avg_pool: ['AvgPool', X, [], {...T, ...SAME, ...step(2), ...k(3)}],
  batch_norm: ['FusedBatchNormV3', X, [W(4), W(4), W(4), {shape: [4], positive: true}], {...T, epsilon: f(0.01), is_training: b(false)}],
  lrn: ['LRN', X, [], {...T, depth_radius: i(1), bias: f(1.5), alpha: f(0.3), beta: f(0.7)}],
  resize: ['ResizeBilinear', X, [I(9, 4)], {...T, align_corners: b(false), half_pixel_centers: b(true)}],
  resize_corners: ['ResizeBilinear', X, [I(9, 4)], {...T, align_corners: b(true), half_pixel_centers: b(false)}],
  nearest: ['ResizeNearestNeighbor', X, [I(9, 4)], {...T, align_corners: b(false), half_pixel_centers: b(false)}],
  reshape: ['Reshape', [2, 3, 4], [I(-1, 6)], T], squeeze: ['Squeeze', [2, 1, 4], [], {...T, squeeze_dims: ints(1)}], expand: ['ExpandDims', [2, 3], [N(1)], T],
  transpose: ['Transpose', [2, 3, 4], [I(2, 0, 1)], T], concat: ['ConcatV2', [2, 3], [W(2, 2), N(1)], {...T, N: i(2)}], pack: ['Pack', [2, 3], [W(2, 3)], {...T, N: i(2), axis: i(1)}],
  unpack: ['Unpack', [2, 3], [], {...T, num: i(3), axis: i(1)}, 3], split: ['Split', [2, 6], [N(1)], {...T, num_split: i(3)}, 3, 'float32', [1, 0]],
  split_v: ['SplitV', [2, 6], [I(1, 5), N(1)], {...T, num_split: i(2)}, 2], slice: ['Slice', [2, 6, 3], [I(0, 2, 1), I(-1, 3, -1)], T],
  // TensorFlow.js' CPU kernel takes wrong elements when a step over 1 and a dropped dim come together: two cases
  strided: ['StridedSlice', [4, 6, 3], [I(0, 1, 2), I(3, -1, 3), I(1, 1, 1)], {...T, begin_mask: i(1), end_mask: i(0), ellipsis_mask: i(0), new_axis_mask: i(0), shrink_axis_mask: i(4)}],
  strided_step: ['StridedSlice', [4, 6, 3], [I(0, 1, 2), I(3, -1, 0), I(2, 2, -1)], {...T, begin_mask: i(1), end_mask: i(4), ellipsis_mask: i(0), new_axis_mask: i(0), shrink_axis_mask: i(0)}],
  strided_new: ['StridedSlice', [4, 6], [I(0, 0, -1), I(0, 0, -4), I(1, 1, -1)], {...T, begin_mask: i(0), end_mask: i(0), ellipsis_mask: i(1), new_axis_mask: i(2), shrink_axis_mask: i(0)}],
  pad: ['PadV2', [2, 3], [{ints: [1, 2, 0, 1], as: [2, 2]}, {real: 0.5}], T], reflect: ['MirrorPad', [4, 5], [{ints: [1, 2, 0, 3], as: [2, 2]}], {...T, mode: s('REFLECT')}],
  symmetric: ['MirrorPad', [4, 5], [{ints: [1, 2, 0, 3], as: [2, 2]}], {...T, mode: s('SYMMETRIC')}],
  tile: ['Tile', [2, 3], [I(2, 3)], T], reverse: ['ReverseV2', [2, 3, 4], [I(1, -1)], T], broadcast: ['BroadcastTo', [1, 3], [I(2, 4, 3)], T],
  depth_to_space: ['DepthToSpace', X, [], {...T, block_size: i(2), data_format: s('NHWC')}],
  space_to_batch: ['SpaceToBatchND', X, [I(2, 2), {ints: [1, 1, 0, 2], as: [2, 2]}], T],
  batch_to_space: ['BatchToSpaceND', [8, 3, 2, 3], [I(2, 2), {ints: [1, 0, 0, 1], as: [2, 2]}], T],
  gather: ['GatherV2', [5, 3, 4], [I(2, 0, 1), N(1)], {...T, batch_dims: i(0)}], gather_nd: ['GatherNd', [3, 4, 2], [{ints: [0, 1, 2, 3], as: [2, 2]}], T],
  one_hot: ['OneHot', [2, 3], [N(4), {real: 2}, {real: -1}], {...T, axis: i(-1)}, 1, 'int32'], top_k: ['TopKV2', [3, 6], [N(3)], {...T, sorted: b(true)}, 2],
  ...Object.fromEntries(['Sqrt', 'Rsqrt', 'Log', 'Log1p', 'Acosh'].map((op) => [op, [op, [2, 3, 4], [], T, 1, 'positive']])),
  ...Object.fromEntries(['Inv', 'IsInf', 'Softsign', 'StopGradient', 'PreventGradient', 'Snapshot', 'CheckNumerics']
    .map((op) => [op, [op, [2, 3, 4], [], T]])),
  ...Object.fromEntries(['Div', 'Greater', 'LessEqual', 'AddN'].map((op) => [op, [op, [3, 4], [W(3, 4)], {...T, N: i(2)}]])),
  pow: ['Pow', [2, 3, 4], [W(4)], T, 1, 'positive'],
  ...Object.fromEntries(['LogicalAnd', 'LogicalOr'].map((op) => [op, [op, [2, 4], [B(1, 0, 1, 0)], {}, 1, 'bool']])),
  LogicalNot: ['LogicalNot', [2, 4], [], {}, 1, 'bool'],
  ...Object.fromEntries(['All', 'Any'].map((op) => [op, [op, [4, 3], [I(1)], {keep_dims: b(false)}, 1, 'bool']])),
  select: ['Select', [3, 4], [W(3, 4), W(3, 4)], T, 1, 'bool'], select_v2: ['SelectV2', [4], [W(3, 4), W(3, 1)], T, 1, 'bool'],
  cumprod: ['Cumprod', [2, 3, 4], [N(1)], {...T, exclusive: b(false), reverse: b(true)}],
  batch_matmul_old: ['BatchMatMul', [2, 3, 4], [W(2, 4, 5)], {...T, adj_x: b(false), adj_y: b(false)}],
  concat_old: ['Concat', [2, 3], [N(1), W(2, 2)], {...T, N: i(2)}, 1, 'float32', [1, 0, 2]],
  pad_zero: ['Pad', [2, 3], [{ints: [1, 2, 0, 1], as: [2, 2]}], T],
  reverse_old: ['Reverse', [2, 3], [B(0, 1)], T], gather_old: ['Gather', [5, 3], [I(2, 0, 1)], T],
  space_to_depth: ['SpaceToDepth', X, [], {...T, block_size: i(2), data_format: s('NHWC')}],
  fill: ['Fill', [], [I(2, 3)], T, 1, 'float32', [1, 0]], range: ['Range', [], [N(9), N(2)], {Tidx: {type: 'DT_INT32'}}, 1, 'int32'],
  conv_1d: ['Conv1D', [2, 9, 4], [W(3, 4, 5)], {...T, ...SAME, stride: i(2), dilation: i(1), data_format: s('NWC')}],
  conv_3d: ['Conv3D', [1, 4, 5, 6, 2], [W(2, 3, 3, 2, 3)], {...T, ...SAME, strides: ints(1, 1, 2, 1, 1), dilations: ints(1, 1, 1, 1, 1), data_format: s('NDHWC')}],
  max_pool_3d: ['MaxPool3D', [1, 4, 6, 6, 2], [], {...T, ...VALID, strides: ints(1, 2, 2, 2, 1), ksize: ints(1, 2, 3, 3, 1)}],
  avg_pool_3d: ['AvgPool3D', [1, 4, 6, 6, 2], [], {...T, ...SAME, strides: ints(1, 2, 2, 2, 1), ksize: ints(1, 2, 3, 3, 1)}],
  depthwise_old: ['DepthwiseConv2d', X, [W(3, 3, 4, 2)], {...T, ...SAME, ...step(1), ...dil(1)}],
  ...Object.fromEntries(['FusedBatchNorm', 'FusedBatchNormV2'].map((op) => [op, [op, X, [W(4), W(4), W(4), {shape: [4], positive: true}], {...T, epsilon: f(0.01), is_training: b(false)}]])),
  nms_v2: ['NonMaxSuppressionV2', [6, 4], [{shape: [6], positive: true}, N(4), {real: 0.3}], T, 1, 'boxes'],
  nms_v3: ['NonMaxSuppressionV3', [6, 4], [{shape: [6], positive: true}, N(4), {real: 0.3}, {real: 0.8}], T, 1, 'boxes'],
  int_div: ['RealDiv', [3, 4], [I(2, 3, -2, 5)], {T: {type: 'DT_INT32'}}, 1, 'int32'], int_add: ['AddV2', [3, 4], [I(2, 3, -2, 5)], {T: {type: 'DT_INT32'}}, 1, 'int32'],
};
let seed = 1;
const number = () => { seed = (seed * 1103515245 + 12345) % 2147483648; return Math.fround(seed / 1073741824 - 1); };
// What x holds: its dtype, or floats that the op is defined on.
const fills = {
  positive: () => Math.abs(number()) + 1.05, bool: () => number() > 0, int32: () => Math.floor(number() * 5), unit: () => number() * 0.9,
  boxes: (j) => (j % 4 < 2 ? Math.abs(number()) * 0.4 : 0.5 + Math.abs(number()) * 0.4), float32: () => number() * 2,
};
// TensorFlow.js gives int32 from every floor division; TensorFlow's graph, which the model states, the operands' type.
const STATED = {FloorDiv: 'float32'};
const out = {}, failed = {};
for (const [name, [op, shape, consts, attr, outs = 1, kind = 'float32', order]] of Object.entries(cases)) {
  const dtype = kind === 'int32' || kind === 'bool' ? kind : 'float32';
  const node = [{name: 'x', op: 'Placeholder', attr: {dtype: {type: {int32: 'DT_INT32', bool: 'DT_BOOL', float32: 'DT_FLOAT'}[dtype]}, shape: {shape: {dim: shape.map((d) => ({size: String(d)}))}}}}];
  const specs = [], parts = [];
  consts.forEach((c, j) => {
    const whole = 'ints' in c || 'number' in c, type = 'bools' in c ? 'bool' : whole ? 'int32' : 'float32';
    const dtypeName = {bool: 'DT_BOOL', int32: 'DT_INT32', float32: 'DT_FLOAT'}[type];
    const dims = c.as ?? c.shape ?? ('ints' in c ? [c.ints.length] : 'bools' in c ? [c.bools.length] : []);
    const values = c.bools ?? c.ints ?? ('number' in c ? [c.number] : 'real' in c ? [c.real] : Array.from({length: dims.reduce((a, d) => a * d, 1)}, () => (c.positive ? Math.abs(number()) + 0.5 : number())));
    node.push({name: `c${j}`, op: 'Const', attr: {dtype: {type: dtypeName}, value: {tensor: {dtype: dtypeName, tensorShape: {dim: dims.map((d) => ({size: String(d)}))}}}}});
    specs.push({name: `c${j}`, shape: dims, dtype: type});
    parts.push(Buffer.from({bool: Uint8Array, int32: Int32Array, float32: Float32Array}[type].from(values).buffer));
  });
  let input = ['x', ...consts.map((_, j) => `c${j}`)];
  if (order) input = order.map((j) => input[j]);
  node.push({name: 'y', op, input, attr});
  const refs = Array.from({length: outs}, (_, j) => (j ? `y:${j}` : 'y'));
  const modelTopology = {node, versions: {producer: 1}, library: {}};
  const data = Buffer.concat(parts);
  const fill = /^(Asin|Acos|Atanh)$/.test(op) ? fills.unit : fills[kind];
  try {
    const m = await tf.loadGraphModel(tf.io.fromMemory({modelTopology, weightSpecs: specs, weightData: data.buffer.slice(data.byteOffset, data.byteOffset + data.length)}));
    const count = shape.reduce((a, d) => a * d, 1);
    const values = Array.from({length: count}, (_, j) => fill(j));
    const x = shape.length ? tf.tensor(values, shape, dtype) : tf.scalar(values[0], dtype);
    const got = [].concat(await m.executeAsync({x}, refs));
    const round = (t) => ({shape: t.shape, dtype: t.dtype, data: Array.from(t.dataSync(), (v) => (Number.isFinite(+v) ? +(+v).toPrecision(9) : String(v)))});
    const outputs = got.map(round).map((t) => ({...t, dtype: STATED[op] ?? t.dtype}));
    out[name] = {modelTopology, weights: specs, data: data.toString('base64'), x: round(x), outputs, refs};
  } catch (e) {
    failed[op] = String(e.message).slice(0, 120);
  }
}
writeFileSync(process.argv[2], JSON.stringify(out));
console.log('TensorFlow.js cannot run:', failed);
