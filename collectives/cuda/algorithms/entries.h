// The entries of the list of algorithms, each defined in a header of its algorithm.
#pragma once
#include "collectives/cuda/algorithms/copy_engine.h"
#include "collectives/cuda/algorithms/direct.h"
#include "collectives/cuda/algorithms/line.h"
#include "collectives/cuda/algorithms/one_shot.h"
#include "collectives/cuda/algorithms/packet.h"
#include "collectives/cuda/algorithms/packet_two.h"
#include "collectives/cuda/algorithms/parts.h"
#include "collectives/cuda/algorithms/push.h"
#include "collectives/cuda/algorithms/ring.h"
#include "collectives/cuda/algorithms/two_shot.h"
