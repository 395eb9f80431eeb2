// The entries of the list of algorithms, each defined in a header of its algorithm.
#pragma once
#include "collectives/cuda/algorithms/direct.h"
#include "collectives/cuda/algorithms/packet.h"
#include "collectives/cuda/algorithms/two_shot.h"
