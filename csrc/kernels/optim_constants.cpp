// The constants of an optimizer's step on the host.
#include "kernels/optim_constants.h"

namespace vt {

template <class C>
AdamWConstants<C>::AdamWConstants(const AdamWOptions& options) {
  set(options);
}

template <class C>
SgdConstants<C>::SgdConstants(const SgdOptions& options) {
  set(options);
}

template struct AdamWConstants<float>;
template struct AdamWConstants<double>;
template struct SgdConstants<float>;
template struct SgdConstants<double>;

}  // namespace vt
