// Forward products of linear layers in bf16 on compute capability 9.0, by kernels of our own: an element's bits depend
// on its row and its feature alone, whatever the number of rows (product_plan.h).
#pragma once

#include "cuda/gemm.h"
#include "cuda/product_plan.h"

namespace wideseek::cuda {

// Of a product whose shape products_take, by the tile that should be the fastest, or by `tile`. `scratch`: device
// memory of Gemm::kWorkspaceBytes. In a recording, weights are read before the kernels before have ended: no
// operation of a recording writes weights. Throws kInvalidArgument if an array is not aligned to 16 bytes.
void multiply_forward(Stream stream, const Product& product, void* scratch, const ProductTile* tile = nullptr);

// The same for many layers of one shape, each with rows of its own, if the driver takes kernels with so many
// parameters.
bool experts_fit_one_launch();
void multiply_experts_forward(Stream stream, const ExpertProducts& products, const ProductTile* tile = nullptr);

}  // namespace wideseek::cuda
