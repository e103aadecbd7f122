// The few calls of cuBLASLt that this project makes: one kind of product, 16-bit in, f32 out. The
// library is this same file under another name; it works where `FAKE_CUDA_BLAS` is set.
#include <cstdlib>
#include <cstring>

#include "fake.h"

#define API extern "C" __attribute__((visibility("default"))) Result

namespace {

enum : Result { OK = 0, BLAS_NOT_INITIALIZED = 1, BLAS_INVALID_VALUE = 7, BLAS_NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16F = 2, R_16BF = 14, COMPUTE_32F = 68, TRANSA = 3, MAX_WORKSPACE = 1 };

struct Shape {
  int type;
  uint64_t rows, cols;
  int64_t stride;
};

struct Product {
  int transposed = 0;
};

struct Limits {
  uint64_t workspace = 0;
};

struct Choice {
  uint64_t algo[8];
  size_t workspace;
  Result state;
  float waves;
  int reserved[4];
};

float wide(int type, uint16_t bits) {
  uint32_t out;
  if (type == R_16BF) {
    out = static_cast<uint32_t>(bits) << 16;
  } else {
    uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent == 0) {
      float value = static_cast<float>(fraction) / 16777216.0f;
      return sign != 0 ? -value : value;
    }
    exponent = exponent == 31 ? 255 : exponent + 112;
    out = sign | exponent << 23 | fraction << 13;
  }
  float value;
  memcpy(&value, &out, sizeof value);
  return value;
}

}  // namespace

API cublasLtCreate(void** handle) {
  if (getenv("FAKE_CUDA_BLAS") == nullptr) return BLAS_NOT_INITIALIZED;
  *handle = new char;
  return OK;
}

API cublasLtDestroy(void* handle) {
  delete static_cast<char*>(handle);
  return OK;
}

API cublasLtMatrixLayoutCreate(Shape** shape, int type, uint64_t rows, uint64_t cols,
                               int64_t stride) {
  *shape = new Shape{type, rows, cols, stride};
  return OK;
}

API cublasLtMatrixLayoutDestroy(Shape* shape) {
  delete shape;
  return OK;
}

API cublasLtMatmulDescCreate(Product** product, int compute, int scale) {
  if (compute != COMPUTE_32F || scale != R_32F) return BLAS_NOT_SUPPORTED;
  *product = new Product;
  return OK;
}

API cublasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value,
                                   size_t size) {
  if (attribute != TRANSA || size != 4) return BLAS_INVALID_VALUE;
  memcpy(&product->transposed, value, 4);
  return OK;
}

API cublasLtMatmulDescDestroy(Product* product) {
  delete product;
  return OK;
}

API cublasLtMatmulPreferenceCreate(Limits** limits) {
  *limits = new Limits;
  return OK;
}

API cublasLtMatmulPreferenceSetAttribute(Limits* limits, int attribute, const void* value,
                                         size_t size) {
  if (attribute != MAX_WORKSPACE || size != 8) return BLAS_INVALID_VALUE;
  memcpy(&limits->workspace, value, 8);
  return OK;
}

API cublasLtMatmulPreferenceDestroy(Limits* limits) {
  delete limits;
  return OK;
}

API cublasLtMatmulAlgoGetHeuristic(void*, Product* product, Shape* a, Shape* b, Shape* c, Shape* d,
                                   Limits*, int wanted, Choice* choices, int* found) {
  bool fits = product->transposed == 1 && a->rows == b->rows && d->rows == a->cols &&
              d->cols == b->cols && c == d && a->type == b->type && d->type == R_32F &&
              (a->type == R_16F || a->type == R_16BF) && wanted >= 1;
  *found = fits ? 1 : 0;
  if (fits) *choices = Choice{};
  return OK;
}

API cublasLtMatmul(void*, Product*, const float* alpha, const void* a, Shape* as, const void* b,
                   Shape* bs, const float* beta, const void* c, Shape*, void* d, Shape* ds,
                   const void*, void* workspace, size_t workspace_size, Stream* stream) {
  std::lock_guard<std::recursive_mutex> held(lock);
  if (sticky != SUCCESS) return sticky;
  uint64_t places[3] = {reinterpret_cast<uint64_t>(a), reinterpret_cast<uint64_t>(b),
                        reinterpret_cast<uint64_t>(d)};
  float kept = *beta;
  if (*alpha != 1 || (kept != 0 && kept != 1) || c != d ||
      !is_device(places[0], as->rows * as->cols * 2) ||
      !is_device(places[1], bs->rows * bs->cols * 2) ||
      !is_device(places[2], ds->rows * ds->cols * 4) ||
      !is_device(reinterpret_cast<uint64_t>(workspace), workspace_size)) {
    return BLAS_INVALID_VALUE;
  }
  Op op{};
  op.kind = Op::CALL;
  Shape left = *as, right = *bs;
  op.work = [=] {
    // What an algorithm leaves there is nobody's business.
    memset(workspace, 0x5A, workspace_size);
    auto weights = static_cast<const uint16_t*>(a);
    auto hidden = static_cast<const uint16_t*>(b);
    auto logits = static_cast<float*>(d);
    for (uint64_t row = 0; row < right.cols; row++) {
      for (uint64_t word = 0; word < left.cols; word++) {
        float sum = 0;
        for (uint64_t at = 0; at < left.rows; at++) {
          sum += wide(left.type, weights[word * left.rows + at]) *
                 wide(right.type, hidden[row * right.rows + at]);
        }
        float& logit = logits[row * left.cols + word];
        logit = kept == 0 ? sum : sum + logit;
      }
    }
  };
  return push(stream, std::move(op));
}
