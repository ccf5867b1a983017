// im2col and col2im.
#include "base/convert.h"
#include "ops/shape_util.h"
#include "ops/window.h"

namespace dk {
extern const OpList ops_image_col;

namespace {

// ---- im2col: channels last patches

namespace I = attr::im2col_;

Status im2col_window(const OpContext& c, Window* w) {
  const Tensor& x = *c.in(0);
  Span<const int64_t> kernel = c.attr_ints(I::kernel);
  if (kernel.len < 1 || kernel.len > 3)
    return c.fail(Code::unsupported, "kernel has %lld dims, expected 1 to 3", static_cast<long long>(kernel.len));
  if (x.rank != kernel.len + 2)
    return c.fail(Code::shape, "x has rank %d, expected %lld", x.rank, static_cast<long long>(kernel.len + 2));
  return window_of(c, {I::strides, I::dilations, I::pads}, static_cast<int>(kernel.len), x.dims + 1, kernel.ptr, w);
}

Status im2col_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  Window w;
  DK_TRY(im2col_window(c, &w));
  int64_t dims[kMaxRank] = {x.dims[0]};
  for (int i = 0; i < w.rank; ++i) dims[1 + i] = w.out[3 - w.rank + i];
  if (__builtin_mul_overflow(w.kernel_size(), x.dims[x.rank - 1], &dims[w.rank + 1]))
    return c.fail(Code::shape, "patches are too long");
  return c.set_out(0, x.dtype, x.rank, dims);
}

Status im2col_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Window w;
  DK_TRY(im2col_window(c, &w));
  if (c.out(0)->count() == 0) return Code::ok;
  const int64_t run = x.dims[x.rank - 1] * static_cast<int64_t>(dtype_size(x.dtype));
  const int64_t patch = w.kernel_size() * run;
  const int64_t pixels = w.out_size();
  c.parallel(x.dims[0] * pixels, copy_grain(patch), [&](int64_t b, int64_t e, int) {
    for (int64_t r = b; r < e; ++r) {
      const char* image = x.as<char>() + r / pixels * w.in_size() * run;
      const int64_t at[3] = {r % pixels / (w.out[1] * w.out[2]), r / w.out[2] % w.out[1], r % w.out[2]};
      char* d = c.out(0)->as<char>() + r * patch;
      for (int64_t i = 0; i < w.kernel[0]; ++i)
        for (int64_t j = 0; j < w.kernel[1]; ++j) {
          const int64_t z = at[0] * w.stride[0] - w.before[0] + i * w.dilation[0];
          const int64_t y = at[1] * w.stride[1] - w.before[1] + j * w.dilation[1];
          const bool inside = z >= 0 && z < w.in[0] && y >= 0 && y < w.in[1];
          for (int64_t k = 0; k < w.kernel[2]; ++k, d += run) {
            const int64_t q = at[2] * w.stride[2] - w.before[2] + k * w.dilation[2];
            if (inside && q >= 0 && q < w.in[2])
              memcpy(d, image + ((z * w.in[1] + y) * w.in[2] + q) * run, static_cast<size_t>(run));
            else
              memset(d, 0, static_cast<size_t>(run));
          }
        }
    }
  });
  return Code::ok;
}

// ---- col2im: channels first, overlapping blocks add up

namespace C2 = attr::col2im_;

Status col2im_window(const OpContext& c, Window* w, int64_t* block_size) {
  const Tensor& x = *c.in(0);
  int64_t image[3], block[3];
  int n = 0, m = 0;
  *block_size = 1;
  if (x.rank != 3) return c.fail(Code::shape, "x must be [N, C * block, L]; got rank %d", x.rank);
  DK_TRY(c.read_ints(1, image, 3, &n));
  DK_TRY(c.read_ints(2, block, 3, &m));
  if (n != m || n < 1) return c.fail(Code::shape, "image_shape has %d numbers, block_shape has %d", n, m);
  for (int i = 0; i < n; ++i)
    if (image[i] < 0) return c.fail(Code::shape, "image_shape is negative; got %lld", static_cast<long long>(image[i]));
  DK_TRY(window_of(c, {C2::strides, C2::dilations, C2::pads}, n, image, block, w));
  *block_size = w->kernel_size();
  if (x.dims[1] % *block_size != 0)
    return c.fail(Code::shape, "%lld rows of x do not divide by the block's %lld elements",
                  static_cast<long long>(x.dims[1]), static_cast<long long>(*block_size));
  if (w->out_size() != x.dims[2])
    return c.fail(Code::shape, "x has %lld blocks, the image has %lld", static_cast<long long>(x.dims[2]),
                  static_cast<long long>(w->out_size()));
  return Code::ok;
}

