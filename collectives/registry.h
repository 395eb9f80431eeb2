// The process's communicators, one a mesh, made at their first use.
#pragma once
#include <memory>
#include <span>

#include "collectives/communicator.h"

namespace vt::collectives {

std::shared_ptr<Communicator> communicator(const fabric::Mesh& mesh);
// That of the mesh of the tensors' devices, in their order; without making a mesh if there is one.
// ValueError if a tensor is missing.
std::shared_ptr<Communicator> communicator_of(std::span<const Tensor> tensors);

}  // namespace vt::collectives
