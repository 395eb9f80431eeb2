// The arithmetic of a generated number protocol as slots of a type.
#pragma once
#include <Python.h>

#include <vector>

namespace vt::py {

// Those that the generator filled; a slot left out is Python's default.
inline void add_arithmetic(std::vector<PyType_Slot>& slots, const PyNumberMethods& number) {
  const auto add = [&](int id, auto* function) {
    if (function) slots.push_back({id, reinterpret_cast<void*>(function)});
  };
  add(Py_nb_add, number.nb_add);
  add(Py_nb_subtract, number.nb_subtract);
  add(Py_nb_multiply, number.nb_multiply);
  add(Py_nb_true_divide, number.nb_true_divide);
  add(Py_nb_floor_divide, number.nb_floor_divide);
  add(Py_nb_remainder, number.nb_remainder);
  add(Py_nb_power, number.nb_power);
  add(Py_nb_matrix_multiply, number.nb_matrix_multiply);
  add(Py_nb_and, number.nb_and);
  add(Py_nb_or, number.nb_or);
  add(Py_nb_xor, number.nb_xor);
  add(Py_nb_negative, number.nb_negative);
  add(Py_nb_absolute, number.nb_absolute);
  add(Py_nb_invert, number.nb_invert);
  add(Py_nb_inplace_add, number.nb_inplace_add);
  add(Py_nb_inplace_subtract, number.nb_inplace_subtract);
  add(Py_nb_inplace_multiply, number.nb_inplace_multiply);
  add(Py_nb_inplace_true_divide, number.nb_inplace_true_divide);
  add(Py_nb_inplace_floor_divide, number.nb_inplace_floor_divide);
  add(Py_nb_inplace_remainder, number.nb_inplace_remainder);
  add(Py_nb_inplace_power, number.nb_inplace_power);
  add(Py_nb_inplace_and, number.nb_inplace_and);
  add(Py_nb_inplace_or, number.nb_inplace_or);
  add(Py_nb_inplace_xor, number.nb_inplace_xor);
}

}  // namespace vt::py