Status col2im_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (x.dtype == DType::b8) return c.fail(Code::unsupported, "no kernel for dtype bool");
  Window w;
  int64_t block;
  DK_TRY(col2im_window(c, &w, &block));
  int64_t dims[kMaxRank] = {x.dims[0], x.dims[1] / block};
  for (int i = 0; i < w.rank; ++i) dims[2 + i] = w.in[3 - w.rank + i];
  return c.set_out(0, x.dtype, 2 + w.rank, dims);
}

size_t image_bytes(const Window& w, DType t) {
  const size_t size = wide_of(t) == Wide::f32 ? 4 : 8;
  return (static_cast<size_t>(w.in_size() + w.out_size()) * size + 63) & ~size_t(63);
}

Status col2im_prepare(OpContext& c) {
  Window w;
  int64_t block;
  DK_TRY(col2im_window(c, &w, &block));
  return c.need_scratch(image_bytes(w, c.in(0)->dtype) * static_cast<size_t>(c.threads()));
}

inline float sum_of(float a, float b) { return a + b; }
inline double sum_of(double a, double b) { return a + b; }
inline uint64_t sum_of(uint64_t a, uint64_t b) { return a + b; }
inline int64_t sum_of(int64_t a, int64_t b) {  // wraps around
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

template <class W>
void add_blocks(const OpContext& c, const Window& w, int64_t block) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const size_t size = dtype_size(x.dtype);
  const int64_t blocks = w.out_size(), pixels = w.in_size();
  c.parallel(product(y, 0, 2), 1, [&](int64_t b, int64_t e, int lane) {
    W* sum =
        reinterpret_cast<W*>(static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * image_bytes(w, x.dtype));
    W* row = sum + pixels;
    for (int64_t r = b; r < e; ++r) {
      for (int64_t i = 0; i < pixels; ++i) sum[i] = 0;
      for (int64_t t = 0; t < block; ++t) {
        load_wide(x.dtype, x.as<char>() + static_cast<size_t>((r * block + t) * blocks) * size, blocks, row);
        const int64_t at[3] = {t / (w.kernel[1] * w.kernel[2]) * w.dilation[0] - w.before[0],
                               t / w.kernel[2] % w.kernel[1] * w.dilation[1] - w.before[1],
                               t % w.kernel[2] * w.dilation[2] - w.before[2]};
        for (int64_t i = 0; i < w.out[0]; ++i)
          for (int64_t j = 0; j < w.out[1]; ++j) {
            const int64_t z = i * w.stride[0] + at[0], p = j * w.stride[1] + at[1];
            if (z < 0 || z >= w.in[0] || p < 0 || p >= w.in[1]) continue;
            const W* from = row + (i * w.out[1] + j) * w.out[2];
            W* to = sum + (z * w.in[1] + p) * w.in[2];
            for (int64_t k = 0; k < w.out[2]; ++k) {
              const int64_t q = k * w.stride[2] + at[2];
              if (q >= 0 && q < w.in[2]) to[q] = sum_of(to[q], from[k]);
            }
          }
      }
      store_wide(x.dtype, sum, pixels, y.as<char>() + static_cast<size_t>(r * pixels) * size);
    }
  });
}

Status col2im_run(OpContext& c) {
  Window w;
  int64_t block;
  DK_TRY(col2im_window(c, &w, &block));
  if (c.out(0)->count() == 0) return Code::ok;
  switch (wide_of(c.in(0)->dtype)) {
    case Wide::f32: add_blocks<float>(c, w, block); break;
    case Wide::f64: add_blocks<double>(c, w, block); break;
    case Wide::s64: add_blocks<int64_t>(c, w, block); break;
    case Wide::u64: add_blocks<uint64_t>(c, w, block); break;
  }
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::im2col_, im2col_infer, nullptr, im2col_run},
    {Opcode::col2im_, col2im_infer, col2im_prepare, col2im_run},
};

}  // namespace

const OpList ops_image_col = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
